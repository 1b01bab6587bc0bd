package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lovage-mq/lovage/bench/internal/load"
)

// FloorOptions say how a floor publishes.
type FloorOptions struct {
	// AMQPURL is where; the broker itself by default.
	AMQPURL          string
	TwoHeaders       bool
	Channels, Window int
	// Delay has it publish to the delays of ours.
	Delay time.Duration
}

// Floor starts a floor that sends what this gateway sends, and makes sure that
// it does unless that is delayed. The queue must be empty and is empty afterwards.
func (s *Stack) Floor(ctx context.Context, gateway *Service, o FloorOptions) (*Service, error) {
	for range 2 { // one to compare with, one for the floor to take
		if err := SubmitOne(ctx, gateway.Address); err != nil {
			return nil, fmt.Errorf("submit a sample: %w", err)
		}
	}
	ours, err := s.take(ctx)
	if err != nil {
		return nil, err
	}
	v, err := s.start(ctx, "floor", func(address string) []string {
		args := []string{
			"--listen=" + address, "--amqp-url=" + cmp.Or(o.AMQPURL, s.amqpURL()), "--queue=" + Queue,
			"--channels=" + strconv.Itoa(o.Channels),
		}
		if o.TwoHeaders {
			args = append(args, "--two-headers")
		}
		if o.Window > 0 {
			args = append(args, "--window="+strconv.Itoa(o.Window))
		}
		if o.Delay > 0 {
			args = append(args, "--delay="+o.Delay.String())
		}
		return args
	}, none)
	if err != nil || o.Delay > 0 {
		return v, err
	}
	if err := load.Post(ctx, "http://"+v.Address+"/submit", Input, http.StatusAccepted); err != nil {
		return nil, fmt.Errorf("try floor: %w", err)
	}
	theirs, err := s.take(ctx)
	if err != nil || o.TwoHeaders {
		return v, err
	}
	return v, alike(ours, theirs)
}

// publish has a floor send so many messages, each with an id of its own.
func publish(ctx context.Context, v *Service, n int) error {
	return load.Post(ctx, fmt.Sprintf("http://%s/publish?messages=%d&fresh=true", v.Address, n), "{}", http.StatusOK)
}

// take takes a message that was confirmed before out of the queue.
func (s *Stack) take(ctx context.Context) (amqp.Delivery, error) {
	var d amqp.Delivery
	var wrong error
	err := poll(ctx, "the queue has a message", func() (ok bool) {
		d, ok, wrong = s.channel.Get(Queue, true)
		return ok || wrong != nil
	})
	return d, errors.Join(err, wrong)
}

var errNotAlike = errors.New("the floor does not send what the gateway sends")

// alike compares two messages but for what is different in each: the id and the
// time.
func alike(a, b amqp.Delivery) error {
	x, y := essence(a), essence(b)
	for i := range x {
		if !reflect.DeepEqual(x[i], y[i]) {
			return fmt.Errorf("%w: %v is not %v", errNotAlike, y[i], x[i])
		}
	}
	return nil
}

func essence(d amqp.Delivery) []any {
	headers := map[string]any{}
	for name, v := range d.Headers {
		if text, ok := v.(string); ok {
			v = strings.ReplaceAll(text, d.MessageId, "ID")
		}
		headers[name] = v
	}
	if headers["lovage_created"] != nil {
		headers["lovage_created"] = "TIME"
	}
	return []any{
		headers, string(d.Body), d.ContentType, d.ContentEncoding, d.DeliveryMode, d.Priority, d.ReplyTo, d.Expiration,
		d.Type, d.UserId, d.AppId, d.Timestamp.IsZero(), d.CorrelationId == d.MessageId,
	}
}
