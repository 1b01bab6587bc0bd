//go:build outage

package outage_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

const (
	patience = 60 * time.Second
	deadline = 2 * time.Second // LOVAGE_PUBLISH_TIMEOUT
	queue    = "outage"
	taskName = "outage.noop"
)

// stack is a broker, a store, a proxy before each, and a worker that reaches
// both directly: what happens to the worker is not what is looked at.
type stack struct {
	t          *testing.T
	broker     *devstack.RabbitMQInstance
	redis      *devstack.RedisInstance
	amqpProxy  *proxy
	redisProxy *proxy
	store      *results.Store
	executions *executions
	worker     *devstack.Process
	idle       string // where the bystander is
}

func newStack(t *testing.T) *stack {
	t.Helper()
	s := &stack{t: t, broker: devstack.RabbitMQ(t), redis: devstack.RedisServer(t)}
	s.amqpProxy = newProxy(t, "rabbitmq", s.broker.Address())
	s.redisProxy = newProxy(t, "redis", s.redis.Address())
	client, err := results.Open(s.redis.URL())
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	s.store = results.New(results.Options{Client: client})
	s.executions = &executions{t: t, path: filepath.Join(t.TempDir(), "executions"), count: map[string]int{}}
	s.startWorker()
	s.idle = "http://" + s.spawn("bystander").await("bystander listens")["address"].(string)
	return s
}

func (s *stack) startWorker() {
	s.t.Helper()
	p := s.spawnAt(yielding, "noopworker", "LOVAGE_AMQP_URL="+s.broker.URL(), "LOVAGE_REDIS_URL="+s.redis.URL(),
		"LOVAGE_QUEUE="+queue, "LOVAGE_OUTAGE_EXECUTIONS="+s.executions.path)
	p.await("consumer connected")
	s.worker = p.Process
}

func (s *stack) stopWorker() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	require.NoError(s.t, s.worker.Stop(ctx))
}

// gateway is a gateway that reaches the servers through the proxies.
type gateway struct {
	*program
	url string
}

func (s *stack) startGateway(t *testing.T) *gateway {
	t.Helper()
	at := *s
	at.t = t
	p := at.spawn("gateway", "LOVAGE_AMQP_URL="+s.amqpProxy.through(s.broker.URL()), "LOVAGE_REDIS_URL="+s.redisProxy.through(s.redis.URL()),
		"LOVAGE_LISTEN=127.0.0.1:0", "LOVAGE_PUBLISH_TIMEOUT="+deadline.String())
	return &gateway{program: p, url: "http://" + p.await("gateway listens")["address"].(string)}
}

// awaitWell waits until the gateway has what it needs.
func (g *gateway) awaitWell() {
	g.t.Helper()
	require.Eventually(g.t, func() bool {
		h := g.health()
		return h.RabbitMQ == "up" && h.Redis == "up" && h.Tasks > 0
	}, patience, 20*time.Millisecond, "gateway is connected")
}

// awaitBroker waits until the gateway knows how the broker is.
func (g *gateway) awaitBroker(up bool) {
	g.t.Helper()
	require.Eventually(g.t, func() bool { return (g.health().RabbitMQ == "up") == up }, patience, 20*time.Millisecond)
}

// health is what /readyz says.
type health struct {
	RabbitMQ string
	Redis    string
	Tasks    int
}

func (g *gateway) health() (h health) {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), http.MethodGet, g.url+"/readyz", nil)
	require.NoError(g.t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(g.t, err)
	defer func() { _ = res.Body.Close() }()
	require.NoError(g.t, json.NewDecoder(res.Body).Decode(&h))
	return h
}

// program is one of our programs with its log.
type program struct {
	*devstack.Process
	t   *testing.T
	log string
}

func (s *stack) spawn(name string, env ...string) *program {
	s.t.Helper()
	return s.spawnAt(0, name, env...)
}

// yielding is the priority of what has machines of its own elsewhere, and must
// not take the processors from what is measured here.
const yielding = 10

func (s *stack) spawnAt(nice int, name string, env ...string) *program {
	s.t.Helper()
	p := &program{t: s.t, log: filepath.Join(s.t.TempDir(), name+".log")}
	var err error
	p.Process, err = devstack.Spawn(s.t.Context(), devstack.Spec{
		Path: "nice", Args: []string{"-n", strconv.Itoa(nice), filepath.Join(binDir, name)}, Env: append(os.Environ(), env...), Dir: binDir, Log: p.log,
	})
	require.NoError(s.t, err)
	s.t.Cleanup(func() {
		require.NoError(p.t, p.Kill())
		if p.t.Failed() {
			p.t.Logf("the end of the log of %s:\n%s", name, p.troubles())
		}
	})
	return p
}

// await returns the first line of the log with the message.
func (p *program) await(msg string) (line map[string]any) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		text, err := os.ReadFile(p.log)
		require.NoError(p.t, err)
		for l := range bytes.Lines(text) {
			line = nil
			if json.Unmarshal(l, &line) == nil && line["msg"] == msg {
				return true
			}
		}
		return false
	}, patience, 20*time.Millisecond, "log line %q", msg)
	return line
}

// troubles are the last lines of the log that are not about requests.
func (p *program) troubles() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	var kept []string
	for l := range strings.Lines(string(text)) {
		if !strings.Contains(l, `"request_id"`) {
			kept = append(kept, l)
		}
	}
	return strings.Join(kept[max(0, len(kept)-60):], "")
}

// goroutines ends the program with SIGQUIT and counts those of its last words.
func (p *program) goroutines() int {
	p.t.Helper()
	require.NoError(p.t, p.Signal(syscall.SIGQUIT))
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	require.NoError(p.t, p.Wait(ctx))
	text, err := os.ReadFile(p.log)
	require.NoError(p.t, err)
	return bytes.Count(text, []byte("\ngoroutine "))
}

// executions counts how often each task ran.
type executions struct {
	t    *testing.T
	path string

	mu    sync.Mutex
	at    int64
	count map[string]int
}

// counts returns how often each of the ids ran until now.
func (e *executions) counts(ids []string) map[string]int {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.read()
	out := make(map[string]int, len(ids))
	for _, id := range ids {
		out[id] = e.count[id]
	}
	return out
}

func (e *executions) read() {
	f, err := os.Open(e.path)
	require.NoError(e.t, err)
	defer func() { _ = f.Close() }()
	_, err = f.Seek(e.at, 0)
	require.NoError(e.t, err)
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return // the rest of a line comes with the next look
		}
		e.at += int64(len(line))
		e.count[strings.TrimSpace(line)]++
	}
}

// rawConfirm tries with a connection of its own at a time until the broker has
// confirmed a message to the queue, and returns when that was.
func rawConfirm(ctx context.Context, url string) (time.Time, error) {
	for {
		if err := rawPublish(ctx, url); err == nil {
			return time.Now(), nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, context.Cause(ctx)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func rawPublish(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	return withChannel(ctx, url, func(ch *amqp.Channel) error {
		if err := ch.Confirm(false); err != nil {
			return err
		}
		c, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", queue, true, false, amqp.Publishing{
			ContentType: "application/json", DeliveryMode: amqp.Persistent,
			Headers: amqp.Table{"task": taskName, "id": "raw-" + messages.NewID()}, Body: []byte(`[[],{},null]`),
		})
		if err != nil {
			return err
		}
		_, err = c.WaitContext(ctx)
		return err
	})
}

// ready is how many messages of a queue wait.
func (s *stack) ready(name string) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	n := 0
	require.NoError(s.t, withChannel(ctx, s.broker.URL(), func(ch *amqp.Channel) error {
		q, err := ch.QueueDeclarePassive(name, true, false, false, false, nil)
		n = q.Messages
		return err
	}))
	return n
}
