package e2e_test

import (
	"context"
	"slices"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/worker"
)

const strictSlots = 4

// strict is a worker of three queues in strict order, whose tasks count
// themselves when they start and then wait for a token.
type strict struct {
	*stack
	counter
	tokens chan struct{}
	ch     *amqp.Channel
}

func newStrict(t *testing.T) *strict {
	t.Helper()
	s := newStack(t)
	return &strict{stack: s, tokens: make(chan struct{}), ch: s.channel()}
}

func (s *strict) worker() *worker.Worker {
	order := []string{"high", "middle", "low"}
	w := worker.New(worker.Options{AMQPURL: s.amqp, RedisURL: s.redis, Concurrency: strictSlots, StrictOrder: order})
	for _, q := range order {
		count := s.counter.task(q)
		worker.Handle(w, q, func(ctx context.Context, in struct{}) (struct{}, error) {
			out, err := count(ctx, in)
			select {
			case <-s.tokens:
			case <-ctx.Done():
			}
			return out, err
		}, worker.WithQueue(q))
	}
	return w
}

// let lets so many tasks end.
func (s *strict) let(n int) {
	for range n {
		s.tokens <- struct{}{}
	}
}

func (s *strict) ready(queue string) int {
	q, err := s.ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	require.NoError(s.t, err)
	return q.Messages
}

// lowBefore returns how many of those that started are not of the queue and
// started before its last one.
func lowBefore(queue string, order []string) (n int) {
	last := len(order) - 1
	for order[last] != queue {
		last--
	}
	for _, q := range order[:last] {
		if q != queue {
			n++
		}
	}
	return n
}

func TestHigherQueuesAreWorkedOffFirst(t *testing.T) {
	t.Parallel()
	s := newStrict(t)
	close(s.tokens)
	stop := s.inProcess(s.worker()) // makes the queues known
	stop()
	const each = 200
	for _, q := range []string{"low", "middle", "high"} {
		s.fill(q, each)
	}
	s.inProcess(s.worker())
	s.eventually(func() bool { return len(s.ran()) == 3*each }, "all have run")
	order := s.ran()
	require.LessOrEqual(t, lowBefore("high", order), strictSlots, "%v", order)
	require.LessOrEqual(t, lowBefore("middle", slices.DeleteFunc(order, func(q string) bool { return q == "high" })), strictSlots, "%v", order)
}

func TestWhatComesToAHigherQueueGetsTheNextSlots(t *testing.T) {
	t.Parallel()
	s := newStrict(t)
	s.inProcess(s.worker())
	const lows, highs = 60, 40
	s.fill("low", lows)
	s.let(20)
	s.eventually(func() bool { return len(s.ran()) == 20+strictSlots }, "the slots are taken again")
	s.fill("high", highs)
	s.eventually(func() bool { return s.ready("high") == highs-strictSlots }, "some have come")
	began := len(s.ran())
	s.let(lows + highs - 20)
	s.eventually(func() bool { return len(s.ran()) == lows+highs }, "all have run")
	order := s.ran()[began:]
	require.Equal(t, slices.Repeat([]string{"high"}, strictSlots), order[:strictSlots], "the next slots")
	require.LessOrEqual(t, lowBefore("high", order), strictSlots, "%v", order)
}

func TestAPausedQueueDoesNotHoldUpThoseBelow(t *testing.T) {
	t.Parallel()
	s := newStrict(t)
	close(s.tokens)
	s.steer("high", "pause")
	s.inProcess(s.worker())
	s.fill("high", 10)
	s.fill("low", 10)
	s.eventually(func() bool { return len(s.ran()) == 10 }, "the tasks below run")
	require.NotContains(t, s.ran(), "high")
	s.steer("high", "resume")
	s.eventually(func() bool { return len(s.ran()) == 20 }, "all have run")
}

// A task that is known under one queue can be sent to any queue of the order.
func TestTheWorkerThatShipsTakesFromQueuesInStrictOrder(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker("LOVAGE_STRICT_ORDER=urgent,default")
	for query, queue := range map[string]string{"?queue=urgent": "urgent", "": "default"} {
		require.Equal(t, queue, s.await(s.sleep(1, query), "SUCCESS").Queue)
	}
}
