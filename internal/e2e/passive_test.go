package e2e_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// The programs run as a user who may configure nothing, once they have run and
// delayed a task as one who may.
func TestTasksRunWithoutTheRightToDeclare(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	for _, args := range [][]string{{"add_user", "limited", "limited"}, {"set_permissions", "limited", "^$", ".*", ".*"}} {
		_, err := broker.Ctl(t.Context(), args...)
		require.NoError(t, err)
	}
	s := &stack{t: t, amqp: broker.URL(), redis: devstack.Redis(t)}
	gateway, worker := s.gateway(), s.worker()
	s.await(s.sleep(1, "?countdown=0.5"), "SUCCESS")
	for _, p := range []*process{gateway, worker} {
		p.signal(syscall.SIGTERM)
		require.Equal(t, 0, p.exit())
	}

	s.amqp = strings.Replace(s.amqp, "guest:guest@", "limited:limited@", 1)
	refused := s.start("worker")
	require.NotEqual(t, 0, refused.exit())
	require.Contains(t, refused.await("stopped with an error")["error"], "run in passive mode")

	const passive = "LOVAGE_AMQP_PASSIVE=true"
	s.gateway(passive)
	worker = s.worker(passive, "LOVAGE_SLEEP_MAX=10s")
	s.await(s.sleep(1, ""), "SUCCESS")
	s.await(s.sleep(1, "?countdown=1.5"), "SUCCESS")
	s.await(s.sleep(11, ""), "FAILURE")
	s.eventually(func() bool {
		ids, _ := s.dead()
		return len(ids) == 1
	}, "it is a dead letter")
	worker.signal(syscall.SIGTERM)
	require.Equal(t, 0, worker.exit())
}
