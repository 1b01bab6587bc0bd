package rabbitmq_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// Whatever waits in the queue, and also when some of it comes back after a delay.
func TestConsumerHoldsNoMoreThanItsPrefetch(t *testing.T) {
	t.Parallel()
	const prefetch, all = 3, 20
	url := devstack.VHost(t)
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{
		Options: options(t, url), Intakes: []rabbitmq.Intake{{Queue: "q", Prefetch: prefetch}},
	})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	for i := range all {
		require.NoError(t, enqueue(t, p, "q", time.Duration(i%2)*100*time.Millisecond, numbered(i)))
	}
	ch := raw(t, url)
	ready := func(want int) {
		t.Helper()
		require.Eventually(t, func() bool {
			q, err := ch.QueueDeclarePassive("q", true, false, false, false, nil)
			require.NoError(t, err)
			return q.Messages == want
		}, patience, 10*time.Millisecond, "%d wait in the queue", want)
	}
	ready(all - prefetch)
	for range prefetch {
		next(t, deliveries)
	}
	select {
	case d := <-deliveries:
		require.Fail(t, "one more than the prefetch", d.Message.MessageID)
	case <-time.After(300 * time.Millisecond):
	}
	ready(all - prefetch)
}

// A broker that keeps its connections open and says nothing is left.
func TestConsumerLeavesABrokerThatIsFrozen(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	o := options(t, broker.URL())
	o.Heartbeat = time.Second
	c, deliveries := consumer(t, rabbitmq.ConsumerOptions{Options: o})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, broker.URL())})
	require.NoError(t, enqueue(t, p, "q", 0, "a"))
	held := next(t, deliveries)

	require.NoError(t, broker.Freeze())
	require.Eventually(t, func() bool { return !c.Connected() }, patience, 10*time.Millisecond, "it finds out")
	<-held.Gone()
	require.ErrorIs(t, held.Ack(), rabbitmq.ErrStale)

	require.NoError(t, broker.Thaw())
	again := next(t, deliveries)
	require.Equal(t, "a", again.Message.MessageID)
	require.NoError(t, again.Ack())
}

// A broker that takes a delivery back, as it has been held for too long, closes
// the channel with it.
func TestConsumerComesBackWhenADeliveryWasHeldForTooLong(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	_, err := broker.Ctl(t.Context(), "eval",
		"application:set_env(rabbit, consumer_timeout, 1000), application:set_env(rabbit, channel_tick_interval, 500).")
	require.NoError(t, err)
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{Options: options(t, broker.URL())})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, broker.URL())})
	require.NoError(t, enqueue(t, p, "q", 0, "a"))
	held := next(t, deliveries)

	again := next(t, deliveries)
	require.Equal(t, "a", again.Message.MessageID, "it comes again by itself")
	require.Error(t, held.Ack())
	require.NoError(t, again.Ack())
	require.NoError(t, enqueue(t, p, "q", 0, "b"))
	require.Equal(t, "b", next(t, deliveries).Message.MessageID)
}

// Each delay starts from the name of the queue and from headers without the
// broker's additions. Else the address grows until it does not fit any more, and
// the broker takes the message for one that goes round in circles.
func TestAMessageMayBeDelayedManyTimes(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	queue := strings.Repeat("q", 100) // the longest name there is
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{
		Options: options(t, url), Intakes: []rabbitmq.Intake{{Queue: queue, Prefetch: 1}},
	})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	p.Adopt(queue)
	task := &messages.Task{ID: messages.NewID(), Name: "t", Queue: queue}
	var key string
	for range 12 {
		m, err := messages.Encode(task)
		require.NoError(t, err)
		require.NoError(t, p.Enqueue(t.Context(), queue, 100*time.Millisecond, m))
		d := next(t, deliveries)
		require.NoError(t, d.Ack())
		if key == "" {
			key = d.Message.RoutingKey
		}
		require.Equal(t, key, d.Message.RoutingKey)
		got, err := messages.Decode(&d.Message)
		require.NoError(t, err)
		require.Equal(t, task.ID, got.ID)
		require.Equal(t, queue, got.Queue)
		require.Empty(t, got.Headers)
		task = got
	}
}

// Delayed messages whose queue is gone must not stop those of others, which
// share the levels with them.
func TestDelayedMessagesOfADeletedQueueStopNoOthers(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	p.Adopt("good", "bad")
	require.NoError(t, enqueue(t, p, "good", time.Second, "first"), "declares the levels")
	ch := raw(t, url)
	require.Equal(t, "first", get(t, ch, "good").MessageId)
	const delay = 5 * time.Second // none may be through before its queue is deleted
	var all errgroup.Group
	for i := range 40 { // more than a level has in flight
		all.Go(func() error { return enqueue(t, p, "bad", delay, numbered(i)) })
	}
	require.NoError(t, all.Wait())
	_, err := ch.QueueDelete("bad", false, false, false)
	require.NoError(t, err)
	for i := range 10 {
		require.NoError(t, enqueue(t, p, "good", delay, numbered(i)))
	}
	require.Len(t, ids(t, ch, "good", 10), 10)
	require.Len(t, ids(t, ch, rabbitmq.UnroutableQueue, 40), 40, "and they are kept")
}
