package access

import (
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// auditKey is a stream of what was steered, the newest last.
	auditKey = "lovage:audit"
	// kept is how many entries there are about.
	kept = 10_000
	// waiting is how many entries wait for Redis, retryAfter how long one does
	// before it is tried again.
	waiting    = 1000
	retryAfter = time.Second
)

// Entry is one steering act.
type Entry struct {
	// ID orders the entries. It is empty before one is written.
	ID string `json:"id"`
	// At is when the act was answered, Who and KeyID who it was.
	At    time.Time `json:"at"`
	Who   string    `json:"who"`
	KeyID string    `json:"key_id,omitempty"`
	// Action is what was asked for, by its name in the API, and Target on what.
	Action string `json:"action"`
	Target string `json:"target"`
	// Outcome is "ok", or the slug of a problem.
	Outcome   string `json:"outcome"`
	Status    int    `json:"status"`
	RequestID string `json:"request_id,omitempty"`
	// Address is where the request came from, as far as the gateway could see.
	Address string `json:"address,omitempty"`
}

// Audit keeps the newest 10,000 steering acts in Redis. Use [NewAudit].
type Audit struct {
	client  redis.UniversalClient
	entries chan Entry
	dropped atomic.Int64
}

// NewAudit returns an audit that writes when [Audit.Run] does.
func NewAudit(client redis.UniversalClient) *Audit {
	return &Audit{client: client, entries: make(chan Entry, waiting)}
}

// Record takes an entry and never blocks. When 1000 wait for Redis, it is
// dropped and counted.
func (a *Audit) Record(e Entry) {
	select {
	case a.entries <- e:
	default:
		a.dropped.Add(1)
	}
}

// Dropped returns how many entries were not written.
func (a *Audit) Dropped() int64 { return a.dropped.Load() }

// Run writes until ctx ends, and then what waits, once. It returns nil.
func (a *Audit) Run(ctx context.Context) error {
	for {
		select {
		case e := <-a.entries:
			a.keep(ctx, e)
		case <-ctx.Done():
			a.flush(context.WithoutCancel(ctx))
			return nil
		}
	}
}

// keep writes an entry, however long Redis is away.
func (a *Audit) keep(ctx context.Context, e Entry) {
	for a.write(context.WithoutCancel(ctx), e) != nil {
		pause := time.NewTimer(retryAfter)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			a.flushed(context.WithoutCancel(ctx), e)
			return
		}
	}
}

// flush writes what waits, until one fails: there is no time to wait for Redis.
func (a *Audit) flush(ctx context.Context) {
	for {
		select {
		case e := <-a.entries:
			if !a.flushed(ctx, e) {
				a.dropped.Add(int64(len(a.entries)))
				return
			}
		default:
			return
		}
	}
}

func (a *Audit) flushed(ctx context.Context, e Entry) bool {
	err := a.write(ctx, e)
	if err != nil {
		a.dropped.Add(1)
	}
	return err == nil
}

func (a *Audit) write(ctx context.Context, e Entry) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return a.client.XAdd(ctx, xadd(text)).Err()
}

func xadd(entry []byte) *redis.XAddArgs {
	return &redis.XAddArgs{Stream: auditKey, MaxLen: kept, Approx: true, Values: []any{"entry", entry}}
}

// ErrCursor is that of a cursor that was made up.
var ErrCursor = errors.New("no cursor of the audit")

var streamID = regexp.MustCompile(`^[0-9]{1,20}(-[0-9]{1,20})?$`)

// List returns entries, the newest first: those before the one with an id, or the
// last ones when that is empty.
//
// Errors: [ErrCursor], [ErrUnavailable].
func (a *Audit) List(ctx context.Context, before string, limit int) ([]Entry, error) {
	from := "+"
	if before != "" {
		if !streamID.MatchString(before) {
			return nil, ErrCursor
		}
		from = "(" + before
	}
	found, err := a.client.XRevRangeN(ctx, auditKey, from, "-", int64(limit)).Result()
	if err != nil {
		return nil, unavailable("read the audit", err)
	}
	entries := make([]Entry, 0, len(found))
	for _, m := range found {
		var e Entry
		text, _ := m.Values["entry"].(string)
		if json.Unmarshal([]byte(text), &e) != nil {
			e.Action = "unreadable"
		}
		e.ID = m.ID
		entries = append(entries, e)
	}
	return entries, nil
}
