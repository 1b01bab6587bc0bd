package rabbitmq_test

import (
	"context"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// consumer runs a consumer of q whose deliveries come out of the channel.
func consumer(t *testing.T, o rabbitmq.ConsumerOptions) (*rabbitmq.Consumer, <-chan *rabbitmq.Delivery) {
	t.Helper()
	if o.Intakes == nil {
		o.Intakes = []rabbitmq.Intake{{Queue: "q", Prefetch: 10}}
	}
	c := rabbitmq.NewConsumer(o)
	deliveries := make(chan *rabbitmq.Delivery, 100)
	background(t, func(ctx context.Context) error {
		return c.Run(ctx, func(d *rabbitmq.Delivery) { deliveries <- d })
	})
	require.Eventually(t, c.Connected, patience, 5*time.Millisecond)
	return c, deliveries
}

func next(t *testing.T, deliveries <-chan *rabbitmq.Delivery) *rabbitmq.Delivery {
	t.Helper()
	select {
	case d := <-deliveries:
		return d
	case <-time.After(patience):
		require.FailNow(t, "no delivery")
		return nil
	}
}

func TestDeliveriesAreHandedOverAndSettledOnce(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{Options: options(t, url)})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	require.NoError(t, enqueue(t, p, "q", 0, "a"))

	d := next(t, deliveries)
	require.Equal(t, "a", d.Message.MessageID)
	require.Equal(t, "q", d.Queue)
	require.Equal(t, "q", d.Message.RoutingKey)
	require.NoError(t, d.Requeue())
	require.Error(t, d.Ack(), "settled already")
	d = next(t, deliveries)
	require.NoError(t, d.Ack())
	require.Error(t, d.Ack(), "settled already")
	require.NoError(t, enqueue(t, p, "q", 0, "b"))
	require.Equal(t, "b", next(t, deliveries).Message.MessageID)
}

func TestConsumerComesBackAfterALostConnection(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{Options: options(t, broker.URL())})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, broker.URL())})
	for range 2 { // twice: a library of old lost its password after the first
		require.NoError(t, enqueue(t, p, "q", 0, "a"))
		lost := next(t, deliveries)
		_, err := broker.Ctl(t.Context(), "close_all_connections", "test")
		require.NoError(t, err)
		again := next(t, deliveries)
		<-lost.Gone()
		require.ErrorIs(t, lost.Ack(), rabbitmq.ErrStale)
		require.NoError(t, again.Ack())
		awaitState(t, p, "up")
	}
}

func TestConsumerDeclaresADeletedQueueAgain(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{Options: options(t, url)})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	ch := raw(t, url)
	_, err := ch.QueueDelete("q", false, false, false)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return enqueue(t, p, "q", 0, "a") == nil }, patience, 10*time.Millisecond)
	require.Equal(t, "a", next(t, deliveries).Message.MessageID)
}

func TestPausedConsumerTakesNothingAndCanStillSettle(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	c, deliveries := consumer(t, rabbitmq.ConsumerOptions{Options: options(t, url)})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	require.NoError(t, enqueue(t, p, "q", 0, "a"))
	running := next(t, deliveries)

	c.Pause(t.Context())
	ch := raw(t, url)
	require.NoError(t, enqueue(t, p, "q", 0, "b"))
	require.Equal(t, "b", get(t, ch, "q").MessageId, "it waits in the queue")
	require.NoError(t, running.Ack())

	c.Resume()
	require.NoError(t, enqueue(t, p, "q", 0, "c"))
	require.Equal(t, "c", next(t, deliveries).Message.MessageID)
}

func TestConsumerReportsWhyTheBrokerDeadLettered(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{
		Options: options(t, url),
		Intakes: []rabbitmq.Intake{{Queue: rabbitmq.RejectedQueue, Prefetch: 1}},
	})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	p.Adopt("q")
	require.NoError(t, enqueue(t, p, "q", 0, "a"))
	ch := raw(t, url)
	d, ok, err := ch.Get("q", false)
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, d.Reject(false))
	dead := next(t, deliveries)
	require.Equal(t, "q", dead.DeadFrom)
	require.Equal(t, "rejected", dead.DeadReason)
	require.NoError(t, dead.Ack())
}

func TestConsumerRefusesAQueueWithOtherArguments(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	_, err := raw(t, url).QueueDeclare("q", true, false, false, false, amqp.Table{"x-queue-type": "classic"})
	require.NoError(t, err)
	c := rabbitmq.NewConsumer(rabbitmq.ConsumerOptions{
		Options: options(t, url), Intakes: []rabbitmq.Intake{{Queue: "q", Prefetch: 1}},
	})
	err = c.Run(t.Context(), func(*rabbitmq.Delivery) {})
	var te *rabbitmq.TopologyError
	require.ErrorAs(t, err, &te)
	require.ErrorContains(t, err, "queue q")
}

// What a stopping consumer gives back must not come straight back to it.
func TestStoppingConsumerTouchesADeliveryOnce(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	c, deliveries := consumer(t, rabbitmq.ConsumerOptions{
		Options: options(t, url), Intakes: []rabbitmq.Intake{{Queue: "q", Prefetch: 50}},
	})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	for i := range 200 {
		require.NoError(t, enqueue(t, p, "q", 0, numbered(i)))
	}
	c.Pause(t.Context())
	for range len(deliveries) {
		require.NoError(t, (<-deliveries).Requeue())
	}
	ch := raw(t, url)
	for range 200 {
		if n, ok := get(t, ch, "q").Headers["x-delivery-count"].(int64); ok {
			require.LessOrEqual(t, n, int64(1))
		}
	}
}

// Other queues go on while one is held.
func TestAQueueIsHeldAndTakenUpAgain(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	c, deliveries := consumer(t, rabbitmq.ConsumerOptions{
		Options: options(t, url), Intakes: []rabbitmq.Intake{{Queue: "a", Prefetch: 10}, {Queue: "b", Prefetch: 10}},
	})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	require.Eventually(t, c.Connected, patience, 5*time.Millisecond)
	c.Hold("a")
	ch := raw(t, url)
	require.Eventually(t, func() bool {
		q, err := ch.QueueDeclarePassive("a", true, false, false, false, nil)
		return err == nil && q.Consumers == 0
	}, patience, 5*time.Millisecond)
	require.NoError(t, enqueue(t, p, "a", 0, "held"))
	require.NoError(t, enqueue(t, p, "b", 0, "taken"))
	d := next(t, deliveries)
	require.Equal(t, "taken", d.Message.MessageID)
	require.NoError(t, d.Ack())
	c.Hold()
	d = next(t, deliveries)
	require.Equal(t, "held", d.Message.MessageID)
	require.NoError(t, d.Ack())
}
