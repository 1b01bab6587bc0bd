package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
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

func TestBatchOfManyItemsIsAnsweredInOrderWithLittleMemory(t *testing.T) {
	t.Parallel()
	s, g := newBatchStack(t)
	many := 100_000
	if nightly() {
		many = 1_000_000
	}
	// This gateway has done nothing yet: what it needs once counts as well.
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
	t.Logf("%d items: from %d to %d KiB", many, before>>10, peak>>10)
	require.Less(t, peak-before, 30<<20, "the gateway grew from %d to %d", before, peak)
	q, err := s.channel().QueueInspect("default") //nolint:staticcheck // it is what this version has
	require.NoError(t, err)
	// A broker that is too busy to confirm in time is sent some of them again.
	resent, err := strconv.Atoi(s.metric(s.url+"/metrics", "lovage_publish_resends_total"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, q.Messages, many)
	require.LessOrEqual(t, q.Messages, many+resent)
}

func TestBatchesOfSlowReadersHoldLittleMemory(t *testing.T) {
	t.Parallel()
	s, g := newBatchStack(t, "LOVAGE_PPROF_LISTEN=127.0.0.1:0")
	s.batch(t.Context(), items(5000, "warm")).drain(5000)
	const readers = 8
	length := 10 * time.Second
	if nightly() {
		length = 2 * time.Minute // more than the usual patience of a server
	}
	before := s.held(g)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	client := smallBuffers(t)
	var outs []*answers
	for i := range readers {
		outs = append(outs, s.batchBy(ctx, client, endless("slow"+strconv.Itoa(i))))
	}
	s.standsStill()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < length; <-tick.C {
		for _, out := range outs {
			require.Equal(t, http.StatusAccepted, out.next().Status)
		}
	}
	s.standsStill()
	each := (s.held(g) - before) / readers
	t.Logf("each of %d readers: %d KiB", readers, each>>10)
	require.Less(t, each, 1<<20)
}

// held is what the gateway has in use after a collection, in bytes: its heap
// and its stacks.
func (s *stack) held(g *process) (sum int) {
	s.t.Helper()
	s.metric("http://"+g.await("profiles are served")["address"].(string)+"/debug/pprof/heap?gc=1", "")
	for _, name := range []string{"go_memstats_heap_alloc_bytes", "go_memstats_stack_inuse_bytes"} {
		n, err := strconv.ParseFloat(s.metric(s.url+"/metrics", name), 64)
		require.NoError(s.t, err)
		sum += int(n)
	}
	return sum
}

func TestBatchOfASlowReaderStandsStillAndGoesOn(t *testing.T) {
	t.Parallel()
	s, _ := newBatchStack(t)
	s.batch(t.Context(), items(5000, "warm")).drain(5000)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := s.batch(ctx, endless("slow"))
	out.next()
	s.standsStill()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for range 5 {
		<-tick.C
		require.Equal(t, http.StatusAccepted, out.next().Status)
	}

	cancel()
	s.batch(t.Context(), items(10, "after")).drain(10)
}

// nightly asks for the long forms.
func nightly() bool { return os.Getenv("LOVAGE_NIGHTLY") == "true" }

// newBatchStack has a queue that nobody works in.
func newBatchStack(t *testing.T, env ...string) (*stack, *process) {
	t.Helper()
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	g := s.gateway(env...)
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
	return s.batchBy(ctx, http.DefaultClient, body)
}

func (s *stack) batchBy(ctx context.Context, client *http.Client, body io.Reader) *answers {
	s.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/batches", body)
	require.NoError(s.t, err)
	req.Header.Set("Content-Type", "application/x-ndjson")
	res, err := client.Do(req)
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

// standsStill waits until the sockets hold all the answers that they can, and
// the gateway submits nothing more: what it has not read yet, the sockets hold
// as well.
func (s *stack) standsStill() {
	s.t.Helper()
	last := ""
	since := time.Now()
	// It takes as long as the machine needs for so many submissions.
	require.Eventually(s.t, func() bool {
		if now := s.metric(s.url+"/metrics", `lovage_submissions_total{outcome="accepted"}`); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 3*time.Second
	}, 3*patience, 20*time.Millisecond, "nothing more is submitted")
}

// smallBuffers returns a client whose sockets hold little.
func smallBuffers(t *testing.T) *http.Client {
	t.Helper()
	dialer := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
	}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
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
