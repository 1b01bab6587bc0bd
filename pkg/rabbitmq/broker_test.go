package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options(t *testing.T, url string) rabbitmq.Options {
	t.Helper()
	return rabbitmq.Options{URLs: []string{url}, Name: t.Name(), Log: zaptest.NewLogger(t)}
}

// background runs fn until the test is over and waits for it.
func background(t *testing.T, fn func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- fn(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("background: %v", err)
		}
	})
}

// publisher returns a publisher that is up.
func publisher(t *testing.T, o rabbitmq.PublisherOptions) *rabbitmq.Publisher {
	t.Helper()
	p := rabbitmq.NewPublisher(o)
	background(t, p.Run)
	awaitState(t, p, "up")
	return p
}

func awaitState(t *testing.T, p *rabbitmq.Publisher, state string) {
	t.Helper()
	require.Eventually(t, func() bool { return p.State() == state }, patience, 5*time.Millisecond, "state %q", state)
}

func message(id string) *messages.Message {
	return &messages.Message{
		ContentType: "application/json", ContentEncoding: "utf-8", MessageID: id, CorrelationID: id,
		Headers: map[string]any{"task": "t", "id": id, "stamps": map[string]any{"a": []any{"b"}}, "none": nil},
		Body:    []byte(`[[],{},null]`),
	}
}

func enqueue(t *testing.T, p *rabbitmq.Publisher, queue string, delay time.Duration, id string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return p.Enqueue(ctx, queue, delay, message(id))
}

// raw is a plain client, to look at the broker past our own code.
func raw(t *testing.T, url string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(time.Second)) })
	ch, err := conn.Channel()
	require.NoError(t, err)
	return ch
}

// get takes the next message of a queue.
func get(t *testing.T, ch *amqp.Channel, queue string) amqp.Delivery {
	t.Helper()
	var d amqp.Delivery
	require.Eventually(t, func() bool {
		var ok bool
		var err error
		d, ok, err = ch.Get(queue, true)
		require.NoError(t, err)
		return ok
	}, patience, 10*time.Millisecond, "a message in %s", queue)
	return d
}

// ids takes as many messages as named and returns how often each id came.
func ids(t *testing.T, ch *amqp.Channel, queue string, n int) map[string]int {
	t.Helper()
	seen := map[string]int{}
	for range n {
		seen[get(t, ch, queue).MessageId]++
	}
	return seen
}

func isOutcome(err error) bool {
	for _, e := range []error{
		messages.ErrBrokerUnavailable, messages.ErrNotSent, messages.ErrQueueMissing, messages.ErrQueueUnavailable,
		messages.ErrRefused, messages.ErrOverloaded, messages.ErrUnconfirmed,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return err == nil
}

func numbered(i int) string { return fmt.Sprintf("m-%04d", i) }
