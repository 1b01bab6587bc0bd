package e2e_test

import (
	"net/http"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/client"
)

// theWorker is the only one that is alive.
func (s *stack) theWorker() client.Worker {
	s.t.Helper()
	var list struct{ Workers []client.Worker }
	s.eventually(func() bool {
		return s.get("/v1/workers", &list) == http.StatusOK && len(list.Workers) == 1
	}, "one worker is alive")
	return list.Workers[0]
}

func TestAWorkerSaysWhatItRuns(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker("LOVAGE_CONCURRENCY=2")
	id := s.sleep(60, "")
	s.await(id, "PROGRESS")
	name := s.theWorker().Name
	var w client.Worker
	s.eventually(func() bool {
		return s.get("/v1/workers/"+name, &w) == http.StatusOK && len(w.Running) == 1
	}, "its next sign of life names the task")
	require.Equal(t, id, w.Running[0].TaskID)
	require.Equal(t, "sleep_task", w.Running[0].Name)
	require.Equal(t, 1, w.Running[0].Attempt)
	require.Positive(t, w.Running[0].Seconds)
	require.Equal(t, 1, w.Busy)
	require.Greater(t, w.Memory.RSS, int64(5<<20))
	require.Positive(t, w.Memory.Heap)
	require.Positive(t, w.Goroutines)

	shown := s.lovage("workers", "show", name)
	require.Zero(t, shown.code, shown.err)
	require.Contains(t, shown.out, id)
	require.Contains(t, shown.out, "1 of 2 slots")
	require.Regexp(t, `sleep_task \d`, s.lovage("workers").out)
}

func TestAWorkerIsGivenMoreAndFewerSlots(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker("LOVAGE_CONCURRENCY=1")
	name := s.theWorker().Name
	ids := []string{s.sleep(60, ""), s.sleep(60, ""), s.sleep(60, "")}
	s.await(ids[0], "PROGRESS")
	var told client.Steered
	s.told(&told, "workers", "slots", name, "3")
	require.Equal(t, 3, told.Slots)
	for _, id := range ids {
		s.await(id, "PROGRESS")
	}

	s.told(&told, "workers", "slots", name, "1")
	require.Equal(t, client.Steered{Worker: name, Status: "delivered", Slots: 1, Busy: 3}, told)
	waiting := s.sleep(1, "")
	ch := s.channel()
	ready := func() int {
		q, err := ch.QueueDeclarePassive("default", true, false, false, false, nil)
		require.NoError(t, err)
		return q.Messages
	}
	s.eventually(func() bool { return ready() == 1 }, "it stays in the queue, for others to take")
	for _, id := range ids[:2] {
		require.Equal(t, http.StatusAccepted, s.cancel(id))
		s.await(id, "REVOKED")
	}
	require.Equal(t, "PENDING", s.task(waiting).State, "one runs, as one may")
	require.Equal(t, http.StatusAccepted, s.cancel(ids[2]))
	s.await(waiting, "SUCCESS")

	s.told(&told, "workers", "slots", name, "0")
	waiting = s.sleep(1, "")
	s.eventually(func() bool { return ready() == 1 }, "nobody takes it")
	s.told(&told, "workers", "slots", name, "2")
	s.await(waiting, "SUCCESS")
	require.Equal(t, 4, s.lovage("workers", "slots", name, "10001").code)
	require.Equal(t, 4, s.lovage("workers", "slots", "nobody", "1").code)
}

func TestAWorkerIsStoppedOverTheAPI(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker("LOVAGE_CONCURRENCY=1")
	id, next := s.sleep(4, ""), s.sleep(1, "")
	s.await(id, "PROGRESS")
	name := s.theWorker().Name
	got := s.lovage("workers", "stop", name)
	require.Zero(t, got.code, got.err)
	require.Contains(t, got.out, "delivered")
	require.Equal(t, 0, w.exit(), "as at a signal")
	require.Equal(t, "SUCCESS", s.task(id).State, "what ran was finished")
	require.Equal(t, "PENDING", s.task(next).State)
	require.Equal(t, 4, s.lovage("workers", "stop", name).code, "it is gone")
}

func TestATaskTellsWhatItIsDoing(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	id, other := s.sleep(60, ""), s.sleep(1, "")
	s.await(id, "PROGRESS")
	got := s.lovage("workers", "dump", id)
	require.Zero(t, got.code, got.err)
	require.Contains(t, got.out, `"task_id":"`+id+`"`)
	require.Contains(t, got.out, "tasks.") // the package of the handler
	require.NotContains(t, got.out, other)

	s.await(other, "SUCCESS")
	require.Equal(t, 4, s.lovage("workers", "dump", other).code)
	got = s.lovage("workers", "dump", other, "--worker", s.theWorker().Name)
	require.Equal(t, 4, got.code)
	require.Contains(t, got.err, "no goroutine of this task is here")
}

// Whoever steers a worker is told within a bounded time when it is of no use, and
// the worker does not do it long after.
func TestAWorkerThatIsFrozenDoesNotDoLaterWhatItWasTold(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker("LOVAGE_CONCURRENCY=2")
	name := s.theWorker().Name
	w.signal(syscall.SIGSTOP)
	got := s.lovage("workers", "slots", name, "5")
	require.Equal(t, 4, got.code, "%+v", got)
	require.Contains(t, got.err, "taken back")
	w.signal(syscall.SIGCONT)
	var told client.Steered
	s.eventually(func() bool {
		status, _ := s.do(http.MethodPost, "/v1/workers/"+name+"/dump?task_id=none", nil, nil)
		return status == http.StatusConflict
	}, "it is there again")
	s.told(&told, "workers", "slots", name, "2")
	for _, line := range w.log() {
		if line["msg"] == "told by an operator" {
			require.NotEqualValues(t, 5, line["slots"], "%v", line)
		}
	}
}
