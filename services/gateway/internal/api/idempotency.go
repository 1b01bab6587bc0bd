package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	replayedHeader = "Idempotency-Replayed"
	// leaseMargin is how much longer a reservation is held than the publish
	// may take. It only spares messages: two who publish under one key publish
	// under one id.
	leaseMargin = time.Second
	// lastWord is what remains for Redis to hear of the outcome when all the
	// time of a submission is used up.
	lastWord = 50 * time.Millisecond
)

// Keys remembers what was submitted under an Idempotency-Key. Its errors wrap
// [messages.ErrStoreUnavailable] when the store does not answer.
type Keys interface {
	// Reserve makes sure that one task is published for the key: it answers
	// under which id, or what has become of it.
	Reserve(ctx context.Context, r Reservation, lease time.Duration) (Reserved, error)
	// Complete keeps the answer of a submission that was published.
	Complete(ctx context.Context, r Reservation, answer []byte) error
	// Release gives the key back; only after nothing was sent for certain.
	Release(ctx context.Context, r Reservation) error
}

// Reservation is one submission under a key.
type Reservation struct {
	Scope, Key  string // whose key, and the key
	Fingerprint string // of the payload
	ID          string // of the task
	Token       string // of this submission, and of no other
}

// KeyState says what has become of a key.
type KeyState string

// The answers to a reservation.
const (
	KeyReserved KeyState = "RESERVED" // ours, and new
	KeyTaken    KeyState = "TAKEN"    // ours, after somebody who may have published
	KeyBusy     KeyState = "BUSY"     // somebody else's
	KeyDone     KeyState = "DONE"     // published, with an answer
	KeyMismatch KeyState = "MISMATCH" // used with another payload
)

// Reserved is the answer to a reservation.
type Reserved struct {
	State      KeyState
	ID         string        // of the task, whoever publishes it
	RetryAfter time.Duration // of KeyBusy
	Answer     []byte        // of KeyDone
}

// held is a key that a request holds while it publishes.
type held struct {
	Reservation
	// until is when the client is to have its answer.
	until time.Time
	// sent is set when the task was published, or may have been.
	sent bool
}

// oncePerKey lets a submission with an Idempotency-Key publish one task however
// often it comes: the key is reserved for an id before anything is published,
// so a crash at any point leaves a reservation under whose id the next one
// publishes again. Without the header it is the submission as it was. The
// options are only looked at here; the submission says what is wrong with them.
func (a *API) oncePerKey(options func(c *call) submitOptions, submit handler) handler {
	return func(ctx context.Context, c *call) (*reply, error) {
		key, err := idempotencyKey(c.request.Header)
		if err != nil {
			return nil, err
		}
		if key == "" {
			return submit(ctx, c)
		}
		if c.body, err = readBody(c, a.opts.MaxBody); err != nil {
			return nil, err
		}
		o := options(c)
		h := &held{Reservation: newReservation(ctx, c, key, o), until: time.Now().Add(c.timeout)}
		reserved, err := a.reserve(ctx, h, c.timeout)
		switch {
		case err != nil:
			return nil, err
		case reserved.State == KeyDone:
			return a.replay(ctx, c, reserved, o)
		case reserved.State != KeyReserved && reserved.State != KeyTaken:
			return nil, keyProblem(reserved)
		}
		h.ID, c.held = reserved.ID, h
		r, err := submit(ctx, c)
		if err != nil && !h.sent {
			a.release(ctx, h)
		}
		return r, err
	}
}

func newReservation(ctx context.Context, c *call, key string, o submitOptions) Reservation {
	id := o.taskID
	if id == "" {
		id = messages.NewID()
	}
	return Reservation{Scope: whose(ctx), Key: key, Fingerprint: payloadHash(exchangeOf(ctx).route, c), ID: id, Token: messages.NewID()}
}

// whose says whose the key is: two who hit upon the same one do not meet.
func whose(ctx context.Context) string {
	if g := access.From(ctx); g != nil && g.Who != access.Anonymous {
		return g.Who
	}
	return ""
}

// queryOptions are the options of a call by name, as far as they can be read.
func (a *API) queryOptions(c *call) submitOptions {
	o := a.newOptions(submittedAt())
	_ = parseQuery(a.options, c.request.URL.RawQuery, &o)
	return o
}

// envelopeOptions are the options of an envelope, as far as they can be read.
func (a *API) envelopeOptions(c *call) submitOptions {
	e, _ := a.readEnvelope(json.RawMessage(c.body), submittedAt())
	return e.options
}

// reserve asks for the key within the time of the submission.
func (a *API) reserve(ctx context.Context, h *held, timeout time.Duration) (Reserved, error) {
	bounded, cancel := context.WithTimeout(ctx, min(a.opts.ReadTimeout, timeout))
	defer cancel()
	reserved, err := a.opts.Keys.Reserve(bounded, h.Reservation, timeout+leaseMargin)
	if err == nil {
		return reserved, nil
	}
	if ctx.Err() != nil { // the client is gone, which says nothing about Redis
		return Reserved{}, fmt.Errorf("%w: %w", messages.ErrNotSent, err)
	}
	if !errors.Is(err, messages.ErrStoreUnavailable) && bounded.Err() == nil {
		return Reserved{}, err
	}
	p := newProblem(slugNoKeyStore, "Redis does not answer, so nobody can tell whether this key was used before; nothing was sent")
	p.cause = err
	return Reserved{}, p
}

// keyProblem answers a submission that must not publish.
func keyProblem(r Reserved) error {
	switch r.State {
	case KeyMismatch:
		return newProblem(slugKeyReused, "this key was used with another body, query or task; take a new key for a new task")
	case KeyBusy:
		p := newProblem(slugKeyInFlight, "a submission with this key is under way; send it again after Retry-After to get its answer")
		p.TaskID, p.after = r.ID, max(time.Second, r.RetryAfter+time.Second-1)
		return p
	default: // nothing is known to be published, and nothing is published
		return fmt.Errorf("reserve key: unexpected state %q", r.State)
	}
}

// replay repeats the answer of a submission that was published, or answers with
// the outcome when the client prefers to wait for it.
func (a *API) replay(ctx context.Context, c *call, r Reserved, o submitOptions) (*reply, error) {
	exchangeOf(ctx).taskID = r.ID
	wait, err := preferredWait(c.request.Header, a.opts.MaxWait)
	if err != nil {
		return nil, err
	}
	out := &reply{status: http.StatusAccepted, header: map[string]string{"Location": location(r.ID)}, body: r.Answer}
	if wait > 0 && !o.ignoreResult {
		watch := a.watch(r.ID, wait)
		defer watch.stop()
		record, err := a.follow(ctx, watch, finished)
		if err == nil {
			if out, err = submitted(record, wait); err != nil {
				return nil, err
			}
		}
		out.header["Preference-Applied"] = applied(wait)
	}
	out.header[replayedHeader] = "true"
	return out, nil
}

// publishOnce publishes, and tells the store what has become of the key if the
// submission has one. An answer that the store does not hear of is no reason to
// refuse the client: the next one with the key publishes again under this id,
// and the task runs once.
func (a *API) publishOnce(ctx context.Context, h *held, s submission) error {
	if h == nil {
		return a.publish(ctx, s)
	}
	bounded, cancel := context.WithDeadline(ctx, h.until)
	defer cancel()
	err := a.publish(bounded, s)
	h.sent = !certainlyNotSent(err)
	if err != nil {
		return sameKeyAgain(err)
	}
	answer, err := encodeJSON(newTask(pendingRecord(s.task)))
	if err != nil {
		return err
	}
	telling, cancel := h.telling(ctx)
	defer cancel()
	if err := a.opts.Keys.Complete(telling, h.Reservation, answer); err != nil {
		a.opts.Log.Warn("idempotency key not settled", zap.String("task_id", h.ID), zap.Error(err))
	}
	return nil
}

// sameKeyAgain tells the way out of doubt: with another task_id the request
// would be another one.
func sameKeyAgain(err error) error {
	if p, ok := errors.AsType[*problem](err); ok && p.kind == slugUnconfirmed {
		p.Detail = "the task was sent but the broker has not confirmed it in time: it may or may not run; " +
			"send the same request with the same Idempotency-Key again, or GET the task"
	}
	return err
}

// release gives the key back. If that fails the lease runs out.
func (a *API) release(ctx context.Context, h *held) {
	telling, cancel := h.telling(ctx)
	defer cancel()
	if err := a.opts.Keys.Release(telling, h.Reservation); err != nil {
		a.opts.Log.Warn("idempotency key not settled", zap.String("task_id", h.ID), zap.Error(err))
	}
}

// telling outlives a client that is gone, and ends when the answer is due.
func (h *held) telling(ctx context.Context) (context.Context, context.CancelFunc) {
	due := h.until
	if now := time.Now(); due.Before(now) {
		due = now
	}
	return context.WithDeadline(context.WithoutCancel(ctx), due.Add(lastWord))
}

// certainlyNotSent reports whether the error of a publish excludes that the
// message is in a queue. In doubt it does not.
func certainlyNotSent(err error) bool {
	if errors.Is(err, messages.ErrUnconfirmed) {
		return false
	}
	for _, harmless := range []error{
		messages.ErrBrokerUnavailable, messages.ErrNotSent, messages.ErrQueueMissing,
		messages.ErrQueueUnavailable, messages.ErrQueueFull, messages.ErrRefused, messages.ErrOverloaded,
	} {
		if errors.Is(err, harmless) {
			return true
		}
	}
	p, ok := errors.AsType[*problem](err)
	return ok && (p.kind == slugParameters || p.kind == slugDraining)
}
