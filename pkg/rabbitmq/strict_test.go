package rabbitmq_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// ordered consumes a, b and c in strict order, two messages of each at a time.
// What it has handed over counts as waiting from one of the first intakes on.
type ordered struct {
	t          *testing.T
	consumer   *rabbitmq.Consumer
	deliveries <-chan *rabbitmq.Delivery
	publisher  *rabbitmq.Publisher
	ch         *amqp.Channel
	waits      atomic.Int64 // number of the intake, from 1 on; 0 for none
}

func newOrdered(t *testing.T, url string) *ordered {
	t.Helper()
	s := &ordered{t: t, publisher: publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)}), ch: raw(t, url)}
	s.publisher.Adopt("a", "b", "c")
	s.waits.Store(1)
	s.consumer, s.deliveries = consumer(t, rabbitmq.ConsumerOptions{
		Options: options(t, url),
		Intakes: []rabbitmq.Intake{{Queue: "a", Prefetch: 2}, {Queue: "b", Prefetch: 2}, {Queue: "c", Prefetch: 2}},
		Idle: func(n int) bool {
			first := int(s.waits.Load())
			return first == 0 || n < first
		},
	})
	return s
}

func (s *ordered) fill(ids ...string) {
	s.t.Helper()
	for _, id := range ids {
		require.NoError(s.t, enqueue(s.t, s.publisher, id[:1], 0, id))
	}
}

// take acks so many deliveries and returns their ids.
func (s *ordered) take(n int) (got []string) {
	s.t.Helper()
	for range n {
		d := next(s.t, s.deliveries)
		got = append(got, d.Message.MessageID)
		require.NoError(s.t, d.Ack())
	}
	return got
}

// consumed waits until these queues, and no others, have a consumer.
func (s *ordered) consumed(queues ...string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		for _, q := range []string{"a", "b", "c"} {
			state, err := s.ch.QueueDeclarePassive(q, true, false, false, false, nil)
			require.NoError(s.t, err)
			if state.Consumers > 0 != slices.Contains(queues, q) {
				return false
			}
		}
		return true
	}, patience, 5*time.Millisecond, "consumed are %v", queues)
}

func TestAQueueIsConsumedOnlyWhileThoseBeforeItAreEmpty(t *testing.T) {
	t.Parallel()
	s := newOrdered(t, devstack.VHost(t))
	s.fill("c1", "b1", "b2", "b3", "b4", "a1", "a2", "a3", "a4", "a5")
	s.waits.Store(0)
	require.Equal(t, []string{"a1", "a2", "a3", "a4", "a5", "b1", "b2", "b3", "b4", "c1"}, s.take(10))
	s.consumed("a", "b", "c")

	s.fill("a6", "a7", "a8")
	held := []*rabbitmq.Delivery{next(t, s.deliveries), next(t, s.deliveries)}
	s.waits.Store(1)
	s.consumer.Yield(1)
	s.consumed("a")
	s.fill("b5", "c2")
	s.waits.Store(0)
	require.Never(t, func() bool { return len(s.deliveries) > 0 }, 300*time.Millisecond, 10*time.Millisecond, "a8 is ready")
	for _, d := range held {
		require.NoError(t, d.Ack())
	}
	require.Equal(t, []string{"a8", "b5", "c2"}, s.take(3))
}

func TestAQueueMakesOnlyThoseAfterItWait(t *testing.T) {
	t.Parallel()
	s := newOrdered(t, devstack.VHost(t))
	s.waits.Store(2)
	s.consumed("a", "b")
	s.fill("c1", "a1", "b1")
	require.ElementsMatch(t, []string{"a1", "b1"}, s.take(2))
	s.waits.Store(0)
	require.Equal(t, []string{"c1"}, s.take(1))
	s.waits.Store(2)
	s.consumer.Yield(2)
	s.consumed("a", "b")
}

func TestAHeldQueueCountsAsEmpty(t *testing.T) {
	t.Parallel()
	s := newOrdered(t, devstack.VHost(t))
	s.consumer.Hold("a", "c")
	s.consumed()
	s.fill("a1", "a2", "a3", "b1", "c1")
	s.waits.Store(0)
	require.Equal(t, []string{"b1"}, s.take(1))
	s.consumer.Hold("c")
	s.consumed("a")
	s.fill("b2")
	require.Equal(t, []string{"a1", "a2", "a3", "b2"}, s.take(4))
	s.consumer.Hold()
	require.Equal(t, []string{"c1"}, s.take(1))
}

func TestStrictOrderHoldsAfterALostConnection(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	s := newOrdered(t, broker.URL())
	s.waits.Store(0)
	s.consumed("a", "b", "c")
	for range 4 {
		s.fill("b1", "b2")
		lost := []*rabbitmq.Delivery{next(t, s.deliveries), next(t, s.deliveries)}
		s.fill("a1", "a2")
		lost = append(lost, next(t, s.deliveries), next(t, s.deliveries))
		_, err := broker.Ctl(t.Context(), "close_all_connections", "test")
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"a1", "a2"}, s.take(2))
		require.ElementsMatch(t, []string{"b1", "b2"}, s.take(2))
		for _, d := range lost {
			<-d.Gone()
			require.ErrorIs(t, d.Ack(), rabbitmq.ErrStale)
		}
		awaitState(t, s.publisher, "up")
	}
}
