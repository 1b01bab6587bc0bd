package api

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const sleepSchema = `{
	"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "https://example.com/sleep",
	"type": "object",
	"properties": {
		"duration": {"type": "number", "minimum": 1, "maximum": 300},
		"label": {"type": "string", "maxLength": 5, "enum": ["a", "b"]},
		"serial": {"type": "integer"},
		"nested": {"$ref": "#/$defs/Nested"},
		"when": {"type": "string", "format": "date-time"}
	},
	"required": ["duration"],
	"additionalProperties": false,
	"$defs": {"Nested": {"type": "object", "properties": {"a/b": {"type": "integer"}}, "required": ["c~d"]}}
}`

func sleepEntry() messages.CatalogEntry {
	return messages.CatalogEntry{
		Name: "sleep_task", Queue: "default", Description: "Sleeps.\nIn seconds.", Params: []string{"duration", "label"},
		Input: json.RawMessage(sleepSchema), Output: json.RawMessage(`{"type":"object","properties":{"slept":{"type":"number"}}}`),
		MaxRetries: 3, TimeLimit: 60, Alive: 1, AnnouncedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// published is what a fake publisher was asked to send.
type published struct {
	queue string
	delay time.Duration
	task  *messages.Task
	body  []byte
}

type fakePublisher struct {
	mu    sync.Mutex
	sent  []published
	err   error
	state string
	hang  bool
	after func(m *messages.Message)
}

func (p *fakePublisher) Enqueue(ctx context.Context, queue string, delay time.Duration, m *messages.Message) error {
	if p.hang {
		<-ctx.Done()
		return messages.ErrUnconfirmed
	}
	if p.err != nil {
		return p.err
	}
	t, err := messages.Decode(m)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.sent = append(p.sent, published{queue, delay, t, m.Body})
	p.mu.Unlock()
	if p.after != nil {
		p.after(m)
	}
	return nil
}

func (p *fakePublisher) State() string { return p.state }

// last returns the only message that was sent since.
func (p *fakePublisher) last(t *testing.T) published {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Len(t, p.sent, 1)
	return p.sent[0]
}

// fakeStore is results, recorder, watcher and catalog in memory.
type fakeStore struct {
	mu       sync.Mutex
	records  map[string]*messages.Result
	watches  map[chan struct{}]string
	gets     int
	err      error
	entries  []messages.CatalogEntry
	workers  []messages.WorkerInfo
	told     messages.WorkerCommand
	answer   messages.WorkerAnswer
	became   messages.Delivery
	logs     map[string][]json.RawMessage
	loads    int
	loadErr  error
	hang     bool
	page     Page
	listed   Filter
	cursor   string
	limit    int
	recorded []*messages.Result
	states   map[string]messages.QueueState
}

func (s *fakeStore) SetQueueState(_ context.Context, queue string, state messages.QueueState) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.states[queue] = state
	}
	return s.err
}

func (s *fakeStore) QueueStates(context.Context) (map[string]messages.QueueState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	states := maps.Clone(s.states)
	maps.DeleteFunc(states, func(_ string, state messages.QueueState) bool { return state == messages.QueueRunning })
	return states, s.err
}

// fakeDepths knows of every queue that it is empty for a time.
type fakeDepths struct {
	ready   int
	empty   time.Duration
	watched []string
	stats   map[string]messages.QueueStats
	waiting map[string]int // to be purged
	broken  error
}

func (d *fakeDepths) Stats(context.Context, []string) (map[string]messages.QueueStats, *int) {
	return d.stats, nil
}

func (d *fakeDepths) Watch(queues ...string) { d.watched = queues }

func (d *fakeDepths) Ready(queue string) (n int, empty time.Duration, known bool) {
	return d.ready, d.empty, slices.Contains(d.watched, queue)
}

func (s *fakeStore) Get(ctx context.Context, id string) (*messages.Result, error) {
	if s.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	if s.err != nil {
		return nil, s.err
	}
	if r := s.records[id]; r != nil {
		return r, nil
	}
	return nil, messages.ErrNotFound
}

// fail makes every look fail from now on, or none.
func (s *fakeStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// put writes a record and tells those who watch it.
func (s *fakeStore) put(r *messages.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[r.TaskID] = r
	for changed, id := range s.watches {
		if id == r.TaskID {
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}
}

func (s *fakeStore) Cancel(ctx context.Context, id string) (*messages.Result, Cancelled, error) {
	r, err := s.Get(ctx, id)
	switch {
	case err != nil:
		return nil, "", err
	case r.State.Final():
		return r, CancelEnded, nil
	case r.State == messages.Pending:
		revoked := *r
		revoked.State = messages.Revoked
		return &revoked, CancelRevoked, nil
	}
	return r, CancelRequested, nil
}

func (s *fakeStore) Delete(ctx context.Context, id string) (bool, error) {
	r, err := s.Get(ctx, id)
	if err != nil || !r.State.Final() {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, id)
	return true, nil
}

// Restart is strict about runs, as the store is.
func (s *fakeStore) Restart(_ context.Context, r *messages.Result, _ bool) (Restarted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return "", s.err
	}
	switch was := s.records[r.TaskID]; {
	case was == nil:
	case was.State == messages.Started:
		return RestartRunning, nil
	case was.Run > r.Run || was.Run == r.Run && was.State.Final():
		return RestartSuperseded, nil
	}
	s.records[r.TaskID] = r
	return RestartReady, nil
}

func (s *fakeStore) List(ctx context.Context, f Filter, cursor string, limit int) (Page, error) {
	if s.hang {
		<-ctx.Done()
		return Page{}, ctx.Err()
	}
	s.listed, s.cursor, s.limit = f, cursor, limit
	return s.page, s.err
}

func (s *fakeStore) Await(_ context.Context, r *messages.Result) bool { return s.Record(r) }

func (s *fakeStore) Record(r *messages.Result) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recorded = append(s.recorded, r)
	return true
}

func (s *fakeStore) Watch(id string) (<-chan struct{}, func()) {
	changed := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watches[changed] = id
	return changed, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, changed)
	}
}

func (s *fakeStore) watching() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.watches)
}

func (s *fakeStore) Catalog(ctx context.Context) ([]messages.CatalogEntry, error) {
	if s.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	return s.entries, s.loadErr
}

// announce replaces what the next look at the catalog sees.
func (s *fakeStore) announce(err error, entries ...messages.CatalogEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries, s.loadErr = entries, err
}

func (s *fakeStore) Workers(ctx context.Context) ([]messages.WorkerInfo, error) {
	if s.hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return s.workers, s.err
}

// fakeGraves are the dead letters of queue "default".
type fakeGraves struct {
	mu      sync.Mutex
	letters []*messages.Message
	err     error
}

func (g *fakeGraves) Pass(ctx context.Context, queue string, look func(context.Context, *messages.Message) (Verdict, error)) error {
	if queue != "default" {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return g.err
	}
	for i := 0; i < len(g.letters); {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v, err := look(ctx, g.letters[i])
		switch {
		case err != nil:
			return err
		case v == Stop:
			return nil
		case v == Remove:
			g.letters = slices.Delete(g.letters, i, i+1)
		default:
			i++
		}
	}
	return nil
}

// noOperations is the store of operations of those who do not need one.
type noOperations struct {
	Operations
	OperationLeases
}

func (noOperations) Open(context.Context) ([]StoredOperation, error) {
	return nil, messages.ErrStoreUnavailable
}

// server is an API over fakes.
type server struct {
	*API
	graves    *fakeGraves
	publisher *fakePublisher
	store     *fakeStore
	keys      *fakeKeys
	depths    *fakeDepths
	events    *fakeEvents
}

// newServer starts nothing; the catalog is loaded by the first look.
func newServer(tb testing.TB, change ...func(*Options)) *server {
	tb.Helper()
	s := &server{
		publisher: &fakePublisher{state: "up"},
		keys:      &fakeKeys{},
		graves:    &fakeGraves{},
		depths:    &fakeDepths{},
		events:    &fakeEvents{changed: make(chan struct{}, 1)},
		store: &fakeStore{
			states: map[string]messages.QueueState{}, records: map[string]*messages.Result{}, watches: map[chan struct{}]string{},
			entries: []messages.CatalogEntry{sleepEntry(), {Name: "send_mail", Queue: "mail"}},
		},
	}
	o := Options{
		Publisher: s.publisher, Results: s.store, Canceller: s.store, Deleter: s.store, Restarter: s.store, DeadLetters: s.graves, Queues: s.store,
		Depths: s.depths, QueueStats: s.depths, Purger: fakePurger{s.depths}, Logs: s.store,
		Recorder: s.store, Watcher: s.store, Events: s.events, Catalog: s.store, Workers: s.store, Keys: s.keys,
		Operations: noOperations{}, OperationLeases: noOperations{},
		AllowedHosts: []string{"lovage.example"}, ForeignQueues: []string{"celery"}, Version: "1.2.3",
	}
	for _, c := range change {
		c(&o)
	}
	a, err := New(o)
	require.NoError(tb, err)
	s.API = a
	return s
}

// ask sends a request; headers are "Name: value".
func (s *server) ask(t *testing.T, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, strings.NewReader(body))
	r.Host = "localhost:8080"
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	if body != "" && r.Header["Content-Type"] == nil {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// decode reads an answer into a map, numbers as they came.
func decode(t *testing.T, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(w.Body.Bytes()))
	d.UseNumber()
	var v map[string]any
	require.NoError(t, d.Decode(&v), w.Body.String())
	return v
}

// requireProblem checks the form that every error has.
func requireProblem(t *testing.T, w *httptest.ResponseRecorder, status int, kind slug) problem {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body.String())
	require.Equal(t, problemType, w.Header().Get("Content-Type"), w.Body.String())
	require.NotEmpty(t, w.Header().Get("X-Request-Id"))
	var p problem
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&p))
	require.Equal(t, problemPrefix+string(kind), p.Type, p.Detail)
	require.Equal(t, status, p.Status)
	require.NotEmpty(t, p.Title)
	return p
}

// pointers lists where the faults are.
func pointers(p problem) []string {
	var out []string
	for _, e := range p.Errors {
		if e.Pointer != nil {
			out = append(out, *e.Pointer)
		} else {
			out = append(out, "?"+e.Parameter)
		}
	}
	return out
}

const (
	post = http.MethodPost
	get  = http.MethodGet
)
