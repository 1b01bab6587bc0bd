package results

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Settlement is the outcome of one attempt.
type Settlement struct {
	Attempt messages.Attempt
	// Token is the one that claimed the attempt.
	Token string
	// Result is the outcome, never nil: its state is RETRY or a final one.
	Result *messages.Result
	// IgnoreResult keeps the outcome out of the result record and off its
	// channel. The task record remains, so the task does not run again.
	IgnoreResult bool
	// Retention is how long a final state is kept; the store's TTL when zero.
	// The task record, which keeps the task from running again, stays for that
	// TTL at least.
	Retention time.Duration
	// Next is the successor that has to be published because of this outcome.
	Next messages.Next
}

// Progress replaces the result record, by STARTED or PROGRESS, and publishes it
// while the token holds the attempt.
//
// Errors: [messages.ErrLost] (also after a final state),
// [messages.ErrStoreUnavailable].
func (s *Store) Progress(ctx context.Context, a messages.Attempt, token string, r *messages.Result) error {
	if r == nil {
		return errors.New("store progress: no record")
	}
	record, err := encode(r)
	if err != nil {
		return fmt.Errorf("store progress: %w", err)
	}
	progress := call{script: s.scripts.progress, id: a.ID, record: r, args: []any{
		a.Run, a.Number, token, record, s.pendingFor(r).Milliseconds(),
	}}
	return s.groups.do(ctx, progress, new(entryOf(r))).owned("store progress")
}

// Settle stores an outcome, publishes it and notes the successor, all in one
// step. The index is written in the same round trip.
//
// A final outcome that is to be ignored removes a result record that stands
// there: whatever it says (a submission that was recorded all the same, an
// earlier run before a redrive) is not true any more. If a successor is due,
// the outcome is kept inside the task record until [Store.Done], so that after
// a crash the next claim can still tell its reason and time.
//
// Errors: [messages.ErrLost] when the token does not hold this attempt or it
// is final, and nothing was written; [messages.ErrStoreUnavailable].
func (s *Store) Settle(ctx context.Context, o Settlement) error {
	settle, err := s.settleCall(o)
	if err != nil {
		return fmt.Errorf("settle task: %w", err)
	}
	var e *entry
	if !o.IgnoreResult {
		e = new(entryOf(o.Result))
	}
	if err := s.groups.do(ctx, settle, e).owned("settle task"); err != nil {
		return err
	}
	if o.Result.State.Final() && !o.IgnoreResult {
		s.trim(ctx, 1)
	}
	return nil
}

func (s *Store) settleCall(o Settlement) (call, error) {
	if o.Result == nil {
		return call{}, errors.New("no result")
	}
	final := o.Result.State.Final()
	if !final && o.Result.State != messages.Retry {
		return call{}, fmt.Errorf("state %q is not an outcome", o.Result.State)
	}
	record, err := encode(o.Result)
	if err != nil {
		return call{}, err
	}
	ttl, state := cmp.Or(o.Retention, s.ttl), string(o.Result.State)
	guard := max(ttl, s.ttl)
	if !final {
		ttl, state = s.pendingFor(o.Result), ""
		guard = ttl
	}
	c := call{script: s.scripts.settle, id: o.Attempt.ID, args: []any{
		o.Attempt.Run, o.Attempt.Number, o.Token, state, record, flag(o.IgnoreResult),
		string(o.Next), ttl.Milliseconds(), guard.Milliseconds(),
	}}
	if !o.IgnoreResult {
		c.record = o.Result
	}
	return c, nil
}

// Done says that the successor of this attempt is confirmed by the broker. It
// does nothing if the attempt has left none, or if a later one has been
// claimed since.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Done(ctx context.Context, a messages.Attempt) error {
	return storeError("clear successor", s.run(ctx, s.scripts.done, a.ID, a.Run, a.Number).err)
}

// created is when the task was created, or the earliest time known.
func created(r *messages.Result) time.Time {
	for _, at := range []time.Time{r.DateCreated, r.DateStarted, r.DateDone} {
		if !at.IsZero() {
			return at
		}
	}
	return time.Now()
}

func flag(set bool) string {
	if set {
		return "1"
	}
	return ""
}

// encode writes a record.
func encode(r *messages.Result) ([]byte, error) {
	record, err := messages.EncodeResult(r)
	if err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	return record, nil
}
