package rabbitmq_test

import (
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// A queue of somebody else may have a limit and refuse what comes beyond it, or
// be gone. What is delayed for others shares the levels with what is delayed for
// it.
func TestDelayedMessagesOfAFullQueueStopNoOthers(t *testing.T) {
	t.Parallel()
	const bad, good = 40, 10 // more bad ones than a level has in flight
	const delay = 5 * time.Second
	broker := devstack.RabbitMQ(t)
	// How long RabbitMQ waits before it tries again what was refused; 3 minutes
	// without this.
	_, err := broker.Ctl(t.Context(), "eval", "application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 1000).")
	require.NoError(t, err)
	ch := raw(t, broker.URL())
	foreign := func(queue string) {
		t.Helper()
		_, err := ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-max-length": bad, "x-overflow": "reject-publish"})
		require.NoError(t, err)
	}
	foreign("full")
	foreign("gone")
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, broker.URL())})
	p.Adopt("good")
	for _, queue := range []string{"good", "full", "gone"} {
		require.NoError(t, enqueue(t, p, queue, 100*time.Millisecond, "declares what it needs"))
		get(t, ch, queue)
	}
	for i := range bad {
		require.NoError(t, enqueue(t, p, "full", 0, numbered(i)+" in the way"))
	}
	arrivals, err := ch.Consume("good", "", true, false, false, false, nil)
	require.NoError(t, err)

	var all errgroup.Group
	for i := range bad {
		all.Go(func() error { return enqueue(t, p, "full", delay, numbered(i)) })
		all.Go(func() error { return enqueue(t, p, "gone", delay, numbered(i)) })
	}
	require.NoError(t, all.Wait())
	_, err = ch.QueueDelete("gone", false, false, false)
	require.NoError(t, err)
	sent := map[string]time.Time{}
	for i := range good {
		require.NoError(t, enqueue(t, p, "good", delay, numbered(i)))
		sent[numbered(i)] = time.Now()
	}
	for len(sent) > 0 {
		select {
		case d := <-arrivals:
			late := time.Since(sent[d.MessageId]) - delay
			require.LessOrEqual(t, late, time.Second+delay/100, d.MessageId)
			delete(sent, d.MessageId)
		case <-time.After(patience):
			require.Fail(t, "delayed messages are held up", "%d of %d", len(sent), good)
		}
	}

	_, err = ch.QueuePurge("full", false)
	require.NoError(t, err)
	foreign("gone")
	for _, queue := range []string{"full", "gone"} {
		arrived := map[string]bool{}
		for len(arrived) < bad { // one that RabbitMQ was not sure of may come twice
			arrived[get(t, ch, queue).MessageId] = true
		}
	}
}
