package e2e_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// Delayed tasks that RabbitMQ could not bring to their queue, because it was
// starting, come to it all the same; those whose queue is gone are kept.
func TestDelayedTasksThatLostTheirWayArrive(t *testing.T) {
	t.Parallel()
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	g := s.gateway()
	s.worker()
	ch := s.channel()
	stray := func(queue string) (id string) {
		task := &messages.Task{ID: messages.NewID(), Name: "sleep_task", Queue: queue, Kwargs: []byte(`{"duration":1}`)}
		m, err := messages.Encode(task)
		require.NoError(t, err)
		publishRaw(t, ch, rabbitmq.UnroutableQueue, rabbitmq.Delayed(queue, time.Second).Key, m)
		return task.ID
	}
	stray("nowhere")
	s.await(stray("default"), "SUCCESS")

	g.signal(syscall.SIGTERM)
	require.Equal(t, 0, g.exit())
	s.eventually(func() bool {
		q, err := ch.QueueDeclarePassive(rabbitmq.UnroutableQueue, true, false, false, false, nil)
		require.NoError(t, err)
		return q.Messages == 1
	}, "the other one is kept")
}
