package e2e_test

import (
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// cancel asks for the cancellation of a task.
func (s *stack) cancel(id string) int {
	s.t.Helper()
	status, _ := s.do(http.MethodPost, "/v1/tasks/"+id+"/cancel", nil, nil)
	return status
}

func TestCancelledTasksDoNotRun(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker()
	delayed := s.sleep(1, "?countdown=2")
	require.Equal(t, http.StatusOK, s.cancel(delayed))
	require.Equal(t, "REVOKED", s.task(delayed).State)

	w.signal(syscall.SIGTERM)
	require.Equal(t, 0, w.exit())
	queued := s.sleep(1, "")
	kept := s.sleep(1, "")
	require.Equal(t, http.StatusOK, s.cancel(queued))

	s.start("worker").await("consumer connected")
	require.Equal(t, "SUCCESS", s.await(kept, "SUCCESS").State)
	ch := s.channel()
	s.eventually(func() bool {
		q, err := ch.QueueDeclarePassive("default", true, false, false, false, nil)
		require.NoError(t, err)
		return q.Messages == 0
	}, "the messages of both are gone")
	for _, id := range []string{delayed, queued} {
		v := s.task(id)
		require.Equal(t, "REVOKED", v.State)
		require.Empty(t, v.Worker, "nobody has started it")
	}
	require.Equal(t, http.StatusConflict, s.cancel(kept))
}

// The handler hears of it long before its lease is renewed.
func TestARunningTaskIsCancelledWithinASecond(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker("LOVAGE_LEASE=1m")
	id := s.sleep(60, "")
	s.await(id, "PROGRESS")
	begun := time.Now()
	require.Equal(t, http.StatusAccepted, s.cancel(id))
	s.await(id, "REVOKED")
	require.Less(t, time.Since(begun), 5*time.Second, "its lease would be renewed after 20 s")
}

func TestAPausedQueueWaitsForItsEnd(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker()
	status, _ := s.do(http.MethodPost, "/v1/queues/default/pause", nil, nil)
	require.Equal(t, http.StatusOK, status)
	w.await("paused queues changed")
	ch := s.channel()
	s.eventually(func() bool {
		q, err := ch.QueueDeclarePassive("default", true, false, false, false, nil)
		return err == nil && q.Consumers == 0
	}, "nobody takes anything")
	id := s.sleep(1, "")
	// A worker that starts meanwhile hears of it as well.
	w.signal(syscall.SIGTERM)
	require.Equal(t, 0, w.exit())
	s.start("worker").await("paused queues changed")
	require.Equal(t, "PENDING", s.task(id).State)
	status, _ = s.do(http.MethodPost, "/v1/queues/default/resume", nil, nil)
	require.Equal(t, http.StatusOK, status)
	s.await(id, "SUCCESS")
}
