package e2e_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// A task of 40 minutes where RabbitMQ takes back what is not acked for a minute,
// and closes the channel with it. The scale is 1 to 200: 12 s and 300 ms. Only the
// lease is not to scale. On a busy machine the 150 ms for an exchange may be too
// short, and then a channel is closed: the task runs once all the same.
func TestATaskMuchLongerThanTheConsumerTimeoutRunsOnce(t *testing.T) {
	t.Parallel()
	const timeout, long, tasks = 300 * time.Millisecond, 12 * time.Second, 3
	broker := devstack.RabbitMQ(t)
	_, err := broker.Ctl(t.Context(), "eval", fmt.Sprintf(
		"application:set_env(rabbit, consumer_timeout, %d), application:set_env(rabbit, channel_tick_interval, 100).", timeout.Milliseconds()))
	require.NoError(t, err)
	s := &stack{t: t, amqp: broker.URL(), redis: devstack.Redis(t)}
	s.gateway()
	path := filepath.Join(t.TempDir(), "effects")
	w := s.start("ledgerworker", "LOVAGE_QUEUE=long", "LOVAGE_LEDGER_EFFECTS="+path, "LOVAGE_CONSUMER_TIMEOUT="+timeout.String(), "LOVAGE_LEASE=3s")
	w.await("consumer connected")
	s.await(s.act("long", map[string]any{"kind": "flaky", "failures": 1}), "SUCCESS") // the first delay takes long: it declares its queues
	ran, ended := s.count(w, `lovage_claims_total{verdict="run"}`), s.count(w, `lovage_claims_total{verdict="final"}`)

	want := map[string][]string{}
	for range tasks {
		want[s.act("long", map[string]any{"kind": "slow", "millis": long.Milliseconds()})] = []string{"start 1", "ok 1"}
	}
	lost := s.holdsADelivery()
	require.Equal(t, amqp.PreconditionFailed, lost.Code, lost.Reason)
	require.Contains(t, lost.Reason, "timed out", "the broker enforces its timeout")
	for id := range want {
		require.Equal(t, "STARTED", s.task(id).State, "meanwhile")
	}
	for id := range want {
		require.Equal(t, 0, s.await(id, "SUCCESS").Retries)
	}
	s.eventually(func() bool { return s.count(w, `lovage_claims_total{verdict="final"}`) >= ended+tasks }, "the last copies find them ended")

	did := map[string][]string{}
	for _, e := range effects(t, path) {
		if want[e.id] != nil {
			did[e.id] = append(did[e.id], fmt.Sprint(e.what, " ", e.attempt))
		}
	}
	require.Equal(t, want, did)
	require.Equal(t, ran+tasks, s.count(w, `lovage_claims_total{verdict="run"}`))
	require.GreaterOrEqual(t, s.count(w, "lovage_deliveries_exchanged_total"), tasks, "one for each: its copies are acked as they come")
	require.GreaterOrEqual(t, s.count(w, `lovage_claims_total{verdict="busy"}`), tasks, "the copies came while they ran")
	require.Zero(t, s.count(w, "lovage_leases_lost_total"))
}

// holdsADelivery consumes without acking until the broker closes the channel, and
// returns why.
func (s *stack) holdsADelivery() *amqp.Error {
	s.t.Helper()
	ch := s.channel()
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	_, err := ch.QueueDeclare("held", true, false, false, false, nil)
	require.NoError(s.t, err)
	require.NoError(s.t, ch.PublishWithContext(s.t.Context(), "", "held", true, false, amqp.Publishing{}))
	_, err = ch.Consume("held", "", false, false, false, false, nil)
	require.NoError(s.t, err)
	select {
	case why := <-closed:
		return why
	case <-time.After(patience):
		require.FailNow(s.t, "the channel stays open")
		return nil
	}
}
