package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/results"
)

// ledger is an endpoint for http_request that counts the calls of each task.
type ledger struct {
	url   string
	mu    sync.Mutex
	calls map[string]int
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	l := &ledger{calls: map[string]int{}}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.calls[strings.TrimSuffix(r.Header.Get("Idempotency-Key"), ":0")]++
	}))
	t.Cleanup(srv.Close)
	l.url = srv.URL
	return l
}

// answer is what a keyed submission was answered.
type answer struct {
	status   int
	replayed bool
	body     string
	task     view
	problem  string
}

// entry submits a call of the ledger under a key. It is safe for use by several
// goroutines, and fails where a gateway is gone.
func (s *stack) entry(l *ledger, key string) (answer, error) {
	input := fmt.Sprintf(`{"method":"GET","url":%q,"headers":{"X-Entry":%q}}`, l.url, key)
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/v1/tasks/http_request", strings.NewReader(input))
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key != "" {
		req.Header.Set("Idempotency-Key", `"`+key+`"`)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{status: res.StatusCode, replayed: res.Header.Get("Idempotency-Replayed") == "true", body: string(body)}
	var p struct {
		Type string `json:"type"`
	}
	if a.status == http.StatusAccepted {
		err = json.Unmarshal(body, &a.task)
	} else if err = json.Unmarshal(body, &p); err == nil {
		a.problem = p.Type
	}
	return a, err
}

// accepted submits again and again, as a client does that is told to, until the
// gateway accepts.
func (s *stack) accepted(l *ledger, key string) answer {
	s.t.Helper()
	var a answer
	s.eventually(func() bool {
		var err error
		a, err = s.entry(l, key)
		require.NoError(s.t, err)
		require.Contains(s.t, []int{http.StatusAccepted, http.StatusConflict, http.StatusServiceUnavailable, http.StatusGatewayTimeout}, a.status, a.body)
		return a.status == http.StatusAccepted
	}, "key %s is accepted", key)
	return a
}

// settled lets the worker finish everything, and returns how often each task
// was run.
func (s *stack) settled(w *process, l *ledger) map[string]int {
	s.t.Helper()
	ch := s.channel()
	s.eventually(func() bool {
		q, err := ch.QueueDeclarePassive("default", true, false, false, false, nil)
		require.NoError(s.t, err)
		return q.Messages == 0
	}, "the queue is empty")
	w.signal(syscall.SIGTERM)
	require.Equal(s.t, 0, w.exit())
	q, err := ch.QueueDeclarePassive("default", true, false, false, false, nil)
	require.NoError(s.t, err)
	require.Zero(s.t, q.Messages, "the worker gave nothing back")
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls
}

const allowLedger = "LOVAGE_HTTP_ALLOW=127.0.0.1"

func TestSameKeyTwiceIsOneTask(t *testing.T) {
	t.Parallel()
	s, l := newStack(t), newLedger(t)
	w := s.worker(allowLedger)
	first := s.accepted(l, "order-1")
	require.False(t, first.replayed)
	again, err := s.entry(l, "order-1")
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, again.status, again.body)
	require.True(t, again.replayed)
	require.Equal(t, first.body, again.body)

	other, err := s.entry(newLedger(t), "order-1")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnprocessableEntity, other.status)
	require.Equal(t, "urn:lovage:problem:idempotency-key-reused", other.problem)

	s.await(first.task.TaskID, "SUCCESS")
	require.Equal(t, map[string]int{first.task.TaskID: 1}, s.settled(w, l))
}

// The broker hangs, so the gateway dies in the middle of a publish whose
// message may or may not have arrived.
func TestGatewayKilledBetweenReservationAndConfirmStillYieldsOneTask(t *testing.T) {
	t.Parallel()
	broker, l := devstack.RabbitMQ(t), newLedger(t)
	s := &stack{t: t, amqp: broker.URL(), redis: devstack.Redis(t)}
	client := openRedis(t, s.redis)
	g := s.gateway()
	w := s.worker(allowLedger)
	require.NoError(t, broker.Freeze())
	answered := make(chan error, 1)
	go func() {
		_, err := s.entry(l, "order-1")
		answered <- err
	}()
	var reserved string
	s.eventually(func() bool {
		names, err := client.Keys(t.Context(), "lovage:idem:*").Result()
		require.NoError(t, err)
		if len(names) == 0 {
			return false
		}
		reserved, err = client.HGet(t.Context(), names[0], "id").Result()
		require.NoError(t, err)
		return true
	}, "the key is reserved")
	g.signal(syscall.SIGKILL)
	require.Error(t, <-answered)
	<-g.ended
	require.NoError(t, broker.Thaw())

	s.gateway()
	a := s.accepted(l, "order-1")
	require.Equal(t, reserved, a.task.TaskID)
	s.await(reserved, "SUCCESS")
	require.Equal(t, map[string]int{reserved: 1}, s.settled(w, l))
}

func TestGatewayKilledUnderLoadLosesAndDoublesNoKey(t *testing.T) {
	t.Parallel()
	const keys, clients = 120, 12
	s, l := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}, newLedger(t)
	g := s.gateway()
	w := s.worker(allowLedger, "LOVAGE_CONCURRENCY=4")
	answers := make([]answer, keys)
	var next, accepted atomic.Int64
	var working sync.WaitGroup
	for range clients {
		working.Go(func() {
			for i := next.Add(1) - 1; i < keys; i = next.Add(1) - 1 {
				a, err := s.entry(l, fmt.Sprint("order-", i))
				if err != nil {
					continue // the gateway is gone
				}
				answers[i] = a
				if accepted.Add(1) == keys/3 {
					g.signal(syscall.SIGKILL)
				}
			}
		})
	}
	working.Wait()
	<-g.ended
	require.GreaterOrEqual(t, accepted.Load(), int64(keys/3))
	require.Less(t, accepted.Load(), int64(keys), "it died before it had answered all")

	s.gateway()
	want := map[string]int{}
	for i, before := range answers {
		a := s.accepted(l, fmt.Sprint("order-", i))
		if before.status == http.StatusAccepted {
			require.Equal(t, before.task.TaskID, a.task.TaskID, "what was answered stands")
		}
		want[a.task.TaskID] = 1
	}
	require.Len(t, want, keys)
	for id := range want {
		s.await(id, "SUCCESS")
	}
	require.Equal(t, want, s.settled(w, l))
}

func TestWithoutRedisOnlyKeyedSubmissionsAreRefused(t *testing.T) {
	t.Parallel()
	server, l := devstack.RedisServer(t), newLedger(t)
	s := &stack{t: t, amqp: devstack.VHost(t), redis: server.URL()}
	s.gateway()
	w := s.worker(allowLedger)
	require.NoError(t, server.Stop(t.Context()))
	refused, err := s.entry(l, "order-1")
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, refused.status)
	require.Equal(t, "urn:lovage:problem:idempotency-store-unavailable", refused.problem)
	unkeyed, err := s.entry(l, "")
	require.NoError(t, err)
	require.Equal(t, http.StatusAccepted, unkeyed.status, unkeyed.body)

	require.NoError(t, server.Start(t.Context()))
	again := s.accepted(l, "order-1")
	s.await(again.task.TaskID, "SUCCESS")
	s.await(unkeyed.task.TaskID, "SUCCESS")
	require.Equal(t, map[string]int{again.task.TaskID: 1, unkeyed.task.TaskID: 1}, s.settled(w, l))
}

// openRedis looks into the Redis of a stack.
func openRedis(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	client, err := results.Open(url + "?read_timeout=" + (20 * time.Second).String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}
