package rabbitmq_test

import (
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// fill publishes past our own code.
func fill(t *testing.T, ch *amqp.Channel, queue string, n int) {
	t.Helper()
	for range n {
		require.NoError(t, ch.PublishWithContext(t.Context(), "", queue, true, false, amqp.Publishing{Body: []byte("x")}))
	}
}

// declare makes a queue of its own for a test.
func declare(t *testing.T, ch *amqp.Channel, queue string) {
	t.Helper()
	_, err := ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	require.NoError(t, err)
}

func TestQueueIsFullByWhatTheBrokerSaysAndByWhatWasSentSince(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	ch := raw(t, url)
	for _, q := range []string{"a", "roomy", "any"} {
		declare(t, ch, q)
	}
	d := rabbitmq.NewDepth(rabbitmq.DepthOptions{Options: options(t, url), Limit: 20, Limits: map[string]int{"roomy": 30, "any": 0}})
	background(t, d.Run)

	for _, q := range []string{"a", "roomy", "any", "missing"} {
		fill(t, ch, q, 25)
		require.NoError(t, d.Check(q), "nothing is known of it yet")
		d.Sent(q)
	}
	require.Eventually(t, func() bool { return d.Check("a") != nil }, patience, 10*time.Millisecond)
	err := d.Check("a")
	require.ErrorIs(t, err, messages.ErrQueueFull)
	var full *messages.QueueFullError
	require.ErrorAs(t, err, &full)
	require.Equal(t, 20, full.Limit)
	require.GreaterOrEqual(t, full.RetryAfter, time.Second)
	require.LessOrEqual(t, full.RetryAfter, time.Minute)
	for _, q := range []string{"any", "missing", "never heard of"} {
		require.NoError(t, d.Check(q), q)
	}
	n, fullest := d.Full()
	require.Equal(t, 1, n)
	require.GreaterOrEqual(t, fullest, 1.25)

	require.NoError(t, d.Check("roomy"))
	require.Eventually(t, func() bool { // what the broker says does not rise
		d.Sent("roomy")
		return errors.Is(d.Check("roomy"), messages.ErrQueueFull)
	}, patience, time.Millisecond, "what was sent since counts")

	_, err = ch.QueuePurge("a", false)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return d.Check("a") == nil }, patience, 10*time.Millisecond, "there is room again")
}

func TestWatchedQueueIsLookedAtThoughNothingIsSentToIt(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	d := rabbitmq.NewDepth(rabbitmq.DepthOptions{Options: options(t, url)})
	background(t, d.Run)
	d.Watch("a", "b")
	ch := raw(t, url)
	declare(t, ch, "b")
	awaitReady := func(queue string, want int) (empty time.Duration) {
		t.Helper()
		require.Eventually(t, func() bool {
			n, e, known := d.Ready(queue)
			empty = e
			return known && n == want
		}, patience, 10*time.Millisecond, "%d wait in %s", want, queue)
		return empty
	}
	awaitReady("b", 0)
	_, _, known := d.Ready("a")
	require.False(t, known, "it is not there")
	declare(t, ch, "a")
	fill(t, ch, "a", 3)
	require.Zero(t, awaitReady("a", 3))
	require.NoError(t, d.Check("b"), "there is no limit")
	full, _ := d.Full()
	require.Zero(t, full)
	_, err := ch.QueuePurge("a", false)
	require.NoError(t, err)
	awaitReady("a", 0)
	require.Eventually(t, func() bool { _, empty, _ := d.Ready("a"); return empty > 2*time.Second }, patience, 10*time.Millisecond)
	fill(t, ch, "a", 1)
	require.Zero(t, awaitReady("a", 1))

	d.Watch("b")
	require.Eventually(t, func() bool { _, _, known := d.Ready("a"); return !known }, patience, 10*time.Millisecond)
	awaitReady("b", 0)
}

func TestQueueThatNobodyCanReadIsNotFull(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	ch := raw(t, broker.URL())
	declare(t, ch, "a")
	d := rabbitmq.NewDepth(rabbitmq.DepthOptions{Options: options(t, broker.URL()), Limit: 1})
	background(t, d.Run)
	fill(t, ch, "a", 2)
	d.Sent("a")
	require.Eventually(t, func() bool { return d.Check("a") != nil }, patience, 10*time.Millisecond)

	require.NoError(t, broker.Freeze())
	require.Eventually(t, func() bool {
		begun := time.Now()
		err := d.Check("a")
		require.Less(t, time.Since(begun), patience/20, "it asks nobody")
		return err == nil
	}, patience, 10*time.Millisecond, "the broker's word is old")
	require.NoError(t, broker.Thaw())
	require.Eventually(t, func() bool { return d.Check("a") != nil }, patience, 10*time.Millisecond, "it is read again")
}
