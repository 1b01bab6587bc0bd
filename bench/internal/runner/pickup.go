package runner

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// busyShare is the part of the slots that is busy: one of so many.
	busyShare = 5
	// readyAfter is how long the consumer has to be there before it counts.
	readyAfter = 2 * time.Second
)

// PickUp sends tasks at a rate, whether or not those before were taken, and
// measures from the confirm of each to the first line of its handler.
type PickUp struct {
	// Tasks is how many there are, Rate how many come in a second, Slots how many
	// can run at the same time.
	Tasks int64
	Rate  float64
	Slots int

	mu    sync.Mutex
	times map[string]*moments
	begun atomic.Int64
}

type moments struct{ confirmed, begun time.Time }

// at notes a moment of a task.
func (p *PickUp) at(id string, set func(*moments)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.times == nil {
		p.times = map[string]*moments{}
	}
	m := p.times[id]
	if m == nil {
		m = &moments{}
		p.times[id] = m
	}
	set(m)
}

// Handle is the task: it notes the time and is busy for so long that a fifth of
// the slots is.
func (p *PickUp) Handle(ctx context.Context, id string) {
	now := time.Now()
	p.at(id, func(m *moments) { m.begun = now })
	_ = pause(ctx, Busy(p.Slots, p.Rate))
	p.begun.Add(1)
}

// Busy is how long a task has to take so that a fifth of the slots is busy.
func Busy(slots int, rate float64) time.Duration {
	return time.Duration(float64(time.Second) * float64(slots) / busyShare / rate)
}

// Send sends all tasks with send, which returns the id of the task once it is
// sure to run. Send returns when all have begun.
func (p *PickUp) Send(ctx context.Context, send func(context.Context) (id string, err error)) error {
	if err := pause(ctx, readyAfter); err != nil {
		return err
	}
	tick := time.NewTicker(time.Duration(float64(time.Second) / p.Rate))
	defer tick.Stop()
	sends, sending := errgroup.WithContext(ctx)
	for range p.Tasks {
		<-tick.C
		sends.Go(func() error {
			id, err := send(sending)
			now := time.Now()
			if err == nil {
				p.at(id, func(m *moments) { m.confirmed = now })
			}
			return err
		})
	}
	if err := sends.Wait(); err != nil {
		return err
	}
	for p.begun.Load() < p.Tasks {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// Result are the times in milliseconds. A handler that began before its sender
// heard of the confirm has waited for nothing. Tasks of others do not count.
func (p *PickUp) Result() map[string]float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var waited []time.Duration
	for _, m := range p.times {
		if !m.begun.IsZero() && !m.confirmed.IsZero() {
			waited = append(waited, max(0, m.begun.Sub(m.confirmed)))
		}
	}
	slices.Sort(waited)
	at := func(q float64) float64 { return waited[int(q*float64(len(waited)-1))].Seconds() * 1000 }
	return map[string]float64{"p50": at(0.5), "p99": at(0.99), "max": at(1)}
}
