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
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	asLines = "Content-Type: application/x-ndjson"
	asArray = "Content-Type: application/json"
)

// batchLine is an answer as clients read it.
type batchLine struct {
	Index   int             `json:"index"`
	Status  int             `json:"status"`
	TaskID  string          `json:"task_id"`
	State   string          `json:"state"`
	Problem json.RawMessage `json:"problem"`
}

func (l batchLine) problem(t *testing.T) problem {
	t.Helper()
	var p problem
	require.NotEmpty(t, l.Problem)
	require.NoError(t, json.Unmarshal(l.Problem, &p))
	require.Equal(t, l.Status, p.Status)
	return p
}

// batchOf sends a batch and returns its answers, which must be in order.
func batchOf(t *testing.T, s *server, body, contentType string) []batchLine {
	t.Helper()
	w := s.ask(t, post, routeBatch, body, contentType)
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.Equal(t, contentType, "Content-Type: "+w.Header().Get("Content-Type"))
	var lines []batchLine
	if contentType == asArray {
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &lines), w.Body.String())
	} else {
		for line := range bytes.Lines(w.Body.Bytes()) {
			var l batchLine
			require.NoError(t, json.Unmarshal(line, &l), "%q", line)
			lines = append(lines, l)
		}
	}
	for i, l := range lines {
		require.Equal(t, i, l.Index)
	}
	return lines
}

func sleepItem(id string) string {
	return fmt.Sprintf(`{"task":"sleep_task","kwargs":{"duration":1},"options":{"task_id":%q}}`, id)
}

func statuses(lines []batchLine) []int {
	var out []int
	for _, l := range lines {
		out = append(out, l.Status)
	}
	return out
}

// reverse answers late what came early, and counts what is in flight.
type reverse struct {
	mu     sync.Mutex
	flying int
	most   int
	sent   atomic.Int64
	hold   func(id string) <-chan struct{}
}

func (p *reverse) Enqueue(ctx context.Context, _ string, _ time.Duration, m *messages.Message) error {
	p.sent.Add(1)
	p.fly(1)
	defer p.fly(-1)
	if p.hold == nil {
		return nil
	}
	select {
	case <-p.hold(m.MessageID):
		return nil
	case <-ctx.Done():
		return messages.ErrUnconfirmed
	}
}

func (p *reverse) State() string { return "up" }

func (p *reverse) fly(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.flying += n
	p.most = max(p.most, p.flying)
}

func TestBatchIsAnsweredInItsOrderWhateverTheOrderOfTheConfirms(t *testing.T) {
	t.Parallel()
	const n = 50
	open := make([]chan struct{}, n+1)
	for i := range open {
		open[i] = make(chan struct{})
	}
	close(open[n])
	p := &reverse{hold: func(id string) <-chan struct{} {
		var i int
		_, _ = fmt.Sscanf(id, "item-%d", &i)
		// Each waits for the one behind it.
		done := make(chan struct{})
		go func() {
			<-open[i+1]
			close(open[i])
			close(done)
		}()
		return done
	}}
	for _, form := range []string{asLines, asArray} {
		s := newServer(t, func(o *Options) { o.Publisher = p })
		var items []string
		for i := range n {
			items = append(items, sleepItem(fmt.Sprintf("item-%d", i)))
		}
		body := strings.Join(items, "\n")
		if form == asArray {
			body = "[" + strings.Join(items, ",") + "]"
			p.hold = nil
		}
		lines := batchOf(t, s, body, form)
		require.Len(t, lines, n)
		for i, l := range lines {
			require.Equal(t, http.StatusAccepted, l.Status)
			require.Equal(t, fmt.Sprintf("item-%d", i), l.TaskID)
			require.Equal(t, "PENDING", l.State)
			require.Empty(t, l.Problem)
		}
		require.Len(t, s.store.recorded, n)
	}
}

func TestBatchItemFailsAsItWouldAlone(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	items := []string{
		sleepItem("good"),
		`{"task":"sleep_task","kwargs":{"duration":0,"x":1}}`,
		`{"task":"slep_task"}`,
		`{"task":"sleep_task","options":{"countdown":"x"},"more":1}`,
		`[1]`, `7`, `"text"`, `null`,
		`{"task":"sleep_task","task":"sleep_task"}`,
		`{"task":"sleep_task","args":` + deep + `}`,
		`{"task":"sleep_task","args":[1e999]}`,
		`{"task":"x","kwargs":{"large":"` + strings.Repeat("x", 2000) + `"},"options":{"queue":"q"}}`,
		sleepItem("last"),
	}
	small := func(o *Options) { o.MaxBody = 1000 }
	for _, form := range []string{asLines, asArray} {
		s := newServer(t, small)
		body := strings.Join(items, "\r\n \n")
		if form == asArray {
			body = " [ " + strings.Join(items, " ,\n") + " ] "
		}
		lines := batchOf(t, s, body, form)
		require.Len(t, lines, len(items))
		for i, l := range lines {
			alone := newServer(t, small).ask(t, post, routeTasks, items[i])
			require.Equal(t, alone.Code, l.Status, "%s", items[i])
			if alone.Code == http.StatusAccepted {
				continue
			}
			if alone.Code == http.StatusRequestEntityTooLarge {
				require.Contains(t, string(l.Problem), string(slugTooLarge))
				continue
			}
			require.JSONEq(t, alone.Body.String(), string(l.Problem))
		}
		require.Len(t, s.publisher.sent, 2, "nothing else was sent")
	}
}

func TestBatchItemTellsWhatTheBrokerSaid(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.publisher.err = messages.ErrBrokerUnavailable
	lines := batchOf(t, s, sleepItem("a")+"\n"+sleepItem("b"), asLines)
	require.Equal(t, []int{503, 503}, statuses(lines))
	p := lines[1].problem(t)
	require.Equal(t, problemPrefix+"broker-unavailable", p.Type)
	require.True(t, p.Retryable)
	require.Equal(t, "b", p.TaskID)
	require.Empty(t, s.store.recorded)

	s = newServer(t, func(o *Options) { o.PublishTimeout = time.Millisecond })
	s.publisher.hang = true
	lines = batchOf(t, s, sleepItem("a"), asLines)
	require.Equal(t, []int{504}, statuses(lines))
	require.Equal(t, "a", lines[0].problem(t).TaskID)
}

func TestBatchPanicOfOneItemIsItsOwn(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.publisher.after = func(m *messages.Message) {
		if m.MessageID == "bad" {
			panic("boom")
		}
	}
	lines := batchOf(t, s, sleepItem("a")+"\n"+sleepItem("bad")+"\n"+sleepItem("b"), asLines)
	require.Equal(t, []int{202, 500, 202}, statuses(lines))
	require.NotContains(t, string(lines[1].Problem), "boom")
}

func TestBatchGoesOnBehindAMalformedLine(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	lines := batchOf(t, s, "\n"+sleepItem("a")+"\n{\"task\": x}\n\n  \n}\n\xff\n"+sleepItem("b")+"\n{", asLines)
	require.Equal(t, []int{202, 400, 400, 400, 202, 400}, statuses(lines))
	require.Contains(t, lines[1].problem(t).Detail, "line 1, column 10 (byte 9)")
	require.Equal(t, "b", lines[4].TaskID)
}

func TestBatchArrayEndsWhereItCannotBeRead(t *testing.T) {
	t.Parallel()
	good := sleepItem("a")
	for name, c := range map[string]struct{ body, detail string }{
		"malformed item":    {"[" + good + ",\n {\"task\": x}," + good + "]", "line 1, column 10 (byte 9) of the item that begins at line 2, column 2 (byte 75)"},
		"unclosed item":     {"[" + good + `,{"task":"x"`, "unexpected end of the array at line 1, column 85 (byte 84)"},
		"unclosed string":   {"[" + good + ",{\"task\":\"x\n\"}]", "in string literal at line 1, column 84 (byte 83)"},
		"comma at the end":  {"[" + good + ",]", "invalid character ']' looking for the beginning of an item at line 1, column 74 (byte 73)"},
		"two commas":        {"[" + good + ",,]", "invalid character ','"},
		"data behind":       {"[" + good + "]\n x", "invalid character 'x' after the array at line 2, column 2"},
		"wrong bracket":     {"[" + good + ",{]}]", "of the item that begins at"},
		"two items as one":  {"[" + good + ",{} {}]", "of the item that begins at"},
		"array behind":      {"[" + good + "][]", "after the array"},
		"not UTF-8":         {"[" + good + ",\"\xff\"]", "not UTF-8"},
		"no item before it": {"[" + good + ",x", "unexpected end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := batchOf(t, newServer(t), c.body, asArray)
			require.Equal(t, []int{202, 400}, statuses(lines))
			p := lines[1].problem(t)
			require.Equal(t, problemPrefix+string(slugMalformed), p.Type)
			require.Contains(t, p.Detail, c.detail)
		})
	}
}

func TestBatchOfNothing(t *testing.T) {
	t.Parallel()
	require.Empty(t, batchOf(t, newServer(t), " [ ] ", asArray))
	for _, form := range []string{asArray, asLines} {
		requireProblem(t, newServer(t).ask(t, post, routeBatch, " \n ", form), http.StatusBadRequest, slugEmptyBody)
	}
	require.Equal(t, []int{400}, statuses(batchOf(t, newServer(t), "[],", asArray)))
	require.Equal(t, []int{400}, statuses(batchOf(t, newServer(t), "["+sleepItem("a"), asArray)), "nobody knows whether that is all of it")
}

func TestBatchThatIsNoneIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	item := sleepItem("a")
	requireProblem(t, s.ask(t, post, routeBatch, item, "Content-Type: text/plain"), http.StatusUnsupportedMediaType, slugMediaType)
	requireProblem(t, s.ask(t, post, routeBatch, item, asLines, "Content-Encoding: gzip"), http.StatusUnsupportedMediaType, slugMediaType)
	requireProblem(t, s.ask(t, post, routeBatch, item, asLines, "Idempotency-Key: k"), http.StatusBadRequest, slugNoKeys)
	requireProblem(t, s.ask(t, post, routeBatch+"?queue=q", item, asLines), http.StatusUnprocessableEntity, slugParameters)
	requireProblem(t, s.ask(t, post, routeBatch, "\xef\xbb\xbf[]", asArray), http.StatusBadRequest, slugMalformed)
	p := requireProblem(t, s.ask(t, post, routeBatch, " "+item, asArray), http.StatusUnprocessableEntity, slugInput)
	require.Equal(t, []string{""}, pointers(p))
	require.Empty(t, s.publisher.sent)
}

func TestBatchHandsTheTraceOn(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	w := s.ask(t, post, routeBatch, sleepItem("a")+"\n"+sleepItem("b"), "Content-Type: application/jsonl", "Traceparent: "+parent)
	require.Equal(t, http.StatusOK, w.Code)
	require.Len(t, s.publisher.sent, 2)
	for _, m := range s.publisher.sent {
		require.Equal(t, parent, m.task.TraceParent)
	}
}

func TestBatchSkipsAHugeLineWithoutKeepingIt(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	huge := io.LimitReader(endless('x'), 8<<20)
	body := io.MultiReader(strings.NewReader(sleepItem("a")+"\n"), huge, strings.NewReader("\n"+sleepItem("b")))
	r := httptest.NewRequestWithContext(t.Context(), post, routeBatch, body)
	r.Host = "localhost"
	r.Header.Set("Content-Type", ndjsonType)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	require.Equal(t, 3, bytes.Count(w.Body.Bytes(), []byte{'\n'}))
	require.Contains(t, w.Body.String(), `{"index":1,"status":413,`)
	require.Contains(t, w.Body.String(), `{"index":2,"status":202,"task_id":"b"`)
}

// endless is a reader of one byte.
type endless byte

func (b endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

func TestSplittersKeepNothingOfWhatIsTooLong(t *testing.T) {
	t.Parallel()
	const limit = 100 << 10
	lines := newLineSplitter(io.MultiReader(io.LimitReader(endless('x'), 8<<20), strings.NewReader("\n{}")), limit)
	p, more := lines.next()
	require.True(t, more)
	require.ErrorContains(t, p.err, string(slugTooLarge))
	require.LessOrEqual(t, cap(lines.long), 2*limit)
	p, _ = lines.next()
	require.Equal(t, "{}", string(p.raw))

	array := newArraySplitter(io.MultiReader(strings.NewReader("[\""), io.LimitReader(endless('x'), 8<<20), strings.NewReader("\",{}]")), limit)
	require.NoError(t, array.begin())
	p, more = array.next()
	require.True(t, more)
	require.ErrorContains(t, p.err, string(slugTooLarge))
	require.LessOrEqual(t, cap(array.item), 2*limit)
	p, _ = array.next()
	require.Equal(t, "{}", string(p.raw))
	_, more = array.next()
	require.False(t, more)
}

func FuzzSplitters(f *testing.F) {
	f.Add(`[{"task":"a"}, {"b":[1,2,"]"]}]`)
	f.Add("{\"a\":1}\n\n{\"b\":\"\\\"\"}\r\n")
	f.Add("[1,2,,]")
	f.Fuzz(func(t *testing.T, body string) {
		const limit = 64
		var whole []json.RawMessage
		valid := json.Unmarshal([]byte(body), &whole) == nil && whole != nil
		items, ok := split(newArraySplitter(iotest.OneByteReader(strings.NewReader(body)), limit))
		if !valid {
			require.False(t, ok, "%q", items)
		} else if ok {
			require.Len(t, items, len(whole))
			for i, raw := range whole {
				require.Equal(t, string(raw), items[i])
			}
		}
		items, _ = split(newLineSplitter(strings.NewReader(body), limit))
		for _, item := range items {
			require.LessOrEqual(t, len(item), limit)
			require.True(t, json.Valid([]byte(item)))
		}
	})
}

// split returns the good items, and whether there were no others.
func split(s splitter) (items []string, ok bool) {
	if s.begin() != nil {
		return nil, false
	}
	ok = true
	for p, more := s.next(); more; p, more = s.next() {
		if ok = ok && p.err == nil; p.err == nil {
			items = append(items, string(p.raw))
		}
		if p.last {
			break
		}
	}
	return items, ok
}

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
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		}
		return conn, err
	}}}
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

func TestBatchRoomBoundsTheBytesInFlight(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	p := &reverse{hold: func(string) <-chan struct{} { return release }}
	s := newServer(t, func(o *Options) { o.Publisher, o.PublishTimeout = p, time.Minute })
	item := `{"task":"any","kwargs":{"x":"` + strings.Repeat("x", 100<<10) + `"},"options":{"queue":"q"}}` + "\n"
	res := send(t.Context(), t, listen(t, s, defaultBatchTimes()), strings.NewReader(strings.Repeat(item, 20)))
	require.Eventually(t, func() bool { return p.sent.Load() == 2 }, 10*time.Second, time.Millisecond)
	close(release)
	lines, err := io.ReadAll(res)
	require.NoError(t, err)
	require.Equal(t, 20, bytes.Count(lines, []byte(`"status":202`)))
	require.LessOrEqual(t, p.most, 3)
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

func TestBatchDoesNotSubmitHalfALine(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	body := io.MultiReader(strings.NewReader(sleepItem("a")+"\n"+sleepItem("b")), iotest.ErrReader(io.ErrUnexpectedEOF))
	r := httptest.NewRequestWithContext(t.Context(), post, routeBatch, body)
	r.Host = "localhost"
	r.Header.Set("Content-Type", ndjsonType)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	require.Contains(t, w.Body.String(), `{"index":1,"status":400,"problem":{"type":"`+problemPrefix+string(slugUnreadable))
	require.Equal(t, "a", s.publisher.last(t).task.ID)
}

func TestBatchIsInTheDocumentInBothForms(t *testing.T) {
	t.Parallel()
	_, doc := openAPIOf(t, sleepEntry())
	requireValidOpenAPI(t, doc)
	operation := dig(t, doc, "paths", routeBatch, "post")
	forms := []string{jsonType, ndjsonType}
	for _, form := range append(forms, "application/jsonl") {
		require.Contains(t, dig(t, operation, "requestBody", "content"), form)
	}
	for _, form := range forms {
		require.Contains(t, dig(t, operation, "responses", "200", "content"), form)
	}
	require.Equal(t, forms, sortedKeys(dig(t, operation, "responses", "200", "content")))
}
