package results

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// cancelChannel carries the ids of running tasks that are to stop. Who hears of
// one looks at the leases it holds: a notice may be lost or late, the mark in
// the task record is not.
const cancelChannel = "lovage:cancel"

// CancelState is the answer to a cancellation.
type CancelState string

// The answers to a cancellation.
const (
	// CancelRevoked: nobody ran the task, and nobody will.
	CancelRevoked CancelState = "REVOKED"
	// CancelRequested: a worker runs it and is told to stop. What it has done
	// by then stands: the task may yet end in another state.
	CancelRequested CancelState = "RUNNING"
	// CancelEnded: it had ended before.
	CancelEnded CancelState = "ENDED"
)

// cancelChanged is the script's answer when the record is not the one that was seen.
const cancelChanged CancelState = "CHANGED"

// Cancel revokes a task that has not ended, and returns its record as it is
// then. The record lives as any result does, and what keeps the message from
// being run as long as the message can.
//
// Errors: [messages.ErrNotFound], [messages.ErrStoreUnavailable].
func (s *Store) Cancel(ctx context.Context, id string) (*messages.Result, CancelState, error) {
	for {
		r, state, err := s.tryCancel(ctx, id)
		if err != nil || state != cancelChanged {
			return r, state, err
		}
		if err := ctx.Err(); err != nil {
			return nil, "", storeError("cancel task", err)
		}
	}
}

func (s *Store) tryCancel(ctx context.Context, id string) (*messages.Result, CancelState, error) {
	seen, err := s.client.Get(ctx, messages.ResultKey(id)).Result()
	if errors.Is(err, redis.Nil) {
		return nil, "", fmt.Errorf("cancel task: %w: %w", messages.ErrNotFound, err)
	}
	if err != nil {
		return nil, "", storeError("cancel task", err)
	}
	r, err := decode([]byte(seen))
	if err != nil {
		return nil, "", fmt.Errorf("cancel task: %w", err)
	}
	if r.State.Final() {
		return r, CancelEnded, nil
	}
	revoked := revokedFrom(r)
	record, err := encode(revoked)
	if err != nil {
		return nil, "", fmt.Errorf("cancel task: %w", err)
	}
	answer, err := s.groups.do(ctx, call{script: s.scripts.cancel, id: id, record: revoked, args: []any{
		seen, record, s.ttl.Milliseconds(), s.pendingFor(r).Milliseconds(), r.Run, r.Retries, cancelChannel, id,
	}}, nil).text()
	if err != nil {
		return nil, "", storeError("cancel task", err)
	}
	state := CancelState(answer)
	if state == CancelRevoked {
		r = revoked
		s.file(ctx, r)
	}
	return r, state, nil
}

// revokedFrom is what becomes of a record.
func revokedFrom(r *messages.Result) *messages.Result {
	out := *r
	out.State, out.Value, out.Progress, out.NextAttempt = messages.Revoked, nil, nil, time.Time{}
	out.DateDone = time.Now().UTC()
	out.Error = messages.RevokedError("revoked")
	return &out
}
