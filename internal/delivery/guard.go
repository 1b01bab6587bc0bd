package delivery

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// exchanged is the acker of a delivery that a copy may take the place of. From
// then on there is nothing left to settle.
type exchanged struct {
	Acker
	gone atomic.Bool
}

func (e *exchanged) Ack() error {
	if e.gone.Load() {
		return nil
	}
	return e.Acker.Ack()
}

func (e *exchanged) Requeue() error {
	if e.gone.Load() {
		return nil
	}
	return e.Acker.Requeue()
}

// guard exchanges the delivery of a task that runs for so long that the broker
// would take it back, and close the channel of all others with it
// (consumer_timeout). A copy waits in the delays for as long as a lease, finds
// the task running and waits again; should the worker die, it is what another
// worker gets.
func (p *Processor) guard(ctx context.Context, t *task) (stop func()) {
	if p.opts.GuardAfter <= 0 {
		return func() {}
	}
	return after(ctx, p.opts.GuardAfter, func(ctx context.Context) { p.exchange(ctx, t) })
}

// after calls fn some time from now, unless stop is called before. stop ends the
// context of a call under way and waits for it. Hardly any attempt takes so long,
// so the context is made when it does.
func after(ctx context.Context, d time.Duration, fn func(context.Context)) (stop func()) {
	stopped, called := make(chan struct{}), make(chan struct{})
	timer := time.AfterFunc(d, func() {
		defer close(called)
		ctx, cancel := context.WithCancel(ctx)
		var watch sync.WaitGroup
		watch.Go(func() {
			select {
			case <-stopped:
				cancel()
			case <-ctx.Done():
			}
		})
		fn(ctx)
		cancel()
		watch.Wait()
	})
	return func() {
		if !timer.Stop() {
			close(stopped)
			<-called
		}
	}
}

func (p *Processor) exchange(ctx context.Context, t *task) {
	if err := p.publishCopy(ctx, t, func() time.Duration { return p.opts.Lease }); err != nil {
		t.log.Warn("delivery not exchanged for a copy, the broker may take it back", zap.Error(err))
		return
	}
	p.ack(t)
	t.delivery.Acker.(*exchanged).gone.Store(true)
	p.metrics.exchanged.Inc()
	t.log.Debug("delivery exchanged for a copy")
}
