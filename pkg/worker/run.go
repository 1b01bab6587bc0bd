package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/delivery"
	"github.com/lovage-mq/lovage/internal/version"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
	"github.com/lovage-mq/lovage/pkg/results"
)

const (
	heartbeatEvery = 5 * time.Second
	// announceEvery brings the catalog back to a Redis that lost it.
	announceEvery = time.Minute
	// runningTold is how many running tasks a sign of life names at most.
	runningTold = 100
	// pauseEvery is how often it is asked which queues are paused.
	pauseEvery = time.Second
	// settleGrace is how long interrupted tasks may take to be given back
	// after the drain is over.
	settleGrace = 5 * time.Second
	// pauseTimeout is how long the broker may take to end the intake.
	pauseTimeout = 3 * time.Second
	// maxBody is RabbitMQ 3's limit: what the broker delivered it takes back.
	maxBody = 128 << 20
)

// Status says how a running worker is doing.
type Status struct {
	// RabbitMQ is "up" while the broker delivers to us, else "down"; Redis
	// is "up" when it answered the last heartbeat.
	RabbitMQ string
	Redis    string
	// Busy is the number of tasks that run now, Slots how many may.
	Busy  int
	Slots int
}

// Run takes tasks until ctx ends or somebody tells the worker to stop, over the
// HTTP API, and blocks. Then it stops the intake, gives
// back what has not started, and waits for running tasks; those that still run
// after [Options].Drain are interrupted with [ErrDrainTimeout] and go back to
// their queue with their count kept. RabbitMQ or Redis may be away at any
// time, also at the start: Run waits for them.
//
// It returns an error when the options are wrong, when no task is registered,
// or when a queue exists in RabbitMQ with other arguments.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.opts.Validate(); err != nil {
		return fmt.Errorf("worker options: %w", err)
	}
	if len(w.handlers) == 0 {
		return errors.New("worker has no tasks: register at least one with Handle")
	}
	if err := w.checkOrder(); err != nil {
		return err
	}
	w.seal()
	urls, err := rabbitmq.SplitURLs(w.opts.AMQPURL)
	if err != nil && w.opts.AMQPURLFile == "" {
		return fmt.Errorf("AMQPURL: %w", err)
	}
	client, err := results.OpenWith(results.Address{
		URL: w.opts.RedisURL, URLFile: w.opts.RedisURLFile, CAFile: w.opts.RedisCAFile, CertFile: w.opts.RedisCertFile, KeyFile: w.opts.RedisKeyFile,
	})
	if err != nil {
		return fmt.Errorf("RedisURL: %w", err)
	}
	store := results.New(results.Options{Client: client, TTL: w.opts.ResultTTL, Lease: w.opts.Lease, Log: w.log})
	e := newEngine(w, store, results.NewWatcher(client, w.log), rabbitmq.Options{
		URLs: urls, URLFile: w.opts.AMQPURLFile, CAFile: w.opts.AMQPCAFile, CertFile: w.opts.AMQPCertFile, KeyFile: w.opts.AMQPKeyFile,
		Passive: w.opts.Passive, Name: "lovage worker " + w.Name(), Log: w.log,
	})
	w.engine.Store(e)
	e.show(w.opts.Metrics)
	return errors.Join(e.run(ctx), client.Close())
}

// Status returns how the worker is doing; everything is down before Run.
func (w *Worker) Status() Status {
	s := Status{RabbitMQ: "down", Redis: "down", Slots: w.opts.Concurrency}
	e := w.engine.Load()
	if e == nil {
		return s
	}
	if e.consumer.Connected() && e.publisher.State() == "up" {
		s.RabbitMQ = "up"
	}
	if e.redisUp.Load() {
		s.Redis = "up"
	}
	s.Busy, s.Slots = int(e.busy.Load()), e.slots.capacity()
	return s
}

// engine is what runs while Run runs.
type engine struct {
	worker    *Worker
	store     *results.Store
	watcher   *results.Watcher
	publisher *rabbitmq.Publisher
	consumer  *rabbitmq.Consumer
	processor *delivery.Processor
	log       *zap.Logger
	started   time.Time

	slots   *slots
	held    map[string]*atomic.Int64 // deliveries by queue, written before Run only
	busy    atomic.Int64
	totals  totals
	redisUp atomic.Bool

	runs      *runs
	logs      *taskLogs
	adjusting sync.Mutex
	stopOnce  sync.Once
	told      chan struct{} // closed when somebody has told the worker to stop

	mu      sync.Mutex // guards closed, and running's Add against its Wait
	closed  bool
	running sync.WaitGroup
}

func newEngine(w *Worker, store *results.Store, watcher *results.Watcher, o rabbitmq.Options) *engine {
	e := &engine{
		worker: w, store: store, watcher: watcher, log: w.log, started: time.Now(),
		slots: newSlots(w.opts.Concurrency, max(len(w.opts.StrictOrder), 1)), held: map[string]*atomic.Int64{},
		runs: newRuns(), logs: newTaskLogs(store), told: make(chan struct{}),
	}
	e.publisher = rabbitmq.NewPublisher(rabbitmq.PublisherOptions{Options: o, Lanes: 1, MaxBody: maxBody, Metrics: w.opts.Metrics})
	e.publisher.Adopt(w.Queues()...)
	intakes := make([]rabbitmq.Intake, 0, len(w.Queues()))
	for _, q := range w.Queues() {
		e.held[q] = new(atomic.Int64)
		intakes = append(intakes, rabbitmq.Intake{Queue: q, Prefetch: w.prefetch(q, w.opts.Concurrency)})
	}
	consumer := rabbitmq.ConsumerOptions{Options: o, Intakes: intakes}
	if len(w.opts.StrictOrder) > 0 {
		consumer.Idle = e.slots.idle
	}
	e.consumer = rabbitmq.NewConsumer(consumer)
	e.consumer.Hold(w.Queues()...) // until Redis has said which are paused
	cancelled, _ := watcher.WatchCancellations()
	e.processor = delivery.New(delivery.Options{
		Store: store, Publisher: e.publisher, Worker: w.Name(), Lease: w.opts.Lease, GuardAfter: w.guardAfter(),
		Cancelled: cancelled, Metrics: w.opts.Metrics, Tasks: w.Tasks(), Log: w.log,
	})
	return e
}

// guardAfter is when a delivery has been held for so long that the broker might
// soon take it back; 0 for never.
func (w *Worker) guardAfter() time.Duration { return max(w.opts.ConsumerTimeout/2, 0) }

// prefetch is how many deliveries of a queue wait for slots or have one. Where the
// order of the queues is not strict, slots go to deliveries in the order in which
// they came, so queues share them as these numbers are to each other. Any queue
// alone can fill them all.
func (w *Worker) prefetch(queue string, slots int) int {
	const most = 1<<16 - 1 // AMQP's field has 16 bits
	return min(slots*max(w.opts.Weights[queue], 1), most)
}

func (e *engine) run(ctx context.Context) error {
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	g, life := errgroup.WithContext(life)
	// life ends when nothing is left to settle, work when running tasks must
	// stop, intake when no new one may start.
	work, interrupt := context.WithCancelCause(life)
	defer interrupt(nil)
	intake, endIntake := context.WithCancel(life)
	defer endIntake()
	take := func(d *rabbitmq.Delivery) {
		e.accept(d, func(p *place) { e.process(intake, work, life, d, p) })
	}

	g.Go(func() error { return e.publisher.Run(life) })
	g.Go(func() error { return e.consumer.Run(life, take) })
	g.Go(func() error { return e.processor.Run(life) })
	g.Go(func() error { return e.watcher.Run(life) })
	g.Go(func() error { return e.announce(life) })
	g.Go(func() error { return e.followPauses(life) })
	g.Go(func() error { return e.obey(life) })
	g.Go(func() error { return e.logs.run(life) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
		case <-e.told:
		case <-life.Done(): // one of the others failed
		}
		e.stopIntake(life)
		endIntake()
		e.drain(interrupt)
		end()
		return nil
	})
	return g.Wait()
}

// stopIntake ends the consumers before anything is given back: the broker
// would send it straight here again.
func (e *engine) stopIntake(ctx context.Context) {
	e.log.Info("worker stops, running tasks may end", zap.Int64("busy", e.busy.Load()), zap.Duration("drain", e.worker.opts.Drain))
	ctx, cancel := context.WithTimeout(ctx, pauseTimeout)
	defer cancel()
	e.consumer.Pause(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
}

func (e *engine) stopping() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.closed
}

// drain waits for what runs.
func (e *engine) drain(interrupt context.CancelCauseFunc) {
	ended := make(chan struct{})
	go func() {
		e.running.Wait()
		close(ended)
	}()
	for _, step := range []struct {
		wait time.Duration
		then func()
	}{
		{e.worker.opts.Drain, func() { interrupt(ErrDrainTimeout) }},
		{settleGrace, func() {
			e.log.Error("tasks did not stop, the broker gives them to others", zap.Int64("busy", e.busy.Load()))
		}},
	} {
		t := time.NewTimer(step.wait)
		select {
		case <-ended:
			t.Stop()
			return
		case <-t.C:
			step.then()
		}
	}
}

// accept takes a delivery from the consumer's goroutine into one of its own, in
// line for a slot.
func (e *engine) accept(d *rabbitmq.Delivery, process func(*place)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		_ = d.Requeue() // an error means that the broker does it
		return
	}
	p, crowded := e.slots.enter(e.worker.rank(d.Queue))
	if crowded > 0 {
		e.consumer.Yield(crowded)
	}
	e.held[d.Queue].Add(1)
	e.running.Go(func() {
		defer e.held[d.Queue].Add(-1)
		defer func() {
			if e.slots.leave(p) {
				e.adjust()
			}
		}()
		process(p)
	})
}

// process waits for a slot, and gives back what has not started when the
// worker stops first.
func (e *engine) process(intake, work, life context.Context, d *rabbitmq.Delivery, p *place) {
	run, gone := e.await(intake, d, p)
	if gone {
		return
	}
	if !run || intake.Err() != nil {
		_ = d.Requeue() // an error means that the broker does it
		return
	}
	e.busy.Add(1)
	defer e.busy.Add(-1)
	e.processor.Process(life, work, delivery.Delivery{Message: &d.Message, Queue: d.Queue, Acker: d},
		e.totals.around(e.attempt))
}

// await waits for the slot of a delivery. It has none when it was turned away, when
// the worker stops, or when it has waited for long: perhaps another worker has one.
func (e *engine) await(intake context.Context, d *rabbitmq.Delivery, p *place) (run, gone bool) {
	select {
	case <-p.turn:
		return !p.away, false
	default: // most have it at once
	}
	var waited <-chan time.Time
	if after := e.worker.guardAfter(); after > 0 {
		timer := time.NewTimer(after)
		defer timer.Stop()
		waited = timer.C
	}
	select {
	case <-p.turn:
		return !p.away, false
	case <-d.Gone():
		return false, true
	case <-waited:
	case <-intake.Done():
	}
	return false, false
}

// attempt is [Worker.RunAttempt], with a note of what runs.
func (e *engine) attempt(ctx context.Context, t *messages.Task, progress delivery.ProgressFunc) delivery.Outcome {
	defer e.runs.leave(e.runs.enter(t))
	return e.worker.RunAttempt(ctx, t, progress)
}

// followPauses takes nothing from the queues that somebody has paused. Before
// Redis has answered for the first time all of them count as paused; while it is
// away later, what it said last holds.
func (e *engine) followPauses(ctx context.Context) error {
	tick := time.NewTicker(pauseEvery)
	defer tick.Stop()
	var was []string
	known := false
	for {
		look, cancel := context.WithTimeout(ctx, pauseEvery)
		states, err := e.store.QueueStates(look)
		cancel()
		maps.DeleteFunc(states, func(_ string, s messages.QueueState) bool { return s != messages.QueuePaused })
		paused := slices.Sorted(maps.Keys(states))
		if err == nil && !slices.Equal(paused, was) {
			e.log.Info("paused queues changed", zap.Strings("paused", paused))
		}
		if err == nil && !(known && slices.Equal(paused, was)) {
			e.consumer.Hold(paused...)
			was, known = paused, true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// announce keeps the catalog and the worker's sign of life in Redis.
func (e *engine) announce(ctx context.Context) error {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	var announced time.Time
	for {
		err := e.signOfLife(ctx, time.Since(announced) > announceEvery)
		switch {
		case err != nil:
			announced = time.Time{}
		case time.Since(announced) > announceEvery:
			announced = time.Now()
		}
		if up := err == nil; e.redisUp.Swap(up) != up || (announced.IsZero() && !up) {
			e.log.Info("redis changed", zap.Bool("up", up), zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return e.leave(ctx)
		case <-tick.C:
		}
	}
}

func (e *engine) signOfLife(ctx context.Context, announce bool) error {
	ctx, cancel := context.WithTimeout(ctx, heartbeatEvery)
	defer cancel()
	if announce {
		return e.store.Announce(ctx, e.info(), e.worker.entries())
	}
	return e.store.Heartbeat(ctx, e.info())
}

func (e *engine) info() messages.WorkerInfo {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	held := make(map[string]int, len(e.held))
	for q, n := range e.held {
		held[q] = int(n.Load())
	}
	return messages.WorkerInfo{
		Name: e.worker.Name(), Host: host, PID: os.Getpid(), Version: version.String(),
		Queues: e.worker.Queues(), Tasks: e.worker.Tasks(),
		Slots: e.slots.capacity(), Busy: int(e.busy.Load()), Held: held, Started: e.started, LastSeen: time.Now(),
		Running: e.runs.longest(runningTold), Abandoned: int(e.worker.Abandoned()), Stopping: e.stopping(),
		Memory: memory(), Goroutines: runtime.NumGoroutine(), Totals: e.totals.read(),
	}
}

// leave takes the sign of life away; if that fails it expires by itself.
func (e *engine) leave(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := e.store.Leave(ctx, e.info()); err != nil {
		e.log.Warn("worker not signed off", zap.Error(err))
	}
	return nil
}
