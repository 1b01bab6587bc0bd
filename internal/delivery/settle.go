package delivery

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

// redelivered handles a delivery that is not to be run: what is left of an
// earlier one is finished, and a live owner is waited for by a copy. Acking
// outright would lose the task if the owner has lost its own delivery and
// dies; requeueing would spin.
func (p *Processor) redelivered(ctx context.Context, t *task) {
	if t.claim.Verdict == messages.VerdictBusy {
		t.log().Info("task is running elsewhere, checking again later", zap.Duration("in", t.claim.Busy))
		p.copyLater(ctx, t, time.Now().Add(t.claim.Busy))
		return
	}
	p.finish(ctx, t, t.claim.Next, t.claim.Result)
}

// finish publishes the successor, acks, and clears the successor's name.
func (p *Processor) finish(ctx context.Context, t *task, next messages.Next, r *messages.Result) {
	if next != messages.NextNone {
		if err := p.succeed(ctx, t, next, r); err != nil {
			t.log().Error("successor not published, the delivery stays with the broker", zap.String("next", string(next)), zap.Error(err))
			return
		}
	}
	p.ack(t)
	if next == messages.NextNone {
		return
	}
	err := p.persist(ctx, t, "clear successor", func(ctx context.Context) error {
		return p.opts.Store.Done(ctx, t.Attempt())
	})
	if err != nil {
		t.log().Warn("successor not cleared", zap.Error(err))
	}
}

// succeed publishes the retry or the dead letter of a settled attempt. Its
// content follows from the message and the stored record alone, so it is the
// same however often it is published.
func (p *Processor) succeed(ctx context.Context, t *task, next messages.Next, r *messages.Result) error {
	if next == messages.NextDead {
		return p.deadLetter(ctx, t, r)
	}
	again := *t.Task
	again.Retries++
	if r != nil {
		again.ETA, again.Attempts = r.NextAttempt, r.Attempts
	}
	m, err := messages.Encode(&again)
	if err != nil {
		return err
	}
	return p.publish(ctx, t, func(ctx context.Context) error {
		return p.opts.Publisher.Enqueue(ctx, t.Queue, time.Until(again.ETA), m)
	})
}

func (p *Processor) deadLetter(ctx context.Context, t *task, r *messages.Result) error {
	m, err := messages.Encode(t.Task)
	if err != nil {
		return err
	}
	letter := p.letter(t, r)
	messages.EncodeDeadLetter(m, letter)
	err = p.publish(ctx, t, func(ctx context.Context) error {
		return p.opts.Publisher.DeadLetter(ctx, t.Queue, m)
	})
	if err == nil {
		p.metrics.died(letter.Reason)
	}
	return err
}

// copyLater replaces the delivery by a copy that arrives at a time. A delivery
// that goes to somebody else needs none.
func (p *Processor) copyLater(ctx context.Context, t *task, at time.Time) {
	select {
	case <-t.delivery.Acker.Gone():
		return
	default:
	}
	err := p.publishCopy(ctx, t, func() time.Duration { return max(time.Until(at), 100*time.Millisecond) })
	if err != nil {
		t.log().Error("copy not published, the delivery stays with the broker", zap.Error(err))
		return
	}
	p.ack(t)
}

// publishCopy publishes the message of this very attempt once more. The delay is
// asked for at each try.
func (p *Processor) publishCopy(ctx context.Context, t *task, delay func() time.Duration) error {
	m, err := messages.Encode(t.Task)
	if err != nil {
		return err
	}
	return p.publish(ctx, t, func(ctx context.Context) error {
		return p.opts.Publisher.Enqueue(ctx, t.Queue, delay(), m)
	})
}

// giveBack returns an attempt that did not end, to be delivered at once or
// after o.RetryIn. The lease goes first, else whoever gets the message next
// finds it busy for a whole lease; when the store is away, so be it.
func (p *Processor) giveBack(ctx context.Context, t *task, o Outcome) {
	if err := p.opts.Store.Release(context.WithoutCancel(ctx), t.Attempt(), t.token); err != nil {
		t.log().Warn("lease not released", zap.Error(err))
	}
	if o.RetryIn > 0 {
		p.copyLater(ctx, t, time.Now().Add(o.RetryIn))
		return
	}
	p.requeue(t)
}

func (p *Processor) settle(ctx context.Context, t *task, r *messages.Result, o Outcome) error {
	s := results.Settlement{
		Attempt: t.Attempt(), Token: t.token, Result: r, IgnoreResult: t.IgnoreResult, Next: o.next(),
		Retention: cmp.Or(t.Retention, o.Retention),
	}
	return p.persist(ctx, t, "settle", func(ctx context.Context) error {
		return p.opts.Store.Settle(ctx, s)
	})
}

func (p *Processor) ack(t *task) {
	if err := t.delivery.Acker.Ack(); err != nil {
		t.log().Info("not acked, the redelivery will be recognised", zap.Error(err))
	}
}

func (p *Processor) requeue(t *task) {
	if err := t.delivery.Acker.Requeue(); err != nil {
		t.log().Info("not requeued, the broker does it", zap.Error(err))
	}
}

// persist calls the store until it answers or ctx ends. The store bounds each
// call: the end of ctx ends the waiting, not a call under way.
func (p *Processor) persist(ctx context.Context, t *task, what string, fn func(context.Context) error) error {
	return p.insist(ctx, nil, t, what, func() error {
		return fn(context.WithoutCancel(ctx))
	})
}

// publish calls the publisher until the broker confirms or ctx ends. A call
// has no deadline: what was written waits for its confirm or for the end of
// the connection, since a second write would be a second message. A message
// that no broker would take is not tried again.
func (p *Processor) publish(ctx context.Context, t *task, fn func(context.Context) error) error {
	return p.insist(ctx, nil, t, "publish", func() error { return fn(ctx) })
}

// insist is how finished work waits for a dependency that is away: nothing is
// acked meanwhile, and the slot stays taken, which stops the intake. A delivery
// that is gone is not worth waiting for where nothing has been done yet.
func (p *Processor) insist(ctx context.Context, gone <-chan struct{}, t *task, what string, fn func() error) error {
	var pause *backoff.ExponentialBackOff
	for {
		err := fn()
		var invalid *messages.InvalidError
		if err == nil || errors.Is(err, messages.ErrLost) || errors.As(err, &invalid) {
			return err
		}
		if pause == nil {
			pause = backoff.NewExponentialBackOff()
			pause.InitialInterval, pause.MaxInterval = 20*time.Millisecond, time.Second
			t.log().Warn("waiting for a dependency", zap.String("operation", what), zap.Error(err))
		}
		wait := time.NewTimer(pause.NextBackOff())
		select {
		case <-wait.C:
			continue
		case <-gone:
		case <-ctx.Done():
		}
		wait.Stop()
		return err
	}
}
