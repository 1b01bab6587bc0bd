// Package webhook calls back those who want to be told that their task has
// ended, by the rules of Standard Webhooks (https://www.standardwebhooks.com).
//
// The promise to call back is kept in Redis before the task is sent, with the
// time when it is to be looked at next. Every gateway takes what is due, for the
// length of a lease: whoever dies with it leaves it to the others.
package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/outbound"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
	"github.com/lovage-mq/lovage/services/gateway/internal/api"
)

const (
	// together is how many callbacks one gateway works on at a time.
	together = 32
	// callTimeout bounds one call, and lease how long one is worked on before
	// another gateway takes it.
	callTimeout = 15 * time.Second
	lease       = 45 * time.Second
	// pollEvery is how often a gateway looks for what is due.
	pollEvery = time.Second
	// firstLook is when the record of a task is first looked at without a
	// notice, and longestLook how much later it is looked at again at most.
	firstLook, longestLook = 2 * time.Second, time.Minute
	// watchedTogether is of how many tasks one gateway waits for a notice. The
	// others are looked at.
	watchedTogether = 10_000
	// shownAttempts is how many attempts are kept.
	shownAttempts = 20
	storeTimeout  = 2 * time.Second
	// stopTimeout is what the calls in flight have when the gateway stops.
	stopTimeout = 5 * time.Second
)

// Options configure a [Sender]. All are required but Metrics and Resolver.
type Options struct {
	Store   *results.Store
	Watcher *results.Watcher
	// Allow are the hosts that may be called.
	Allow outbound.AllowList
	// Secrets returns what calls are signed with, the newest first.
	Secrets func() ([]Secret, error)
	// Keep is how long the record of a task is kept after it can run, and
	// Retention how long a callback is shown after its end.
	Keep, Retention time.Duration
	Metrics         prometheus.Registerer
	Log             *zap.Logger
	// Resolver looks up the hosts, the system's by default.
	Resolver *net.Resolver
}

// Sender calls back. It is an [api.Callbacks]; [Sender.Run] does the calling.
type Sender struct {
	opts   Options
	client *http.Client
	// waits are those between the attempts.
	waits    []time.Duration
	outcomes *prometheus.CounterVec
	wake     chan struct{}

	mu sync.Mutex
	// watched are the tasks of which a notice is awaited, told those of which
	// one has come, and busy those that are being worked on.
	watched    map[string]func()
	told, busy map[string]struct{}
}

// New returns a sender that starts nothing.
func New(o Options) *Sender {
	client := outbound.NewClient(o.Allow, o.Resolver)
	client.Timeout = callTimeout
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	s := &Sender{
		opts: o, client: client, waits: schedule(), wake: make(chan struct{}, 1),
		watched: map[string]func(){}, told: map[string]struct{}{}, busy: map[string]struct{}{},
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "lovage_callback_attempts_total", Help: "Attempts to call back by outcome: delivered, again (it will be tried again) or failed (it will not).",
		}, []string{"outcome"}),
	}
	for _, outcome := range []string{"delivered", "again", "failed"} {
		s.outcomes.WithLabelValues(outcome) // 0 from the beginning
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(s.outcomes)
	}
	return s
}

// schedule is that of Standard Webhooks: two and a half days.
func schedule() []time.Duration {
	return []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// record is what is kept of a callback.
type record struct {
	WebhookID string            `json:"webhook_id"`
	URL       string            `json:"url"`
	Since     time.Time         `json:"since"` // when the task can run at the earliest
	State     api.CallbackState `json:"state"`
	// Body is what is told, from the first attempt on.
	Body     json.RawMessage       `json:"body,omitempty"`
	Attempts int                   `json:"attempts"`
	Latest   []api.CallbackAttempt `json:"latest"`
	Next     time.Time             `json:"next,omitzero"`
}

// Check refuses a URL whose host is not allowed.
func (s *Sender) Check(text string) error {
	_, err := s.opts.Allow.ParseURL(text)
	return err
}

// Promise keeps a callback until it was made.
func (s *Sender) Promise(ctx context.Context, id, target string, due time.Time) (kept bool, err error) {
	now := time.Now()
	if due.Before(now) {
		due = now
	}
	c, err := encode(id, record{
		WebhookID: "msg_" + messages.NewID(), URL: target, Since: due.UTC(), State: api.CallbackWaiting, Latest: []api.CallbackAttempt{},
	})
	if err != nil {
		return false, err
	}
	kept, err = s.opts.Store.AddCallback(ctx, c, due.Add(firstLook), due.Sub(now)+s.opts.Keep)
	if err == nil && kept {
		s.watch(id)
	}
	return kept, err
}

// Forget drops a callback; one that stays finds no task and is dropped with its
// time.
func (s *Sender) Forget(ctx context.Context, id string) {
	s.unwatch(id)
	if err := s.opts.Store.RemoveCallback(ctx, id); err != nil {
		s.opts.Log.Info("callback of a task that was not sent is left", zap.String("task_id", id), zap.Error(err))
	}
}

// Get shows a callback.
func (s *Sender) Get(ctx context.Context, id string) (*api.Callback, error) {
	text, err := s.opts.Store.Callback(ctx, id)
	if err != nil {
		return nil, err
	}
	r, err := decode(text)
	if err != nil {
		return nil, err
	}
	out := &api.Callback{
		TaskID: id, WebhookID: r.WebhookID, URL: withoutQuery(r.URL), State: r.State, Attempts: r.Attempts, Latest: r.Latest,
	}
	if !r.Next.IsZero() {
		out.NextAttempt = &r.Next
	}
	return out, nil
}

// watch awaits notices of a task, where there is room for that.
func (s *Sender) watch(id string) {
	s.mu.Lock()
	full := len(s.watched) >= watchedTogether
	if !full {
		s.watched[id] = func() {}
	}
	s.mu.Unlock()
	if full {
		return
	}
	stop := s.opts.Watcher.OnChange(id, func() { s.tell(id) })
	s.mu.Lock()
	_, wanted := s.watched[id]
	if wanted {
		s.watched[id] = stop
	}
	s.mu.Unlock()
	if !wanted {
		stop()
	}
}

func (s *Sender) unwatch(id string) {
	s.mu.Lock()
	stop := s.watched[id]
	delete(s.watched, id)
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// tell is called by the watcher, under its lock.
func (s *Sender) tell(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told[id] = struct{}{}
	s.notify()
}

func (s *Sender) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func encode(id string, r record) (results.Callback, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return results.Callback{}, fmt.Errorf("encode callback: %w", err)
	}
	return results.Callback{ID: id, Record: text}, nil
}

func decode(text []byte) (record, error) {
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("decode callback: %w", err)
	}
	return r, nil
}

// withoutQuery hides what may be a secret.
func withoutQuery(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	u.RawQuery, u.ForceQuery = "", false
	return u.String()
}

var errNoSecret = errors.New("there is no secret to sign with")
