package results

import (
	"context"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// pausedKey is a hash of the queues that are not running: field is the queue,
// value its state and since when, such as "draining 2026-01-31T12:00:00Z". It
// does not expire.
const pausedKey = "lovage:paused"

// SetQueueState tells all workers and gateways what is to be done with a queue,
// until the next call. They look every second. A queue has one state: to drain
// one that is paused ends the pause.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) SetQueueState(ctx context.Context, queue string, state messages.QueueState) error {
	if state == messages.QueueRunning {
		return storeError("set queue state", s.client.HDel(ctx, pausedKey, queue).Err())
	}
	value := string(state) + " " + time.Now().UTC().Format(time.RFC3339)
	return storeError("set queue state", s.client.HSet(ctx, pausedKey, queue, value).Err())
}

// QueueStates returns the states of all queues that are not running. One that
// cannot be read counts as paused.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) QueueStates(ctx context.Context) (map[string]messages.QueueState, error) {
	values, err := s.client.HGetAll(ctx, pausedKey).Result()
	if err != nil {
		return nil, storeError("read queue states", err)
	}
	states := make(map[string]messages.QueueState, len(values))
	for queue, value := range values {
		states[queue] = messages.QueuePaused
		if state, _, _ := strings.Cut(value, " "); state == string(messages.QueueDraining) {
			states[queue] = messages.QueueDraining
		}
	}
	return states, nil
}
