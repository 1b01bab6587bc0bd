package results

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// callbacksKey is a sorted set: member is the id of a task, score when its
	// callback is to be looked at next, in milliseconds. The braces put all keys
	// of callbacks into one slot of a cluster.
	callbacksKey = "lovage:{callbacks}:due"
	// callbackKey, with the id, is the record of a callback.
	callbackKey = "lovage:{callbacks}:of:"
)

// Callback is a call that somebody is promised for when a task has ended. What
// has become of it only its record says, which is opaque here.
type Callback struct {
	ID     string // of the task
	Record []byte
}

// AddCallback keeps a callback for some time, to be looked at when it is due.
// One that the task has already stays as it is, and the answer is false.
//
// Errors: [messages.ErrStoreUnavailable]; it may be kept all the same then.
func (s *Store) AddCallback(ctx context.Context, c Callback, due time.Time, keep time.Duration) (added bool, err error) {
	pipe := s.client.TxPipeline()
	set := pipe.SetNX(ctx, callbackKey+c.ID, c.Record, keep)
	pipe.ZAddNX(ctx, callbacksKey, redis.Z{Score: float64(due.UnixMilli()), Member: c.ID})
	if _, err := pipe.Exec(ctx); err != nil {
		return false, storeError("add callback", err)
	}
	return set.Val(), nil
}

// TakeCallbacks returns up to n callbacks that are due. Nobody else is given
// them before the lease is over, or before they are saved.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) TakeCallbacks(ctx context.Context, n int, lease time.Duration) ([]Callback, error) {
	answer, err := s.scripts.takeCallbacks.Run(ctx, s.client, []string{callbacksKey}, n, lease.Milliseconds(), callbackKey).StringSlice()
	if err != nil {
		return nil, storeError("take callbacks", err)
	}
	taken := make([]Callback, 0, len(answer)/2)
	for i := 0; i+1 < len(answer); i += 2 {
		taken = append(taken, Callback{ID: answer[i], Record: []byte(answer[i+1])})
	}
	return taken, nil
}

// SaveCallback writes the record of a callback, for some time, and when it is due
// again: never if due is zero.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) SaveCallback(ctx context.Context, c Callback, due time.Time, keep time.Duration) error {
	pipe := s.client.TxPipeline()
	pipe.SetXX(ctx, callbackKey+c.ID, c.Record, keep)
	if due.IsZero() {
		pipe.ZRem(ctx, callbacksKey, c.ID)
	} else {
		pipe.ZAddXX(ctx, callbacksKey, redis.Z{Score: float64(due.UnixMilli()), Member: c.ID})
	}
	_, err := pipe.Exec(ctx)
	if errors.Is(err, redis.Nil) { // it was removed meanwhile
		err = nil
	}
	return storeError("save callback", err)
}

// PostponeCallback leaves a callback as it is until it is due again, and keeps it
// for some time.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) PostponeCallback(ctx context.Context, id string, due time.Time, keep time.Duration) error {
	pipe := s.client.TxPipeline()
	pipe.PExpire(ctx, callbackKey+id, keep)
	pipe.ZAddXX(ctx, callbacksKey, redis.Z{Score: float64(due.UnixMilli()), Member: id})
	_, err := pipe.Exec(ctx)
	return storeError("postpone callback", err)
}

// HastenCallbacks makes callbacks due now.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) HastenCallbacks(ctx context.Context, ids ...string) error {
	entries := make([]redis.Z, len(ids))
	for i, id := range ids {
		entries[i] = redis.Z{Score: 0, Member: id}
	}
	return storeError("hasten callbacks", s.client.ZAddXX(ctx, callbacksKey, entries...).Err())
}

// RemoveCallback forgets a callback.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) RemoveCallback(ctx context.Context, id string) error {
	pipe := s.client.TxPipeline()
	pipe.Del(ctx, callbackKey+id)
	pipe.ZRem(ctx, callbacksKey, id)
	_, err := pipe.Exec(ctx)
	return storeError("remove callback", err)
}

// Callback returns the record of the callback of a task.
//
// Errors: [messages.ErrNotFound], [messages.ErrStoreUnavailable].
func (s *Store) Callback(ctx context.Context, id string) ([]byte, error) {
	record, err := s.client.Get(ctx, callbackKey+id).Bytes()
	if errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("get callback: %w", messages.ErrNotFound)
	}
	return record, storeError("get callback", err)
}
