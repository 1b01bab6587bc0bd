// Package e2e_test runs the real programs against a real RabbitMQ and a real
// Redis, and looks at them from outside, as their users do.
package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
)

const patience = 60 * time.Second

// binDir holds the programs, built once for all tests.
//
//nolint:gochecknoglobals // TestMain has no other way to hand it to the tests
var binDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lovage-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	build := exec.Command("go", "build", "-o", dir, "../../services/gateway", "../../services/worker", "../../cmd/lovage", "./celeryworker", "../outage/ledgerworker") //nolint:noctx // TestMain has no context
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	binDir = dir
	return m.Run()
}

// stack is one gateway with its broker and store; workers are added to it.
type stack struct {
	t     testing.TB
	amqp  string
	redis string
	url   string // of the gateway
	// header goes with every request, and lovageEnv to the command line.
	header    http.Header
	lovageEnv []string
}

func newStack(tb testing.TB, env ...string) *stack {
	tb.Helper()
	s := &stack{t: tb, amqp: devstack.VHost(tb), redis: devstack.Redis(tb)}
	s.gateway(env...)
	return s
}

// gateway starts the gateway of the stack.
func (s *stack) gateway(env ...string) *process {
	s.t.Helper()
	p := s.start("gateway", append(env, "LOVAGE_LISTEN=127.0.0.1:0")...)
	s.url = "http://" + p.await("gateway listens")["address"].(string)
	s.eventually(func() bool {
		var h map[string]any
		return s.get("/readyz", &h) == http.StatusOK && h["rabbitmq"] == "up" && h["redis"] == "up"
	}, "gateway is connected")
	return p
}

// worker starts a worker and waits until the gateway knows its tasks.
func (s *stack) worker(env ...string) *process {
	s.t.Helper()
	p := s.start("worker", env...)
	p.await("consumer connected")
	s.eventually(func() bool {
		var c struct {
			Tasks []struct{ Name string } `json:"tasks"`
		}
		return s.get("/v1/catalog", &c) == http.StatusOK && len(c.Tasks) > 0
	}, "the catalog has tasks")
	return p
}

func (s *stack) eventually(fn func() bool, what string, args ...any) {
	s.t.Helper()
	require.Eventually(s.t, fn, patience, 20*time.Millisecond, append([]any{what}, args...)...)
}

func (s *stack) get(path string, into any) int {
	s.t.Helper()
	status, body := s.do(http.MethodGet, path, nil, nil)
	require.NoError(s.t, json.Unmarshal(body, into), "%s: %s", path, body)
	return status
}

func (s *stack) do(method, path string, body any, header http.Header) (int, []byte) {
	s.t.Helper()
	var in io.Reader = http.NoBody
	if body != nil {
		b, err := json.Marshal(body)
		require.NoError(s.t, err)
		in = bytes.NewReader(b)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, in)
	require.NoError(s.t, err)
	if header != nil {
		req.Header = header.Clone()
	}
	maps.Copy(req.Header, s.header)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	defer func() { _ = res.Body.Close() }()
	out, err := io.ReadAll(res.Body)
	require.NoError(s.t, err)
	return res.StatusCode, out
}

// view is a task as the API shows it.
type view struct {
	TaskID   string          `json:"task_id"`
	State    string          `json:"state"`
	Name     string          `json:"name"`
	Worker   string          `json:"worker"`
	Queue    string          `json:"queue"`
	Retries  int             `json:"retries"`
	Result   json.RawMessage `json:"result"`
	Progress *struct{ Current, Total, Percent float64 }
	Error    *struct {
		Type, Message, Traceback string
	}
}

// patient is the header of a submission that waits for a busy broker: the first
// delay declares its levels, which takes a while.
func patient() http.Header { return http.Header{"Request-Timeout": {"20"}} }

// sleep submits a sleep_task of some seconds and returns its id.
func (s *stack) sleep(seconds int, query string) string {
	s.t.Helper()
	status, body := s.do(http.MethodPost, "/v1/tasks/sleep_task"+query, map[string]any{"duration": seconds}, patient())
	require.Equal(s.t, http.StatusAccepted, status, "%s", body)
	var v view
	require.NoError(s.t, json.Unmarshal(body, &v))
	return v.TaskID
}

func (s *stack) task(id string) view {
	s.t.Helper()
	var v view
	s.get("/v1/tasks/"+id, &v)
	return v
}

func (s *stack) await(id, state string) view {
	s.t.Helper()
	var v view
	s.eventually(func() bool {
		v = s.task(id)
		return v.State == state
	}, "task %s in state %s", id, state)
	return v
}

// channel is a plain client's channel to the broker.
func (s *stack) channel() *amqp.Channel {
	s.t.Helper()
	conn, err := amqp.Dial(s.amqp)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.CloseDeadline(time.Now().Add(time.Second)) })
	ch, err := conn.Channel()
	require.NoError(s.t, err)
	return ch
}

// publishRaw publishes a message past the gateway.
func publishRaw(tb testing.TB, ch *amqp.Channel, exchange, key string, m *messages.Message) {
	tb.Helper()
	delete(m.Headers, "stamps") // a map, which the library wants as its own type
	require.NoError(tb, ch.PublishWithContext(tb.Context(), exchange, key, true, false, amqp.Publishing{
		Headers: m.Headers, ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, DeliveryMode: amqp.Persistent,
		MessageId: m.MessageID, CorrelationId: m.CorrelationID, Body: m.Body,
	}))
}

// process is one program with its log.
type process struct {
	t   testing.TB
	cmd *exec.Cmd

	mu    sync.Mutex
	lines []map[string]any
	ended chan struct{}
}

func (s *stack) start(name string, env ...string) *process {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(binDir, name)) //nolint:noctx // ended by signal
	cmd.Env = append(os.Environ(), "LOVAGE_AMQP_URL="+s.amqp, "LOVAGE_REDIS_URL="+s.redis)
	cmd.Env = append(cmd.Env, env...)
	return s.launch(name, cmd)
}

// launch starts a program, follows its log and kills it when the test is over.
func (s *stack) launch(name string, cmd *exec.Cmd) *process {
	s.t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stderr, err := cmd.StderrPipe()
	require.NoError(s.t, err)
	require.NoError(s.t, cmd.Start())
	p := &process{t: s.t, cmd: cmd, ended: make(chan struct{})}
	go p.follow(stderr)
	s.t.Cleanup(func() {
		p.signal(syscall.SIGCONT)
		p.signal(syscall.SIGKILL)
		<-p.ended
		if s.t.Failed() {
			s.t.Logf("%s: %v", name, p.log())
		}
	})
	return p
}

func (p *process) follow(r io.Reader) {
	defer close(p.ended)
	for sc := bufio.NewScanner(r); sc.Scan(); {
		var line map[string]any
		if json.Unmarshal(sc.Bytes(), &line) != nil {
			line = map[string]any{"msg": sc.Text()}
		}
		p.mu.Lock()
		p.lines = append(p.lines, line)
		p.mu.Unlock()
	}
	_ = p.cmd.Wait() // the exit code is asked for where it matters
}

func (p *process) log() []map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]map[string]any(nil), p.lines...)
}

// await returns the first line with the message.
func (p *process) await(msg string) map[string]any {
	p.t.Helper()
	return p.find(msg, func(m string) bool { return m == msg })
}

// awaitText waits for a line that contains the text.
func (p *process) awaitText(text string) {
	p.t.Helper()
	p.find(text, func(m string) bool { return strings.Contains(m, text) })
}

func (p *process) find(what string, match func(msg string) bool) (found map[string]any) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		for _, line := range p.log() {
			if m, _ := line["msg"].(string); match(m) {
				found = line
				return true
			}
		}
		return false
	}, patience, 10*time.Millisecond, "log line %q", what)
	return found
}

func (p *process) signal(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // it may have ended
}

func (p *process) exit() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		require.FailNow(p.t, "process did not end")
	}
	return p.cmd.ProcessState.ExitCode()
}
