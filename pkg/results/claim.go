package results

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Held is a claim that is to be renewed.
type Held struct {
	Attempt messages.Attempt
	Token   string
}

// LeaseState is the answer to a renewal.
type LeaseState string

// The answers to a renewal.
const (
	// LeaseUnknown: Redis did not answer for this one.
	LeaseUnknown LeaseState = ""
	// LeaseHeld: the lease runs anew.
	LeaseHeld LeaseState = "HELD"
	// LeaseLost: somebody else claimed the attempt, or it was settled.
	LeaseLost LeaseState = "LOST"
	// LeaseCancelled: the task was cancelled; the lease runs anew, so that
	// REVOKED can be settled.
	LeaseCancelled LeaseState = "CANCELLED"
)

// Claim asks to run an attempt under a token that nobody else uses, and
// answers what to do with the delivery. With [messages.VerdictRun] and
// VerdictCancelled the token owns the attempt for the lease. To claim again with
// the same token is harmless. The task is kept for as long as something is due to
// happen to it, its eta and expires as r tells them; r may be nil. The result
// record stays as it is: whoever runs the task for long says so by
// [Store.Progress].
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Claim(ctx context.Context, a messages.Attempt, token string, r *messages.Result) (messages.Claim, error) {
	answer, err := s.run(ctx, s.scripts.claim, a.ID, a.Run, a.Number, token,
		s.lease.Milliseconds(), s.pendingFor(r).Milliseconds()).slice()
	if err != nil {
		return messages.Claim{}, storeError("claim task", err)
	}
	claim, err := readClaim(answer)
	if err != nil {
		return messages.Claim{}, fmt.Errorf("claim task: %w", err)
	}
	return claim, nil
}

// readClaim reads {verdict, starts, milliseconds busy, next, record}.
func readClaim(answer []any) (messages.Claim, error) {
	if len(answer) != 5 {
		return messages.Claim{}, fmt.Errorf("claim script answered %d values", len(answer))
	}
	verdict, _ := answer[0].(string)
	starts, _ := answer[1].(int64)
	busy, _ := answer[2].(int64)
	next, _ := answer[3].(string)
	claim := messages.Claim{
		Verdict: messages.Verdict(verdict),
		Starts:  int(starts),
		Busy:    time.Duration(busy) * time.Millisecond,
		Next:    messages.Next(next),
	}
	if record, _ := answer[4].(string); record != "" {
		// A record that cannot be read must not keep the successor from being
		// published: it only lacks its reason then.
		if r, err := messages.DecodeResult([]byte(record)); err == nil {
			claim.Result = r
		}
	}
	return claim, nil
}

// Begin counts a second or later start at the moment it truly begins, and
// renews the lease. The first start was counted by its claim; then, as when it
// is called again, only the lease is renewed.
//
// Errors: [messages.ErrLost], [messages.ErrStoreUnavailable].
func (s *Store) Begin(ctx context.Context, a messages.Attempt, token string) error {
	return s.run(ctx, s.scripts.begin, a.ID, a.Run, a.Number, token, s.lease.Milliseconds()).owned("begin task")
}

// Renew renews leases in one round trip and answers in the order of held. When
// the error is not nil, what Redis did not answer for is [LeaseUnknown].
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Renew(ctx context.Context, held []Held) ([]LeaseState, error) {
	if len(held) == 0 {
		return nil, nil
	}
	calls := make([]call, len(held))
	for i, h := range held {
		calls[i] = call{script: s.scripts.renew, id: h.Attempt.ID, args: []any{
			h.Attempt.Run, h.Attempt.Number, h.Token, s.lease.Milliseconds(), s.pendingTTL.Milliseconds(),
		}}
	}
	states := make([]LeaseState, len(held))
	var first error
	for i, a := range s.pipeline(ctx, calls, nil) {
		text, err := a.text()
		if err != nil {
			first = cmp.Or(first, err)
			continue
		}
		states[i] = LeaseState(text)
	}
	return states, storeError("renew leases", first)
}

// Release gives the lease back, and takes the start back if this token counted
// one, so that the next claim runs at once and the task is not blamed. It is
// no error when the token holds nothing any more.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Release(ctx context.Context, a messages.Attempt, token string) error {
	return storeError("release task", s.run(ctx, s.scripts.release, a.ID, a.Run, a.Number, token).err)
}
