//go:build outage

package outage_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

const (
	submitters   = 64
	readers      = 8
	pollers      = 4
	submitEvery  = 100 * time.Millisecond
	readEvery    = 100 * time.Millisecond
	pollEvery    = 40 * time.Millisecond
	openAPIEvery = 100 * time.Millisecond
	// hung is when a client gives up on an answer that never comes.
	hung = 15 * time.Second
)

// What is compared with: bystander stands for the program that shows how busy
// the machine is, and straight for reading the same task without the gateway.
const (
	bystander = "bystander"
	straight  = "straight from Redis"
)

// The outcomes of submissions that are treated in a way of their own.
const (
	accepted    = "202"
	unconfirmed = "504 publish-unconfirmed"
)

// answer is one request with what came of it.
type answer struct {
	path    string
	id      string
	sent    time.Time
	took    time.Duration
	outcome string
	// broker is what /readyz said of RabbitMQ.
	broker string
}

func (a answer) at() time.Time { return a.sent.Add(a.took) }

// load is what the clients do at the same time: they submit without waiting
// for earlier answers, read a result and ask for the health.
type load struct {
	url      string
	idle     string // the bystander's address
	known    string // a task that has ended
	store    *results.Store
	envelope bool // submit what need not be in the catalog

	submitting, reading, polling *http.Client

	mu          sync.Mutex
	submissions []answer
	others      []answer
	clients     sync.WaitGroup
}

func newLoad(g *gateway, s *stack, known string, envelope bool) *load {
	client := func() *http.Client {
		return &http.Client{Timeout: hung, Transport: &http.Transport{MaxIdleConnsPerHost: 4000, DisableCompression: true}}
	}
	return &load{url: g.url, idle: s.idle, known: known, store: s.store, envelope: envelope, submitting: client(), reading: client(), polling: client()}
}

// start lets the clients work until ctx ends.
func (l *load) start(ctx context.Context) {
	for range submitters {
		l.clients.Go(func() { l.submitAll(ctx) })
	}
	for range readers {
		l.clients.Go(func() { l.repeat(ctx, readEvery, l.reading, "/v1/tasks/"+l.known, straight) })
	}
	for range pollers {
		l.clients.Go(func() { l.repeat(ctx, pollEvery, l.polling, "/livez", "/readyz", bystander) })
	}
	l.clients.Go(func() { l.repeat(ctx, openAPIEvery, l.polling, "/openapi.json") })
}

// wait returns when every request has its answer, and hangs up.
func (l *load) wait() {
	l.clients.Wait()
	for _, c := range []*http.Client{l.submitting, l.reading, l.polling} {
		c.CloseIdleConnections()
	}
}

// submitAll sends each submission when it is due, however long the ones before
// it take.
func (l *load) submitAll(ctx context.Context) {
	due := time.Now().Add(rand.N(submitEvery))
	for pauseUntil(ctx, due) {
		l.clients.Go(func() { l.submit(ctx) })
		due = due.Add(submitEvery/2 + rand.N(submitEvery))
	}
}

func (l *load) submit(ctx context.Context) {
	id := messages.NewID()
	path, body := "/v1/tasks/"+taskName+"?task_id="+id, "{}"
	if l.envelope {
		path, body = "/v1/tasks", fmt.Sprintf(`{"task":%q,"kwargs":{},"options":{"task_id":%q,"queue":%q}}`, taskName, id, queue)
	}
	a := l.do(ctx, l.submitting, http.MethodPost, path, body)
	a.id = id
	l.mu.Lock()
	defer l.mu.Unlock()
	l.submissions = append(l.submissions, a)
}

// repeat asks for the paths when they are due, however long the answers before
// take: who waits for a slow answer asks less while all are slow, and what it
// measures says little about those who do not wait.
func (l *load) repeat(ctx context.Context, every time.Duration, c *http.Client, paths ...string) {
	due := time.Now().Add(rand.N(every))
	for pauseUntil(ctx, due) {
		for _, path := range paths {
			l.clients.Go(func() {
				a := l.get(ctx, c, path)
				l.mu.Lock()
				defer l.mu.Unlock()
				l.others = append(l.others, a)
			})
		}
		due = due.Add(every/2 + rand.N(every))
	}
}

func (l *load) get(ctx context.Context, c *http.Client, path string) answer {
	if path != straight {
		return l.do(ctx, c, http.MethodGet, path, "")
	}
	a := answer{path: path, sent: time.Now()}
	_, err := l.store.Get(context.WithoutCancel(ctx), l.known)
	a.took, a.outcome = time.Since(a.sent), "200"
	if err != nil {
		a.outcome = "error: " + err.Error()
	}
	return a
}

// do sends one request. The end of the load is not the end of a request.
func (l *load) do(ctx context.Context, c *http.Client, method, path, body string) answer {
	a := answer{path: path, sent: time.Now()}
	url := l.url + path
	if path == bystander {
		url = l.idle
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), method, url, strings.NewReader(body))
	if err != nil {
		a.outcome = "error: " + err.Error()
		return a
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.Do(req)
	if err != nil {
		a.took, a.outcome = time.Since(a.sent), "error: "+err.Error()
		return a
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	a.took, a.outcome = time.Since(a.sent), fmt.Sprint(res.StatusCode)
	if err != nil {
		a.outcome = "error: " + err.Error()
		return a
	}
	a.explain(res.StatusCode, text)
	return a
}

// explain takes what matters from the body.
func (a *answer) explain(status int, body []byte) {
	var said struct{ Type, RabbitMQ string }
	if status < http.StatusBadRequest && a.path != "/readyz" {
		return
	}
	if json.NewDecoder(bytes.NewReader(body)).Decode(&said) != nil {
		a.outcome += " unreadable"
		return
	}
	a.broker = said.RabbitMQ
	if kind, found := strings.CutPrefix(said.Type, "urn:lovage:problem:"); found {
		a.outcome += " " + kind
	}
}

// snapshot returns all answers so far, in the order of the requests.
func (l *load) snapshot() (submissions, others []answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	submissions, others = slices.Clone(l.submissions), slices.Clone(l.others)
	for _, list := range [][]answer{submissions, others} {
		slices.SortFunc(list, func(a, b answer) int { return a.sent.Compare(b.sent) })
	}
	return submissions, others
}

// pauseUntil waits for the time; false when ctx ended first.
func pauseUntil(ctx context.Context, due time.Time) bool {
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// where returns the answers that a condition holds for.
func where(list []answer, holds func(answer) bool) []answer {
	var out []answer
	for _, a := range list {
		if holds(a) {
			out = append(out, a)
		}
	}
	return out
}

// between is a condition on when a request was sent.
func between(from, to time.Time) func(answer) bool {
	return func(a answer) bool { return !a.sent.Before(from) && a.sent.Before(to) }
}

func on(path string) func(answer) bool { return func(a answer) bool { return a.path == path } }

func times(list []answer) []time.Duration {
	out := make([]time.Duration, 0, len(list))
	for _, a := range list {
		out = append(out, a.took)
	}
	slices.Sort(out)
	return out
}

// p99 is the time that 99 of 100 answers took at most; zero without answers.
func p99(list []answer) time.Duration {
	sorted := times(list)
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(99*len(sorted)+99)/100-1]
}

func longest(list []answer) time.Duration {
	if len(list) == 0 {
		return 0
	}
	return slices.MaxFunc(list, func(a, b answer) int { return cmp.Compare(a.took, b.took) }).took
}
