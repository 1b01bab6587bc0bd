package e2e_test

import (
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a worker cannot run now stays in the queue, for others to take, and what
// is not due does not count.
func TestAWorkerTakesNoMoreThanItHasSlots(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker("LOVAGE_CONCURRENCY=2")
	for range 10 {
		s.sleep(1, "?countdown=600")
	}
	running := []string{s.sleep(60, ""), s.sleep(60, "")}
	for _, id := range running {
		s.await(id, "PROGRESS")
	}
	for range 5 {
		s.sleep(60, "")
	}
	ch := s.channel()
	ready := func() int {
		q, err := ch.QueueDeclarePassive("default", true, false, false, false, nil)
		require.NoError(t, err)
		return q.Messages
	}
	s.eventually(func() bool { return ready() == 5 }, "they wait in the queue")
	require.Never(t, func() bool { return ready() != 5 }, time.Second, 100*time.Millisecond)
}

func TestAWorkerGoesOnAfterManyCancellations(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker("LOVAGE_CONCURRENCY=2")
	ids := []string{}
	for range 20 {
		ids = append(ids, s.sleep(60, ""))
	}
	s.await(ids[0], "PROGRESS")
	s.await(ids[1], "PROGRESS")
	kept := s.sleep(1, "")
	for _, id := range ids {
		require.Contains(t, []int{http.StatusOK, http.StatusAccepted}, s.cancel(id))
	}
	s.await(kept, "SUCCESS")
	for _, id := range ids {
		s.await(id, "REVOKED")
	}
}

// A worker that has been told to stop still hears what is cancelled.
func TestATaskIsCancelledWhileItsWorkerStops(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker("LOVAGE_DRAIN=5m", "LOVAGE_LEASE=5m")
	id := s.sleep(120, "")
	s.await(id, "PROGRESS")
	w.signal(syscall.SIGTERM)
	w.await("worker stops, running tasks may end")
	require.Equal(t, http.StatusAccepted, s.cancel(id))
	s.await(id, "REVOKED")
	require.Equal(t, 0, w.exit())
}
