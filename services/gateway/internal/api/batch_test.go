package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
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
	p.fly(1)
	defer p.fly(-1)
	p.sent.Add(1)
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
