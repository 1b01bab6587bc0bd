package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// admin declares what a publish turns out to need, on connections of its own:
// a declaration that the broker refuses closes its channel, and one on a
// blocked connection hangs, and neither may touch the messages in flight.
type admin struct {
	opts Options
	slot chan struct{} // one declaration at a time

	mu      sync.Mutex
	ours    map[string]bool
	works   map[string]time.Time // when a work queue was last declared here
	ladder  bool                 // the delay levels are declared
	targets map[string]bool      // queues bound to the end of the ladder
}

func newAdmin(o Options) *admin {
	o.Name += " admin"
	return &admin{
		opts: o, slot: make(chan struct{}, 1),
		ours: map[string]bool{}, works: map[string]time.Time{}, targets: map[string]bool{},
	}
}

func (a *admin) adopt(queue string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ours[queue] = true
}

func (a *admin) adopted(queue string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ours[queue]
}

func (a *admin) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ladder = false
	clear(a.targets)
}

func (a *admin) declared(end string) (ladder, target bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ladder, a.targets[end]
}

// ensureDelay makes sure that the ladder exists and leads to the queue, and
// returns where it ends: in the queue, or in the landing of a queue that is not
// ours, which must be there already.
func (a *admin) ensureDelay(ctx context.Context, queue string) (string, error) {
	end := queue
	if !a.adopted(queue) {
		end = landing(queue)
	}
	return end, a.do(ctx, queue, func() bool {
		ladder, target := a.declared(end)
		return ladder && target
	}, func(d *declarer) {
		ladder, target := a.declared(end)
		if !ladder {
			d.delays()
		}
		switch {
		case target:
		case end == queue:
			d.work(queue)
		default:
			d.foreign(queue)
			d.delayLanding(queue)
		}
		if d.err == nil {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.ladder, a.targets[end] = true, true
		}
	})
}

// declareWork declares a work queue of ours that is gone, once for all who
// miss it at the same time.
func (a *admin) declareWork(ctx context.Context, queue string) error {
	missed := time.Now()
	return a.do(ctx, queue, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.works[queue].After(missed)
	}, func(d *declarer) {
		d.work(queue)
		if d.err == nil {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.works[queue] = time.Now()
		}
	})
}

// do runs fn on a connection of its own, unless it is done already. Its errors
// mean that nothing was published.
func (a *admin) do(ctx context.Context, queue string, done func() bool, fn func(*declarer)) error {
	if done() {
		return nil
	}
	select {
	case a.slot <- struct{}{}:
		defer func() { <-a.slot }()
	case <-ctx.Done():
		return fmt.Errorf("declare for queue %q: %w", queue, messages.ErrNotSent)
	}
	if done() {
		return nil
	}
	l, err := dialAny(ctx, a.opts, func(conn *amqp.Connection) error { return declare(conn, a.opts.Passive, fn) })
	if err == nil {
		l.close(a.opts.DialTimeout) //nolint:contextcheck // what was declared is closed properly also when the caller has left
		return nil
	}
	var te *TopologyError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("declare for queue %q: %w: %w", queue, messages.ErrNotSent, err)
	case errors.As(err, &te):
		return fmt.Errorf("%w: %w", messages.ErrRefused, err)
	case errors.Is(err, messages.ErrQueueMissing):
		return fmt.Errorf("publish to %q: %w", queue, err)
	default:
		return fmt.Errorf("declare for queue %q: %w: %w", queue, messages.ErrBrokerUnavailable, err)
	}
}
