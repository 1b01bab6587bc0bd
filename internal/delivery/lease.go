package delivery

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// The causes with which the context of a running attempt ends, next to those
// of its owner.
var (
	// ErrLeaseLost: another worker may hold the attempt by now.
	ErrLeaseLost = errors.New("lease lost")
	// ErrCancelled: the task was cancelled.
	ErrCancelled = errors.New("task cancelled")
)

// leases renews what this process holds, all of it in one round trip.
type leases struct {
	store *results.Store
	every time.Duration
	// cancelled is told that a task was cancelled, one of ours or another.
	cancelled <-chan struct{}
	log       *zap.Logger

	mu   sync.Mutex
	held map[string]lease
}

type lease struct {
	held results.Held
	end  context.CancelCauseFunc
}

func newLeases(store *results.Store, every time.Duration, cancelled <-chan struct{}, log *zap.Logger) *leases {
	return &leases{store: store, every: every, cancelled: cancelled, log: log, held: map[string]lease{}}
}

// cancelPause is how long a cancellation waits for others that come with it.
const cancelPause = 100 * time.Millisecond

// hold keeps the lease renewed until drop, and ends the returned context when
// it is lost or the task cancelled.
func (l *leases) hold(ctx context.Context, a messages.Attempt, token string) (work context.Context, drop func()) {
	work, end := context.WithCancelCause(ctx)
	l.mu.Lock()
	l.held[token] = lease{held: results.Held{Attempt: a, Token: token}, end: end}
	l.mu.Unlock()
	return work, func() {
		l.mu.Lock()
		delete(l.held, token)
		l.mu.Unlock()
		end(nil)
	}
}

// run renews the leases in time, and at once when a task was cancelled: the
// answer to a renewal says which.
func (l *leases) run(ctx context.Context) {
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	pause := time.NewTimer(0)
	defer pause.Stop()
	var cancelled <-chan struct{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
			cancelled = l.cancelled
		case <-tick.C:
			l.renew(ctx)
		case <-cancelled:
			l.renew(ctx)
			cancelled = nil
			pause.Reset(cancelPause)
		}
	}
}

func (l *leases) renew(ctx context.Context) {
	held, ends := l.snapshot()
	if len(held) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, l.every)
	defer cancel()
	states, err := l.store.Renew(ctx, held)
	if err != nil {
		// Nobody can take the leases over while the store is away: claims
		// need it as well.
		l.log.Warn("leases not renewed", zap.Error(err), zap.Int("held", len(held)))
	}
	for i, s := range states {
		switch s {
		case results.LeaseLost:
			ends[i](ErrLeaseLost)
		case results.LeaseCancelled:
			ends[i](ErrCancelled)
		case results.LeaseHeld, results.LeaseUnknown:
		}
	}
}

func (l *leases) snapshot() (held []results.Held, ends []context.CancelCauseFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.held {
		held = append(held, h.held)
		ends = append(ends, h.end)
	}
	return held, ends
}
