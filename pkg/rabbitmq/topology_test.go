package rabbitmq_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// RabbitMQ 4.3 refuses queues that are neither durable nor exclusive.
func TestEveryQueueIsDurable(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{Options: options(t, broker.URL())})
	p := publisher(t, rabbitmq.PublisherOptions{Options: options(t, broker.URL())})
	require.NoError(t, enqueue(t, p, "q", 100*time.Millisecond, "a"))
	require.NoError(t, next(t, deliveries).Ack())
	require.NoError(t, p.DeadLetter(t.Context(), "q", message("b")))

	out, err := broker.Ctl(t.Context(), "list_queues", "--formatter=json", "--quiet", "name", "durable", "auto_delete")
	require.NoError(t, err)
	var queues []struct {
		Name       string
		Durable    bool
		AutoDelete bool `json:"auto_delete"`
	}
	require.NoError(t, json.Unmarshal([]byte(out), &queues), out)
	require.Greater(t, len(queues), 30, "with those of the delays")
	for _, q := range queues {
		require.True(t, q.Durable, q.Name)
		require.False(t, q.AutoDelete, q.Name)
	}
}

// A process may run as a user who may declare nothing.
func TestPassiveDeclaresNothing(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	owner := publisher(t, rabbitmq.PublisherOptions{Options: options(t, broker.URL())})
	owner.Adopt("q")
	require.NoError(t, enqueue(t, owner, "q", 100*time.Millisecond, "declares all there is"))
	require.Equal(t, "declares all there is", get(t, raw(t, broker.URL()), "q").MessageId)
	_, err := broker.Ctl(t.Context(), "set_permissions", "guest", "^$", ".*", ".*")
	require.NoError(t, err)

	o := options(t, broker.URL())
	o.Passive = true
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{Options: o})
	p := publisher(t, rabbitmq.PublisherOptions{Options: o})
	p.Adopt("q")
	for _, delay := range []time.Duration{0, 100 * time.Millisecond} {
		require.NoError(t, enqueue(t, p, "q", delay, delay.String()))
		d := next(t, deliveries)
		require.Equal(t, delay.String(), d.Message.MessageID)
		require.NoError(t, d.Ack())
	}
}
