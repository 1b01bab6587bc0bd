package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// batchAnswer is the answer to one item.
type batchAnswer struct {
	Index   int    `json:"index"`
	Status  int    `json:"status"`
	TaskID  string `json:"task_id"`
	State   string `json:"state"`
	Problem *struct {
		Type   string `json:"type"`
		Detail string `json:"detail"`
	} `json:"problem"`
}

func TestBatchOfManyItemsIsAnsweredInOrderWithConstantMemory(t *testing.T) {
	t.Parallel()
	s, g := newBatchStack(t)
	const many = 20_000
	// The first batch fills what is bounded by other limits, such as the
	// records that wait for Redis, and makes the heap as large as it gets.
	s.batch(t.Context(), items(many, "warm")).drain(many)
	before := g.memory()

	out := s.batch(t.Context(), items(many, "item"))
	peak := 0
	for i := range many {
		a := out.next()
		require.Equal(t, i, a.Index)
		require.Equal(t, http.StatusAccepted, a.Status, "%+v", a.Problem)
		require.Equal(t, "item-"+strconv.Itoa(i), a.TaskID)
		require.Equal(t, "PENDING", a.State)
		if i%500 == 0 {
			peak = max(peak, g.memory())
		}
	}
	out.end()
	require.Less(t, peak-before, 30<<20, "the gateway grew from %d to %d", before, peak)
	q, err := s.channel().QueueInspect("default") //nolint:staticcheck // it is what this version has
	require.NoError(t, err)
	require.Equal(t, 2*many, q.Messages)
}

func TestBatchOfASlowReaderStandsStillAndGoesOn(t *testing.T) {
	t.Parallel()
	s, _ := newBatchStack(t)
	s.batch(t.Context(), items(5000, "warm")).drain(5000)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := &counter{in: endless("slow")}
	out := s.batch(ctx, sent)
	out.next()
	// What the sockets hold is sent and answered; then everything stands still.
	var last int64
	since := time.Now()
	s.eventually(func() bool {
		if now := sent.bytes.Load(); now != last {
			last, since = now, time.Now()
		}
		return last > 0 && time.Since(since) > 2*time.Second
	}, "nothing more is read")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range 5 {
		<-tick.C
		require.Equal(t, http.StatusAccepted, out.next().Status)
	}

	cancel()
	s.batch(t.Context(), items(10, "after")).drain(10)
}

// newBatchStack has a queue that nobody works in.
func newBatchStack(t *testing.T) (*stack, *process) {
	t.Helper()
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	g := s.gateway()
	s.idleQueue()
	return s, g
}

// answers are those of one batch, as they come.
type answers struct {
	t  *testing.T
	in *bufio.Scanner
}

// batch sends NDJSON and returns when the answers begin.
func (s *stack) batch(ctx context.Context, body io.Reader) *answers {
	s.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/batches", body)
	require.NoError(s.t, err)
	req.Header.Set("Content-Type", "application/x-ndjson")
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = res.Body.Close() })
	require.Equal(s.t, http.StatusOK, res.StatusCode)
	require.Equal(s.t, "application/x-ndjson", res.Header.Get("Content-Type"))
	return &answers{t: s.t.(*testing.T), in: bufio.NewScanner(res.Body)}
}

func (a *answers) next() batchAnswer {
	a.t.Helper()
	require.True(a.t, a.in.Scan(), "%v", a.in.Err())
	var v batchAnswer
	require.NoError(a.t, json.Unmarshal(a.in.Bytes(), &v), a.in.Text())
	return v
}

func (a *answers) drain(n int) {
	a.t.Helper()
	for range n {
		require.Equal(a.t, http.StatusAccepted, a.next().Status)
	}
	a.end()
}

func (a *answers) end() {
	a.t.Helper()
	require.False(a.t, a.in.Scan(), a.in.Text())
	require.NoError(a.t, a.in.Err())
}

// counter counts what was read of it.
type counter struct {
	in    io.Reader
	bytes atomic.Int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// items writes envelopes as they are read.
func items(n int, prefix string) io.Reader { return &itemWriter{left: n, prefix: prefix} }

func endless(prefix string) io.Reader { return &itemWriter{left: 1 << 40, prefix: prefix} }

type itemWriter struct {
	prefix     string
	next, left int
	buf        bytes.Buffer
}

func (w *itemWriter) Read(p []byte) (int, error) {
	for w.left > 0 && w.buf.Len() < len(p) {
		fmt.Fprintf(&w.buf, `{"task":"sleep_task","kwargs":{"duration":1},"options":{"task_id":"%s-%d"}}`+"\n", w.prefix, w.next)
		w.next++
		w.left--
	}
	return w.buf.Read(p)
}

// memory is what the process has in RAM, in bytes.
func (p *process) memory() int {
	p.t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(p.t, err)
	_, after, found := strings.Cut(string(status), "VmRSS:")
	require.True(p.t, found)
	n, err := strconv.Atoi(strings.Fields(after)[0])
	require.NoError(p.t, err)
	return n << 10
}
