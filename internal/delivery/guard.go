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
// so what a call needs is made when there is one.
func after(ctx context.Context, d time.Duration, fn func(context.Context)) (stop func()) {
	l := &later{}
	l.timer = time.AfterFunc(d, func() {
		if ctx, cancel := l.begin(ctx); cancel != nil {
			defer l.call.Done()
			defer cancel()
			fn(ctx)
		}
	})
	return l.stop
}

// later is a call that is to come.
type later struct {
	timer *time.Timer
	call  sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	cancel  context.CancelFunc // of a call under way
}

// begin returns no cancel when it is too late.
func (l *later) begin(ctx context.Context) (context.Context, context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped {
		return nil, nil
	}
	l.call.Add(1)
	ctx, l.cancel = context.WithCancel(ctx)
	return ctx, l.cancel
}

func (l *later) stop() {
	if l.timer.Stop() {
		return
	}
	l.mu.Lock()
	l.stopped = true
	if l.cancel != nil {
		l.cancel()
	}
	l.mu.Unlock()
	l.call.Wait()
}

func (p *Processor) exchange(ctx context.Context, t *task) {
	if err := p.publishCopy(ctx, t, func() time.Duration { return p.opts.Lease }); err != nil {
		t.log().Warn("delivery not exchanged for a copy, the broker may take it back", zap.Error(err))
		return
	}
	p.ack(t)
	t.delivery.Acker.(*exchanged).gone.Store(true)
	p.metrics.exchanged.Inc()
	t.log().Debug("delivery exchanged for a copy")
}
