package e2e_test

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestServicesStartWithoutRabbitMQAndRedisAndWorkWhenTheyAppear(t *testing.T) {
	t.Parallel()
	broker, redis := devstack.RabbitMQ(t), devstack.RedisServer(t)
	require.NoError(t, broker.Kill())
	require.NoError(t, redis.Kill())
	s := &stack{t: t, amqp: broker.URL(), redis: redis.URL()}
	g := s.start("gateway", "LOVAGE_LISTEN=127.0.0.1:0")
	s.url = "http://" + g.await("gateway listens")["address"].(string)
	w := s.start("worker", "LOVAGE_LISTEN=127.0.0.1:0")
	g.await("publisher not connected")
	w.await("consumer not connected")
	var h map[string]any
	s.eventually(func() bool {
		require.Equal(t, http.StatusOK, s.get("/readyz", &h), "ready to answer requests")
		return h["rabbitmq"] == "down" && h["redis"] == "down"
	}, "readyz reports both")
	status, body := s.do(http.MethodPost, "/v1/tasks", json.RawMessage(`{"task":"sleep_task","kwargs":{"duration":1},"options":{"queue":"default"}}`), nil)
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, string(body), "broker-unavailable")

	require.NoError(t, broker.Start(t.Context()))
	require.NoError(t, redis.Start(t.Context()))
	s.eventually(func() bool {
		s.get("/readyz", &h)
		return h["rabbitmq"] == "up" && h["redis"] == "up" && h["tasks"].(float64) > 0
	}, "both are back")
	s.await(s.sleep(1, ""), "SUCCESS")
}

func TestWhatCannotBeRunIsADeadLetterAndTheWorkerGoesOn(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	ch := s.channel()
	publish := func(m amqp.Publishing) {
		t.Helper()
		require.NoError(t, ch.PublishWithContext(t.Context(), "", "default", true, false, m))
	}
	id := messages.NewID()
	publish(amqp.Publishing{ContentType: "application/json", Headers: amqp.Table{"task": "no.such", "id": id}, Body: []byte(`[[],{},null]`)})
	publish(amqp.Publishing{ContentType: "application/json", Headers: amqp.Table{"task": "sleep_task", "id": "bad-input"}, Body: []byte(`[[],{"duration":-1,"x":1},null]`)})
	publish(amqp.Publishing{ContentType: "application/json", Headers: amqp.Table{"task": "sleep_task", "id": "garbage"}, Body: []byte(`\x00 not JSON`)})
	publish(amqp.Publishing{Body: []byte("neither a task nor an id")})

	v := s.await(id, "FAILURE")
	require.Equal(t, "NotRegistered", v.Error.Type)
	v = s.await("bad-input", "FAILURE")
	require.Contains(t, v.Error.Message, "duration")
	require.Contains(t, v.Error.Message, "x")
	s.await("garbage", "FAILURE")
	s.await(s.sleep(1, ""), "SUCCESS")

	dead, err := ch.Consume("default.dead", "", true, false, false, false, nil)
	require.NoError(t, err)
	reasons := map[string]int{}
	for range 4 {
		select {
		case d := <-dead:
			reasons[d.Headers["lovage_dead_reason"].(string)]++
		case <-time.After(patience):
			require.FailNow(t, "no dead letter", "%v", reasons)
		}
	}
	require.Equal(t, map[string]int{"unknown-task": 1, "invalid-input": 1, "undecodable": 2}, reasons)
}

func TestWhatTheBrokerRejectsGetsAnOutcomeFromTheClerk(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker()
	w.signal(syscall.SIGTERM)
	require.Equal(t, 0, w.exit())
	id := s.sleep(1, "")
	ch := s.channel()
	d, ok, err := ch.Get("default", false)
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, d.Reject(false))
	v := s.await(id, "FAILURE")
	require.Equal(t, "Rejected", v.Error.Type)
	dead, err := ch.Consume("default.dead", "", true, false, false, false, nil)
	require.NoError(t, err)
	require.Equal(t, "broker", (<-dead).Headers["lovage_dead_reason"])
}

func TestGatewayWithoutCredentialsStaysOnLoopback(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), filepath.Join(binDir, "gateway"), "--listen", "0.0.0.0:0")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "LOVAGE_INSECURE_NO_AUTH")
}

func TestStoppingGatewayFinishesTheRequestsInFlight(t *testing.T) {
	t.Parallel()
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	g := s.gateway()
	s.worker()
	answered := make(chan int, 1)
	id := messages.NewID()
	go func() {
		status, _ := s.do(http.MethodPost, "/v1/tasks/sleep_task?task_id="+id, map[string]any{"duration": 2}, http.Header{"Prefer": {"wait=30"}})
		answered <- status
	}()
	s.await(id, "PROGRESS")
	g.signal(syscall.SIGTERM)
	require.Contains(t, []int{http.StatusAccepted, http.StatusOK}, <-answered, "answered, not reset")
	require.Equal(t, 0, g.exit())
}

func TestMetricsTellOutcomesAndTheBrokersState(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	s.worker()
	s.sleep(1, "")
	status, _ := s.do(http.MethodPost, "/v1/tasks/nosuch", map[string]any{}, nil)
	require.Equal(t, http.StatusNotFound, status)
	_, body := s.do(http.MethodGet, "/metrics", nil, nil)
	for _, line := range []string{
		`lovage_submissions_total{outcome="accepted"} 1`,
		`lovage_submissions_total{outcome="unknown-task"} 1`,
		`lovage_publish_total{outcome="confirmed"} 1`,
		`lovage_publish_total{outcome="unconfirmed"} 0`,
		`lovage_publish_seconds_count 1`,
		`lovage_publish_in_flight 0`,
		`lovage_publish_waiting 0`,
		`lovage_broker_state{state="up"} 1`,
		`lovage_broker_state{state="down"} 0`,
		`lovage_confirms_overdue_total 0`,
		`lovage_publish_resends_total 0`,
		`lovage_queues_ill 0`,
		`lovage_records_dropped_total 0`,
	} {
		require.Contains(t, string(body), line+"\n")
	}
}
