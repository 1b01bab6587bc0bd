package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/labstack/echo/v4"
	amqp "github.com/rabbitmq/amqp091-go"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// floor publishes without looking at what it is asked to publish.
type floor struct {
	to       rabbitmq.Address
	channels []*amqp.Channel
	turn     atomic.Uint64
	window   int
	template template
}

var errNotConfirmed = errors.New("not confirmed")

// submit publishes one message, waits for its confirm and answers.
func (f *floor) submit(c echo.Context) error {
	ctx, m := c.Request().Context(), f.template.fresh()
	ch := f.channels[f.turn.Add(1)%uint64(len(f.channels))]
	confirm, err := f.send(ctx, ch, m)
	if err != nil {
		return err
	}
	if ok, err := confirm.WaitContext(ctx); err != nil || !ok {
		return errors.Join(errNotConfirmed, err)
	}
	return c.JSONBlob(http.StatusAccepted, []byte(`{"task_id":"`+m.MessageId+`"}`))
}

func (f *floor) send(ctx context.Context, ch *amqp.Channel, m amqp.Publishing) (*amqp.DeferredConfirmation, error) {
	return ch.PublishWithDeferredConfirmWithContext(ctx, f.to.Exchange, f.to.Key, true, false, m)
}

// publish sends so many messages as fast as it can and answers when all are
// confirmed. With fresh=true each is a task of its own, for somebody to run.
func (f *floor) publish(c echo.Context) error {
	n, err := strconv.Atoi(c.QueryParam("messages"))
	if err != nil {
		return echo.NewHTTPError(http.StatusBadRequest, "messages must be a number")
	}
	g, ctx := errgroup.WithContext(c.Request().Context())
	for i, ch := range f.channels {
		share := n / len(f.channels)
		if i < n%len(f.channels) {
			share++
		}
		g.Go(func() error { return f.loop(ctx, ch, share, c.QueryParam("fresh") == "true") })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("publish %d messages: %w", n, err)
	}
	return c.NoContent(http.StatusOK)
}

// loop sends the sample itself n times, with at most a window of messages in
// flight. It saves itself even the fresh id, unless that is asked for.
func (f *floor) loop(ctx context.Context, ch *amqp.Channel, n int, fresh bool) error {
	flying := make([]*amqp.DeferredConfirmation, f.window)
	for i := range n + f.window {
		slot := &flying[i%f.window]
		if *slot != nil && !(*slot).Wait() {
			return errNotConfirmed
		}
		*slot = nil
		if i >= n {
			continue
		}
		m := f.template.message
		if fresh {
			m = f.template.fresh()
		}
		var err error
		if *slot, err = f.send(ctx, ch, m); err != nil {
			return err
		}
	}
	return nil
}
