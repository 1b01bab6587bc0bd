package rabbitmq_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
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

func TestWhoMayNotDeclareIsToldWhatIsMissing(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	allow := func(configure string) {
		t.Helper()
		_, err := broker.Ctl(t.Context(), "set_permissions", "guest", configure, ".*", ".*")
		require.NoError(t, err)
	}
	allow("^$")
	o := options(t, broker.URL())
	err := rabbitmq.NewPublisher(rabbitmq.PublisherOptions{Options: o}).Run(t.Context())
	var te *rabbitmq.TopologyError
	require.ErrorAs(t, err, &te)
	require.ErrorContains(t, err, "exchange lovage.probe")
	require.ErrorContains(t, err, "passive mode")
	require.NotContains(t, err.Error(), "delete or rename", "there is nothing to delete")

	o.Passive = true
	seen, logged := observer.New(zapcore.WarnLevel)
	o.Log = zap.New(seen)
	p := rabbitmq.NewPublisher(rabbitmq.PublisherOptions{Options: o})
	background(t, p.Run)
	require.Eventually(t, func() bool {
		for _, e := range logged.All() {
			if text, _ := e.ContextMap()["error"].(string); e.Message == "publisher not connected" {
				require.Contains(t, text, "exchange lovage.probe does not exist")
				return true
			}
		}
		return false
	}, patience, 10*time.Millisecond)

	allow(".*")
	publisher(t, rabbitmq.PublisherOptions{Options: options(t, broker.URL())})
	allow("^$")
	awaitState(t, p, "up") // it has waited for what was missing
	p.Adopt("q")
	for delay, missing := range map[time.Duration]string{0: "queue q does", time.Second: "exchange lovage_delayed_0 does"} {
		err = enqueue(t, p, "q", delay, "a")
		require.ErrorIs(t, err, messages.ErrQueueMissing)
		require.ErrorContains(t, err, missing)
	}
}
