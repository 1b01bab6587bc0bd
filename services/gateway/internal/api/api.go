package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/tracing"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// Publisher puts a message into a queue and knows how the broker is.
type Publisher interface {
	// Enqueue returns nil when the broker has confirmed the message, and one
	// of the sentinels of package messages otherwise. It returns soon after
	// ctx ends.
	Enqueue(ctx context.Context, queue string, delay time.Duration, m *messages.Message) error
	// State returns "up", "blocked" or "down" without waiting for anything.
	State() string
}

// Results reads what is known about tasks.
type Results interface {
	// Get returns [messages.ErrNotFound] for an unknown id and
	// [messages.ErrStoreUnavailable] when the store does not answer.
	Get(ctx context.Context, id string) (*messages.Result, error)
	// List returns tasks, newest first.
	List(ctx context.Context, f Filter, cursor string, limit int) (Page, error)
}

// Filter says which tasks to list. A zero field does not restrict.
type Filter struct {
	States []messages.State
	Name   string
	Queue  string
	Worker string
	// Error is a part of the error's type or message, whatever the case.
	Error string
	Since time.Time
	Until time.Time
	// ID is how the id begins.
	ID string
	// Input are values of indexed fields, as [messages.Terms] writes them.
	Input map[string]string
}

// Page is one page of a list. Next is the cursor of the next one, empty at the
// end; a page may hold fewer results than asked for and still have a next.
type Page struct {
	Results []*messages.Result
	Next    string
	// Trimmed is how many tasks were dropped from the list for its limit.
	Trimmed int
}

// Canceller revokes tasks.
type Canceller interface {
	// Cancel returns the record of the task as it is then. Errors are those of
	// Results.Get.
	Cancel(ctx context.Context, id string) (*messages.Result, Cancelled, error)
}

// Cancelled says what a cancellation came to.
type Cancelled string

// The outcomes of a cancellation.
const (
	CancelRevoked   Cancelled = "REVOKED" // nobody will run it
	CancelRequested Cancelled = "RUNNING" // whoever runs it is told to stop
	CancelEnded     Cancelled = "ENDED"   // it had ended before
)

// Recorder takes the record of a task that was just submitted. It never
// blocks; false means that the record was dropped.
type Recorder interface {
	Record(r *messages.Result) bool
	// Await waits for room, but not past the end of ctx, nor for a store that
	// is away.
	Await(ctx context.Context, r *messages.Result) bool
}

// Watcher tells when the record of a task changes, until stop is called.
// Notices may be lost: a reader also looks by itself from time to time.
type Watcher interface {
	Watch(id string) (changed <-chan struct{}, stop func())
}

// Catalog knows which tasks there are and who runs them.
type Catalog interface {
	Catalog(ctx context.Context) ([]messages.CatalogEntry, error)
	Workers(ctx context.Context) ([]messages.WorkerInfo, error)
}

// Options configure an [API]. Publisher, Results, Canceller, Deleter, Restarter,
// Recorder, Watcher, Events, Catalog, Workers, Keys, DeadLetters, Queues, QueueStats,
// Purger, Depths, Operations, OperationLeases and Logs are required.
type Options struct {
	Publisher   Publisher
	Results     Results
	Canceller   Canceller
	Deleter     Deleter
	Restarter   Restarter
	Recorder    Recorder
	Watcher     Watcher
	Events      Events
	Catalog     Catalog
	Workers     Workers
	Keys        Keys
	DeadLetters DeadLetters
	Queues      Queues
	Depths      Depths
	QueueStats  QueueStats
	Purger      Purger
	Logs        Logs

	Operations      Operations
	OperationLeases OperationLeases

	// Gate knows who may do what; without one everybody may do everything.
	Gate Gate
	// Rates counts the requests of each credential; nil for no limits.
	Rates Rates
	// Audit keeps what was steered; without one it is in the log only.
	Audit Audit
	// Callbacks is nil for none.
	Callbacks Callbacks

	Log *zap.Logger
	// Metrics receives what the API counts; nil for nobody.
	Metrics prometheus.Registerer
	// Tracer makes a span of each request and of each submission; nil for none,
	// then the trace context of a client is handed on as it came.
	Tracer trace.TracerProvider

	// AllowedHosts are the names by which clients may address this server, in
	// addition to localhost, 127.0.0.1 and [::1]. A port is ignored.
	AllowedHosts []string
	// ForeignQueues were declared by Celery and are served by it: messages go
	// there at once, and Celery itself holds them until their ETA.
	ForeignQueues []string
	// MaxBody is the largest request body in bytes, 1 MiB by default.
	MaxBody int64
	// PublishTimeout bounds a publish, 2 s by default, and MaxPublishTimeout
	// what a client may ask for instead, 30 s by default; ReadTimeout bounds
	// one question to the result store, 2 s by default.
	PublishTimeout    time.Duration
	MaxPublishTimeout time.Duration
	ReadTimeout       time.Duration
	// MaxInFlight is the most submissions that may be in flight, 4000 by
	// default. While the broker does not keep up it is fewer.
	MaxInFlight int
	// PassTimeout bounds a pass over the dead letters of a queue, 25 s by
	// default.
	PassTimeout time.Duration
	// SteerTimeout bounds the wait for the answer of a worker to a command, 10 s by
	// default: twice the time in which it looks for commands whatever happens.
	SteerTimeout time.Duration
	// MaxWait caps "Prefer: wait", 60 s by default.
	MaxWait time.Duration
	// MaxStreams is the most event streams that may be open, 5000 by default,
	// and MaxStreamsPerCaller those of one caller, 500 by default. Caller says
	// whose a request is, by its remote address if it is nil.
	MaxStreams          int
	MaxStreamsPerCaller int
	Caller              func(*http.Request) string
	// Retention is how long a record is kept at most after the creation of
	// its id; a UUIDv7 older than that without a record is gone (410). The
	// default is 8 days: 7 for a task that has not ended, 1 for its result.
	Retention time.Duration
	// Version is shown in the OpenAPI document.
	Version string
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	o.MaxInFlight = orDefault(o.MaxInFlight, 4000)
	o.MaxBody = orDefault(o.MaxBody, 1<<20)
	o.PublishTimeout = orDefault(o.PublishTimeout, 2*time.Second)
	o.MaxPublishTimeout = max(orDefault(o.MaxPublishTimeout, 30*time.Second), o.PublishTimeout)
	o.ReadTimeout = orDefault(o.ReadTimeout, 2*time.Second)
	o.PassTimeout = orDefault(o.PassTimeout, 25*time.Second)
	o.SteerTimeout = orDefault(o.SteerTimeout, 10*time.Second)
	o.MaxWait = orDefault(o.MaxWait, time.Minute)
	o.MaxStreams = orDefault(o.MaxStreams, 5000)
	o.MaxStreamsPerCaller = orDefault(o.MaxStreamsPerCaller, 500)
	if o.Caller == nil {
		o.Caller = callerOf
	}
	o.Retention = orDefault(o.Retention, 8*24*time.Hour)
	return o
}

func orDefault[T int | int64 | time.Duration](v, otherwise T) T {
	if v > 0 {
		return v
	}
	return otherwise
}

func (o Options) validate() error {
	required := []struct {
		name    string
		missing bool
	}{
		{"Publisher", o.Publisher == nil},
		{"Results", o.Results == nil},
		{"Canceller", o.Canceller == nil},
		{"Deleter", o.Deleter == nil},
		{"Restarter", o.Restarter == nil},
		{"DeadLetters", o.DeadLetters == nil},
		{"Queues", o.Queues == nil},
		{"Depths", o.Depths == nil},
		{"QueueStats", o.QueueStats == nil},
		{"Purger", o.Purger == nil},
		{"Logs", o.Logs == nil},
		{"Recorder", o.Recorder == nil},
		{"Watcher", o.Watcher == nil},
		{"Events", o.Events == nil},
		{"Catalog", o.Catalog == nil},
		{"Workers", o.Workers == nil},
		{"Keys", o.Keys == nil},
		{"Operations", o.Operations == nil},
		{"OperationLeases", o.OperationLeases == nil},
	}
	var errs []error
	for _, r := range required {
		if r.missing {
			errs = append(errs, &messages.InvalidError{Field: r.name, Rule: "is required"})
		}
	}
	return errors.Join(errs...)
}

// API is the HTTP API. It is an [http.Handler]; [API.Run] does what goes on
// beside the requests. Use [New].
type API struct {
	opts     Options
	handler  http.Handler
	origin   string // of the tasks
	foreign  map[string]bool
	catalog  *catalog
	states   *queueStates
	options  []param[submitOptions]
	filters  []param[listQuery]
	metrics  *metrics
	tracer   trace.Tracer // nil for no spans
	limiter  *limiter
	times    batchTimes
	batches  slots
	draining chan struct{}
	drain    sync.Once

	hub         *hub
	streams     *streams
	streamTimes streamTimes
	looks       slots // of the streams at the store

	operating      slots         // of the operations here
	begun          chan *work    // those that begin here
	rested         chan struct{} // closed when nobody works on any more
	operationTimes operationTimes
}

// New builds the API and starts nothing. It fails when a required option is
// missing.
func New(o Options) (*API, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	a := &API{
		opts:     o,
		states:   &queueStates{opts: o},
		origin:   messages.Origin(),
		foreign:  map[string]bool{},
		options:  optionParams(),
		filters:  listParams(),
		times:    defaultBatchTimes(),
		batches:  make(slots, batchesTogether),
		limiter:  newLimiter(o.MaxInFlight),
		metrics:  newMetrics(o.Metrics),
		draining: make(chan struct{}),

		hub:         newHub(o),
		streams:     newStreams(o.MaxStreams, o.MaxStreamsPerCaller),
		streamTimes: defaultStreamTimes(),
		looks:       make(slots, looksTogether),

		operating:      make(slots, operationsTogether),
		begun:          make(chan *work),
		rested:         make(chan struct{}),
		operationTimes: defaultOperationTimes(),
	}
	for _, q := range o.ForeignQueues {
		a.foreign[q] = true
	}
	if o.Tracer != nil {
		a.tracer = tracing.Tracer(o.Tracer)
	}
	a.limiter.show(o.Metrics)
	a.streams.show(o.Metrics)
	e := echo.New()
	e.HTTPErrorHandler = echoError
	static, err := a.register(e)
	if err != nil {
		return nil, err
	}
	a.catalog = newCatalog(a.opts, static)
	a.catalog.show(o.Metrics)
	a.handler = a.middleware(e)
	return a, nil
}

// ServeHTTP answers a request. No answer waits on RabbitMQ or Redis past the
// timeouts of the [Options].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Run keeps the copies of what is in the store fresh, and works on operations
// until [API.Drain]. It blocks until ctx ends, and returns nil then. It may be
// called once.
func (a *API) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.catalog.run(ctx) })
	g.Go(func() error { return a.states.run(ctx) })
	g.Go(func() error { return a.hub.run(ctx) })
	g.Go(func() error { return a.runOperations(ctx) })
	return g.Wait()
}

// Drain makes /readyz answer 503, ends every "Prefer: wait" and every event
// stream, and gives the operations back, so that the server can stop. All else goes on. It may be
// called more than once.
func (a *API) Drain() { a.drain.Do(func() { close(a.draining) }) }

// Rest blocks until [API.Run] works on no operation any more, as after
// [API.Drain], or until ctx ends.
func (a *API) Rest(ctx context.Context) {
	select {
	case <-a.rested:
	case <-ctx.Done():
	}
}
