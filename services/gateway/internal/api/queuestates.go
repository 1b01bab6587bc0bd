package api

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Queues keeps what is done with queues. Errors are
// [messages.ErrStoreUnavailable].
type Queues interface {
	SetQueueState(ctx context.Context, queue string, state messages.QueueState) error
	// QueueStates returns those of the queues that are not running.
	QueueStates(ctx context.Context) (map[string]messages.QueueState, error)
}

// Depths tells how many tasks wait in a queue, without asking the broker.
type Depths interface {
	// Watch names the queues that are looked at in any case, in place of those
	// that were named before.
	Watch(queues ...string)
	// Ready returns how many tasks wait, and for how long there have been none.
	// It is not known of queues that are not looked at.
	Ready(queue string) (n int, empty time.Duration, known bool)
}

// queueStates is a copy of the states of the queues. Submissions read it without
// waiting; while the store is away, what it said last holds.
type queueStates struct {
	opts Options

	mu     sync.RWMutex
	states map[string]messages.QueueState // written whole
	// round tells a look that the states have been set since it began.
	round int
}

// run looks every second until ctx ends.
func (q *queueStates) run(ctx context.Context) error {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		q.refresh(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// refresh keeps the states as they are when the store does not answer.
func (q *queueStates) refresh(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, refreshEvery)
	defer cancel()
	q.mu.RLock()
	round := q.round
	q.mu.RUnlock()
	states, err := q.opts.Queues.QueueStates(ctx)
	if err != nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.round == round && !maps.Equal(q.states, states) {
		q.put(states)
	}
}

// set is for all gateways and workers, and holds here at once.
func (q *queueStates) set(ctx context.Context, queue string, state messages.QueueState) error {
	if err := q.opts.Queues.SetQueueState(ctx, queue, state); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	states := map[string]messages.QueueState{}
	maps.Copy(states, q.states)
	if states[queue] = state; state == messages.QueueRunning {
		delete(states, queue)
	}
	q.round++
	q.put(states)
	return nil
}

// put needs the lock.
func (q *queueStates) put(states map[string]messages.QueueState) {
	q.states = states
	var draining []string
	for queue, state := range states {
		if state == messages.QueueDraining {
			draining = append(draining, queue)
		}
	}
	slices.Sort(draining)
	q.opts.Depths.Watch(draining...)
	q.opts.Log.Info("states of queues changed", zap.Any("states", states))
}

// of returns the state of a queue.
func (q *queueStates) of(queue string) messages.QueueState {
	q.mu.RLock()
	defer q.mu.RUnlock()
	if state, found := q.states[queue]; found {
		return state
	}
	return messages.QueueRunning
}

// all returns the states of the queues that are not running, not to be changed.
func (q *queueStates) all() map[string]messages.QueueState {
	q.mu.RLock()
	defer q.mu.RUnlock()
	return q.states
}

// takes refuses a task for a queue that is being drained.
func (q *queueStates) takes(queue string) error {
	if q.of(queue) != messages.QueueDraining {
		return nil
	}
	return newProblem(slugDraining, fmt.Sprintf("queue %q is being drained: it finishes what it has and takes nothing new; nothing was sent: "+
		"name another queue, or send it again when somebody has ended that (POST /v1/queues/%s/resume)", queue, queue))
}

// changedQueue is the answer to a change of state.
type changedQueue struct {
	Name   string              `json:"name"`
	State  messages.QueueState `json:"state" enum:"running,paused,draining"`
	Paused bool                `json:"paused"`
}

// steer returns the handler of POST /v1/queues/{queue}/pause, /drain or /resume.
func (a *API) steer(state messages.QueueState) handler {
	return func(ctx context.Context, c *call) (*reply, error) {
		if err := c.noQuery(); err != nil {
			return nil, err
		}
		if err := checkQueue(c.queue); err != nil {
			return nil, err
		}
		if a.foreign[c.queue] || a.catalog.foreignQueue(c.queue) {
			return nil, newProblem(slugForeign, "Celery serves this queue, and its clients need not ask the gateway: use celery control cancel_consumer")
		}
		_, err := stored(ctx, a, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, a.states.set(ctx, c.queue, state)
		})
		if err != nil {
			return nil, err
		}
		return jsonReply(http.StatusOK, changedQueue{Name: c.queue, State: state, Paused: state == messages.QueuePaused})
	}
}
