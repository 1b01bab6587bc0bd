package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// listen serves the API on a socket, with the timeouts of a batch.
func listen(t *testing.T, s *server, times batchTimes) string {
	t.Helper()
	s.times = times
	h := httptest.NewUnstartedServer(s)
	h.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(4 << 10) // so that it is full soon
		return ctx
	}
	h.Start()
	t.Cleanup(h.Close)
	return h.URL
}

// send posts lines and returns the answers once they begin.
func send(ctx context.Context, t *testing.T, url string, body io.Reader) io.Reader {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, post, url+routeBatch, body)
	require.NoError(t, err)
	req.Header.Set("Content-Type", ndjsonType)
	dialer := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		// Later it would be too late: what room there is was told by then.
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
	}}
	client := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext}}
	res, err := client.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = res.Body.Close()
		client.CloseIdleConnections()
	})
	require.Equal(t, http.StatusOK, res.StatusCode)
	return res.Body
}

// lineSource makes up to n items, and counts them.
type lineSource struct {
	n    int64
	made atomic.Int64
	rest []byte
}

func (l *lineSource) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		if l.made.Load() == l.n {
			return 0, io.EOF
		}
		l.rest = []byte(sleepItem(fmt.Sprintf("item-%d", l.made.Add(1)-1)) + "\n")
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func TestBatchOfManyItemsKeepsFewInFlight(t *testing.T) {
	t.Parallel()
	const many = 20_000
	p := &reverse{}
	s := newServer(t, func(o *Options) { o.Publisher, o.Recorder = p, forgetful{} })
	res := send(t.Context(), t, listen(t, s, defaultBatchTimes()), &lineSource{n: many})
	in := bufio.NewScanner(res)
	for i := range many {
		require.True(t, in.Scan())
		if i%1000 != 0 {
			continue
		}
		var l batchLine
		require.NoError(t, json.Unmarshal(in.Bytes(), &l))
		require.Equal(t, batchLine{Index: i, Status: 202, TaskID: fmt.Sprintf("item-%d", i), State: "PENDING"}, l)
	}
	require.False(t, in.Scan())
	require.NoError(t, in.Err())
	require.LessOrEqual(t, p.most, batchWindow)
	require.Equal(t, int64(many), p.sent.Load())
}

type forgetful struct{}

func (forgetful) Record(*messages.Result) bool { return true }

func (forgetful) Await(context.Context, *messages.Result) bool { return true }

func TestBatchWaitsForTheBrokerWithAFullWindow(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p := &reverse{hold: func(string) <-chan struct{} { return release }}
	s := newServer(t, func(o *Options) { o.Publisher, o.PublishTimeout = p, time.Minute })
	src := &lineSource{n: 2000}
	res := send(t.Context(), t, listen(t, s, defaultBatchTimes()), src)
	require.Eventually(t, func() bool { return p.sent.Load() == batchWindow }, 10*time.Second, time.Millisecond)
	close(release)
	lines, err := io.ReadAll(res)
	require.NoError(t, err)
	require.Equal(t, 2000, bytes.Count(lines, []byte(`"status":202`)))
	require.Equal(t, batchWindow, p.most)
}

func TestBatchesTogetherKeepFewInFlight(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p := &reverse{hold: func(string) <-chan struct{} { return release }}
	s := newServer(t, func(o *Options) { o.Publisher, o.PublishTimeout = p, time.Minute })
	url := listen(t, s, defaultBatchTimes())
	const batches = batchesTogether/batchWindow + 2
	var all []io.Reader
	for range batches {
		all = append(all, send(t.Context(), t, url, &lineSource{n: batchWindow}))
	}
	require.Eventually(t, func() bool { return p.sent.Load() == batchesTogether }, 10*time.Second, time.Millisecond)
	close(release)
	for _, res := range all {
		lines, err := io.ReadAll(res)
		require.NoError(t, err)
		require.Equal(t, batchWindow, bytes.Count(lines, []byte(`"status":202`)))
	}
	require.Equal(t, batchesTogether, p.most)
}

func TestBatchRoomBoundsTheBytesInFlight(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p := &reverse{hold: func(string) <-chan struct{} { return release }}
	s := newServer(t, func(o *Options) { o.Publisher, o.PublishTimeout = p, time.Minute })
	item := `{"task":"any","kwargs":{"x":"` + strings.Repeat("x", 100<<10) + `"},"options":{"queue":"q"}}` + "\n"
	res := send(t.Context(), t, listen(t, s, defaultBatchTimes()), strings.NewReader(strings.Repeat(item, 20)))
	require.Eventually(t, func() bool { return int(p.sent.Load()) == batchBytes/len(item) }, 10*time.Second, time.Millisecond)
	close(release)
	lines, err := io.ReadAll(res)
	require.NoError(t, err)
	require.Equal(t, 20, bytes.Count(lines, []byte(`"status":202`)))
	require.LessOrEqual(t, p.most, batchBytes/len(item)+1)
}

func TestBatchIsAnsweredWhileTheClientStillWrites(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	in, out := io.Pipe()
	go func() { _, _ = io.WriteString(out, sleepItem("first")+"\n") }()
	// No answer comes because of the clock.
	res := send(t.Context(), t, listen(t, s, defaultBatchTimes()), in)
	answers := bufio.NewScanner(res)
	for _, id := range []string{"first", "second", "third"} {
		if id != "first" {
			_, err := io.WriteString(out, sleepItem(id)+"\n")
			require.NoError(t, err)
		}
		require.True(t, answers.Scan())
		require.Contains(t, answers.Text(), id)
	}
	require.NoError(t, out.Close())
	require.False(t, answers.Scan())
	require.NoError(t, answers.Err())
}

func TestBatchStopsReadingForAClientThatTakesNoAnswers(t *testing.T) {
	t.Parallel()
	p := &reverse{}
	s := newServer(t, func(o *Options) { o.Publisher, o.Recorder = p, forgetful{} })
	ctx, cancel := context.WithCancel(t.Context())
	src := &lineSource{n: 1 << 40}
	res := send(ctx, t, listen(t, s, batchTimes{read: time.Minute, write: time.Minute, grace: time.Minute}), src)
	var last int64
	var since time.Time
	require.Eventually(t, func() bool {
		if now := p.sent.Load(); now != last {
			last, since = now, time.Now()
		}
		return last > 0 && time.Since(since) > 500*time.Millisecond
	}, 30*time.Second, 10*time.Millisecond)
	// Reading on sets it going again.
	_, err := io.CopyN(io.Discard, res, 256<<10)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.sent.Load() > last }, 10*time.Second, time.Millisecond)
	cancel()
}

func TestBatchEndsForAClientThatTakesNoAnswersForTooLong(t *testing.T) {
	t.Parallel()
	p := &reverse{}
	s := newServer(t, func(o *Options) { o.Publisher, o.Recorder = p, forgetful{} })
	ended := s.whenAnswered()
	send(t.Context(), t, listen(t, s, batchTimes{read: time.Minute, write: 100 * time.Millisecond, grace: time.Minute}), &lineSource{n: 1 << 40})
	<-ended
}

func TestBatchGoesOnForAClientThatReadsSlowly(t *testing.T) {
	t.Parallel()
	p := &reverse{}
	s := newServer(t, func(o *Options) { o.Publisher, o.Recorder = p, forgetful{} })
	const write, rate = 2 * time.Second, 5_000
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	res := send(ctx, t, listen(t, s, batchTimes{read: time.Minute, write: write, grace: time.Minute}), &lineSource{n: 1 << 40})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	begun, taken := time.Now(), int64(0)
	for time.Since(begun) < 3*write {
		<-tick.C
		n, err := io.CopyN(io.Discard, res, int64(rate*time.Since(begun).Seconds())-taken)
		require.NoError(t, err)
		taken += n
	}
}

// whenAnswered tells when the next request has been dealt with.
func (s *server) whenAnswered() <-chan struct{} {
	ended := make(chan struct{})
	next := s.handler
	s.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer close(ended)
		next.ServeHTTP(w, r)
	})
	return ended
}

func TestBatchEndsWhenTheClientGoes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		items   int64
		timeout time.Duration
	}{
		{10, time.Minute},                 // all was read: the end of the connection is seen at once
		{1 << 40, 100 * time.Millisecond}, // nothing is read: it is seen with the next answer
	} {
		p := &reverse{hold: func(string) <-chan struct{} { return nil }}
		s := newServer(t, func(o *Options) { o.Publisher, o.PublishTimeout = p, c.timeout })
		ended := s.whenAnswered()
		ctx, cancel := context.WithCancel(t.Context())
		send(ctx, t, listen(t, s, defaultBatchTimes()), &lineSource{n: c.items})
		require.Eventually(t, func() bool { return p.sent.Load() >= min(c.items, batchWindow) }, 10*time.Second, time.Millisecond)
		cancel()
		<-ended
		require.Zero(t, p.flying)
	}
}

func TestBatchEndsWhenTheClientSendsNothingForTooLong(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	in, out := io.Pipe()
	go func() { _, _ = io.WriteString(out, sleepItem("a")+"\n"+`{"task":`) }()
	res := send(t.Context(), t, listen(t, s, batchTimes{read: 100 * time.Millisecond, write: time.Minute, grace: time.Minute}), in)
	text, err := io.ReadAll(res)
	require.NoError(t, err)
	require.Contains(t, string(text), `{"index":0,"status":202`)
	require.Contains(t, string(text), `{"index":1,"status":408,"problem":{"type":"`+problemPrefix+string(slugSlowBody))
	require.NoError(t, out.Close())
}

func TestBatchOutlivesTheReadTimeoutOfTheServer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	h := httptest.NewUnstartedServer(s)
	h.Config.ReadTimeout = 50 * time.Millisecond
	h.Start()
	t.Cleanup(h.Close)
	in, out := io.Pipe()
	go func() { _, _ = io.WriteString(out, sleepItem("a")+"\n") }()
	res := send(t.Context(), t, h.URL, in)
	answers := bufio.NewScanner(res)
	require.True(t, answers.Scan())
	<-time.After(100 * time.Millisecond)
	_, err := io.WriteString(out, sleepItem("b")+"\n")
	require.NoError(t, err)
	require.True(t, answers.Scan())
	require.Contains(t, answers.Text(), `"task_id":"b"`)
	require.NoError(t, out.Close())
	require.False(t, answers.Scan())
}

func TestBatchIsCutShortWhenTheServerStops(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	in, out := io.Pipe()
	go func() { _, _ = io.WriteString(out, sleepItem("a")+"\n") }()
	res := send(t.Context(), t, listen(t, s, batchTimes{read: time.Minute, write: time.Minute, grace: 50 * time.Millisecond}), in)
	answers := bufio.NewScanner(res)
	require.True(t, answers.Scan())
	s.Drain()
	require.True(t, answers.Scan())
	require.Contains(t, answers.Text(), `{"index":1,"status":503,"problem":{"type":"`+problemPrefix+string(slugStopping))
	require.False(t, answers.Scan())
	require.NoError(t, answers.Err())
	_ = out.Close()
	// A short one has the time to come to its end.
	require.Equal(t, []int{202, 202}, statuses(batchOf(t, s, sleepItem("b")+"\n"+sleepItem("c"), asLines)))
}

func TestBatchRestOfABodyIsNoRequest(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	url := listen(t, s, defaultBatchTimes())
	rest := strings.NewReader("[x, GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
	req, err := http.NewRequestWithContext(t.Context(), post, url+routeBatch, rest)
	require.NoError(t, err)
	req.Header.Set("Content-Type", jsonType)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.True(t, res.Close, "the connection is not used again")
}
