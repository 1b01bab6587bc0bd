package results

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const keyPrefix = "lovage:idem:"

// Reservation is one submission under an Idempotency-Key.
type Reservation struct {
	// Scope is whose key it is, without a "|"; keys of different scopes never
	// meet. Key is the key itself.
	Scope, Key string
	// Fingerprint tells payloads apart.
	Fingerprint string
	// ID is the task's, if nobody has reserved the key before.
	ID string
	// Token names this submission; nobody else uses it.
	Token string
}

// KeyState says what has become of a key.
type KeyState string

// The answers to a reservation.
const (
	// KeyReserved: the caller is the first, and publishes.
	KeyReserved KeyState = "RESERVED"
	// KeyTaken: an earlier holder's lease has run out, and it may have
	// published. The caller holds the key now, and publishes under the same id.
	KeyTaken KeyState = "TAKEN"
	// KeyBusy: somebody else holds the key.
	KeyBusy KeyState = "BUSY"
	// KeyDone: the task was published, and Answer was given.
	KeyDone KeyState = "DONE"
	// KeyMismatch: the key was used with another payload.
	KeyMismatch KeyState = "MISMATCH"
)

// Reserved is the answer to a reservation.
type Reserved struct {
	State KeyState
	// ID is the task of this key; empty for [KeyMismatch].
	ID string
	// RetryAfter is how long the lease of the present holder still runs.
	RetryAfter time.Duration
	// Answer is what [Store.CompleteKey] was given.
	Answer []byte
}

// ReserveKey reserves an Idempotency-Key for a lease, so that its task is
// published under one id whoever publishes it, and however often. To reserve
// again with the same token is harmless. A key is remembered for the TTL of
// the store from its first reservation on: a record of the task lives longer
// than that, so whoever takes over a lapsed reservation cannot make the task
// run twice.
//
// Errors: [messages.ErrStoreUnavailable]. The key may be reserved all the same
// then, and is free for a taking over after the lease.
func (s *Store) ReserveKey(ctx context.Context, r Reservation, lease time.Duration) (Reserved, error) {
	answer, err := s.scripts.reserveKey.Run(ctx, s.client, []string{r.name()},
		r.Fingerprint, r.ID, r.Token, lease.Milliseconds(), s.ttl.Milliseconds()).Slice()
	if err != nil {
		return Reserved{}, storeError("reserve key", err)
	}
	if len(answer) != 4 {
		return Reserved{}, fmt.Errorf("reserve key: script answered %d values", len(answer))
	}
	state, _ := answer[0].(string)
	id, _ := answer[1].(string)
	left, _ := answer[2].(int64)
	stored, _ := answer[3].(string)
	return Reserved{
		State: KeyState(state), ID: id,
		RetryAfter: time.Duration(left) * time.Millisecond, Answer: []byte(stored),
	}, nil
}

// CompleteKey keeps the answer of a submission that was published under r.ID,
// which must be the id that [Store.ReserveKey] answered. The first answer
// stays.
//
// Errors: [messages.ErrLost] when the key is not that task's (any more),
// [messages.ErrStoreUnavailable]. The next submission with the key publishes
// again under the same id then.
func (s *Store) CompleteKey(ctx context.Context, r Reservation, answer []byte) error {
	state, err := s.scripts.completeKey.Run(ctx, s.client, []string{r.name()}, r.Fingerprint, r.ID, answer).Text()
	if err != nil {
		return storeError("complete key", err)
	}
	if state == answerLost {
		return fmt.Errorf("complete key: %w", messages.ErrLost)
	}
	return nil
}

// ReleaseKey gives a key back, so that the next submission with it is not kept
// waiting. It is only for a holder that has certainly published nothing. Where
// an earlier holder may have published, the key keeps its id all the same. It
// is no error when the token holds nothing any more.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) ReleaseKey(ctx context.Context, r Reservation) error {
	return storeError("release key", s.scripts.releaseKey.Run(ctx, s.client, []string{r.name()}, r.Token).Err())
}

// name is the name in Redis. It is hashed so that a key of any length and any
// bytes becomes a short name that tells nothing to those who can list names;
// the braces are a cluster's.
func (r Reservation) name() string {
	sum := sha256.Sum256([]byte(r.Scope + "|" + r.Key))
	return keyPrefix + "{" + hex.EncodeToString(sum[:]) + "}"
}
