package rabbitmq_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

func TestThePrefetchChangesWhileConsuming(t *testing.T) {
	t.Parallel()
	const all = 20
	url := devstack.VHost(t)
	c, deliveries := consumer(t, rabbitmq.ConsumerOptions{
		Options: options(t, url), Intakes: []rabbitmq.Intake{{Queue: "q", Prefetch: 2}},
	})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, url)})
	for i := range all {
		require.NoError(t, enqueue(t, p, "q", 0, numbered(i)))
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
	settle := func(n int) {
		t.Helper()
		for range n {
			require.NoError(t, next(t, deliveries).Ack())
		}
	}
	ready(all - 2)
	c.SetPrefetch(map[string]int{"q": 5})
	ready(all - 2 - 5) // what was handed over before does not count
	c.SetPrefetch(map[string]int{"q": 0})
	c.Quiet(t.Context())
	settle(7)
	ready(all - 7)
	c.SetPrefetch(map[string]int{"q": 3})
	ready(all - 7 - 3)
	c.SetPrefetch(map[string]int{"other": 1})
	ready(all - 7 - 3 - 2) // its own again
	settle(all - 7)
	ready(0)
}
