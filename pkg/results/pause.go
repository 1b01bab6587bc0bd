package results

import (
	"context"
	"slices"
	"time"
)

// pausedKey is a hash: field is the queue, value the time since when, as
// RFC 3339. It does not expire.
const pausedKey = "lovage:paused"

// Pause tells all workers to take nothing more from a queue, until [Store.Resume].
// They look every second. What they have taken is finished.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Pause(ctx context.Context, queue string) error {
	at := time.Now().UTC().Format(time.RFC3339)
	return storeError("pause queue", s.client.HSetNX(ctx, pausedKey, queue, at).Err())
}

// Resume ends a pause. It is no error when there is none.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Resume(ctx context.Context, queue string) error {
	return storeError("resume queue", s.client.HDel(ctx, pausedKey, queue).Err())
}

// Paused returns the queues that are paused, sorted.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Paused(ctx context.Context) ([]string, error) {
	queues, err := s.client.HKeys(ctx, pausedKey).Result()
	if err != nil {
		return nil, storeError("read paused queues", err)
	}
	slices.Sort(queues)
	return queues, nil
}
