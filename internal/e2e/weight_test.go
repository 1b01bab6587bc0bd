package e2e_test

import (
	"context"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/worker"
)

// counter is a task that counts itself, by the name of its queue.
type counter struct {
	mu    sync.Mutex
	order []string
}

func (c *counter) task(queue string) func(context.Context, struct{}) (struct{}, error) {
	return func(context.Context, struct{}) (struct{}, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.order = append(c.order, queue)
		return struct{}{}, nil
	}
}

func (c *counter) ran() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.order...)
}

// inProcess runs a worker in the process of the test and waits until its tasks are
// known. stop ends it, as the end of the test does.
func (s *stack) inProcess(w *worker.Worker) (stop func()) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = w.Run(ctx) })
	stop = func() {
		cancel()
		running.Wait()
	}
	s.t.Cleanup(stop)
	s.eventually(func() bool {
		var list struct{ Tasks []struct{ Name string } }
		return s.get("/v1/catalog", &list) == http.StatusOK && len(list.Tasks) == len(w.Tasks())
	}, "all tasks are known")
	return stop
}

// steer pauses or resumes a queue.
func (s *stack) steer(queue, verb string) {
	s.t.Helper()
	status, body := s.do(http.MethodPost, "/v1/queues/"+queue+"/"+verb, nil, nil)
	require.Equal(s.t, http.StatusOK, status, string(body))
}

// fill submits tasks without input, which are named like their queue.
func (s *stack) fill(queue string, n int) {
	s.t.Helper()
	for range n {
		// A queue that was declared a moment ago may refuse for a while.
		s.eventually(func() bool {
			status, body := s.do(http.MethodPost, "/v1/tasks/"+queue, map[string]any{}, nil)
			require.Contains(s.t, []int{http.StatusAccepted, http.StatusServiceUnavailable}, status, string(body))
			return status == http.StatusAccepted
		}, "queue %s takes a task", queue)
	}
}

// Two full queues share the slots by their weights, and neither starves; the
// one that is left has all of them.
func TestQueuesShareSlotsByTheirWeights(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	var c counter
	w := worker.New(worker.Options{
		AMQPURL: s.amqp, RedisURL: s.redis, Concurrency: 2, Weights: map[string]int{"urgent": 3},
	})
	worker.Handle(w, "urgent", c.task("urgent"), worker.WithQueue("urgent"))
	worker.Handle(w, "patient", c.task("patient"), worker.WithQueue("patient"))
	for _, q := range []string{"urgent", "patient"} {
		s.steer(q, "pause")
	}
	s.inProcess(w)
	const each = 120
	for _, q := range []string{"urgent", "patient"} {
		s.fill(q, each)
	}
	for _, q := range []string{"patient", "urgent"} { // both at about the same time
		s.steer(q, "resume")
	}
	s.eventually(func() bool { return len(c.ran()) == 2*each }, "all have run")
	// Where both have work: what the patient queue got first, if it was resumed
	// a moment earlier, is no part of it.
	first := 0
	order := c.ran()
	for order[first] == "patient" {
		first++
	}
	urgent := 0
	const looked = 80
	for _, q := range order[first : first+looked] {
		if q == "urgent" {
			urgent++
		}
	}
	require.InDelta(t, looked*3/4, urgent, looked/8, "%v", order)
}
