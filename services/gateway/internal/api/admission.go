package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// admitted is what a submission passes before anything is read of it: when more
// come than the broker takes, refusing has to cost next to nothing.
func (a *API) admitted(submit handler) handler {
	return func(ctx context.Context, c *call) (r *reply, err error) {
		if a.reachable() && a.limiter.full() {
			return nil, a.shed()
		}
		if c.timeout, err = a.publishTimeout(c.request.Header); err != nil {
			return nil, err
		}
		return submit(ctx, c)
	}
}

// reachable says whether the broker takes messages. If it does not, that is
// what clients have to hear.
func (a *API) reachable() bool { return a.opts.Publisher.State() == "up" }

func (a *API) shed() error {
	limit, _ := a.limiter.state()
	p := problemOf(messages.ErrOverloaded)
	p.Detail = fmt.Sprintf("more submissions come than RabbitMQ confirms, so only %.0f may be in flight at present; "+
		"nothing was sent: send it again after Retry-After", limit)
	p.cause = messages.ErrOverloaded
	return p
}

// enqueue publishes to a queue that takes tasks, within the limit of what may be
// in flight. The items of a
// batch are not counted: a batch sends no more until its first items are
// confirmed, so it slows down by itself.
func (a *API) enqueue(ctx context.Context, s submission, m *messages.Message) (err error) {
	if err := a.states.takes(s.task.Queue); err != nil {
		return err
	}
	if s.single && a.reachable() {
		place, free := a.limiter.enter()
		if !free {
			return a.shed()
		}
		defer func() { a.limiter.leave(place, answered(err)) }()
	}
	return a.opts.Publisher.Enqueue(ctx, s.task.Queue, s.delay, m)
}

// answered says whether the outcome of a publish is the broker's word.
func answered(err error) bool {
	return err == nil || errors.Is(err, messages.ErrRefused) || errors.Is(err, messages.ErrQueueMissing)
}
