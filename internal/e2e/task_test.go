package e2e_test

import (
	"encoding/json"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestATaskRunsFromHTTPToItsResult(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	id := s.sleep(2, "")
	s.eventually(func() bool {
		v := s.task(id)
		return v.State == "PROGRESS" && v.Progress.Total == 2 && v.Progress.Percent == 50
	}, "progress is shown")
	v := s.await(id, "SUCCESS")
	require.Equal(t, "sleep_task", v.Name)
	require.Equal(t, "default", v.Queue)
	require.Equal(t, 0, v.Retries)
	require.Contains(t, string(v.Result), "2")
}

func TestWaitingForAResultAnswersWhenItIsThere(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	status, body := s.do(http.MethodPost, "/v1/tasks/sleep_task", map[string]any{"duration": 1}, http.Header{"Prefer": {"wait=30"}})
	require.Equal(t, http.StatusOK, status, "%s", body)
	var v view
	require.NoError(t, json.Unmarshal(body, &v))
	require.Equal(t, "SUCCESS", v.State)
}

// The heart of it: a worker that dies takes nothing with it. The task is taken
// over when the dead worker's lease has run out, and its attempt is the same.
func TestATaskOfAKilledWorkerIsFinishedByAnother(t *testing.T) {
	t.Parallel()
	const lease = 3 * time.Second
	s := newStack(t)
	first := s.worker("LOVAGE_LEASE=" + lease.String())
	id := s.sleep(2, "")
	before := s.await(id, "PROGRESS")
	s.start("worker", "LOVAGE_LEASE="+lease.String()).await("consumer connected")
	first.signal(syscall.SIGKILL)
	killed := time.Now()
	var taken view
	s.eventually(func() bool {
		taken = s.task(id)
		return taken.Worker != before.Worker
	}, "another worker takes over")
	require.Contains(t, []string{"STARTED", "PROGRESS"}, taken.State)
	require.Equal(t, 0, taken.Retries)
	after := s.await(id, "SUCCESS")
	require.Less(t, time.Since(killed), lease+5*time.Second)
	require.Equal(t, 0, after.Retries)
	require.NotEqual(t, before.Worker, after.Worker)
}

func TestAWorkerThatIsToldToStopFinishesWhatItHas(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker()
	id := s.sleep(3, "")
	s.await(id, "PROGRESS")
	w.signal(syscall.SIGTERM)
	require.Equal(t, 0, w.exit())
	require.Equal(t, "SUCCESS", s.task(id).State)
}

func TestATaskInterruptedByADeployKeepsItsCount(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker("LOVAGE_DRAIN=500ms")
	id := s.sleep(3, "")
	before := s.await(id, "PROGRESS")
	w.signal(syscall.SIGTERM)
	require.Equal(t, 0, w.exit())
	require.NotContains(t, []string{"SUCCESS", "FAILURE", "RETRY", "REVOKED"}, s.task(id).State)
	s.worker()
	after := s.await(id, "SUCCESS")
	require.Equal(t, 0, after.Retries)
	require.NotEqual(t, before.Worker, after.Worker)
}

func TestADelayedTaskWaitsInTheBroker(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker()
	id := s.sleep(1, "?countdown=1.5")
	require.Equal(t, "PENDING", s.task(id).State)
	// Nobody holds it: the worker can go and another come.
	w.signal(syscall.SIGKILL)
	s.worker()
	s.await(id, "SUCCESS")
}
