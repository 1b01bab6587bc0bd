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
// worker gets. stop ends the watch and waits for it.
func (p *Processor) guard(ctx context.Context, t *task) (stop func()) {
	if p.opts.GuardAfter <= 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() {
		timer := time.NewTimer(p.opts.GuardAfter)
		defer timer.Stop()
		select {
		case <-ctx.Done():
		case <-timer.C:
			p.exchange(ctx, t)
		}
	})
	return func() {
		cancel()
		watching.Wait()
	}
}

func (p *Processor) exchange(ctx context.Context, t *task) {
	if err := p.publishCopy(ctx, t, func() time.Duration { return p.opts.Lease }); err != nil {
		t.log.Warn("delivery not exchanged for a copy, the broker may take it back", zap.Error(err))
		return
	}
	p.ack(t)
	t.delivery.Acker.(*exchanged).gone.Store(true)
	t.log.Debug("delivery exchanged for a copy")
}
