// Package delivery is the path of a delivery: decode, claim, run, settle,
// publish the successor, ack. Workers run tasks by it, and the gateway's clerk
// gives an outcome to what the broker dead-letters.
//
// The order is what keeps the promises. The outcome and the name of its
// successor are stored in one step, then the successor is published and
// confirmed, then the delivery is acked, then the successor's name is cleared.
// Whatever dies in between, the broker delivers the message again, and the
// claim tells what is left to do.
package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

const (
	// isolateAt is the start that runs alone on its worker, convictAt the one
	// that is not run any more: see docs/decisions/0002-poison.md.
	isolateAt = 3
	convictAt = 4
	// A suspect waits so long to be alone, while nothing else starts on its
	// worker, and then tries again later, perhaps elsewhere.
	aloneWait  = 2 * time.Second
	aloneAgain = 10 * time.Second
	// whole is the weight of a task that runs alone; any other weighs 1.
	whole = 1 << 30
)

// Publisher publishes the successors of an attempt.
type Publisher interface {
	Enqueue(ctx context.Context, queue string, delay time.Duration, m *messages.Message) error
	DeadLetter(ctx context.Context, queue string, m *messages.Message) error
}

// Acker settles a delivery with the broker, exactly once.
type Acker interface {
	Ack() error
	Requeue() error
	// Gone is closed when the delivery cannot be settled any more: the
	// broker gives it to somebody else.
	Gone() <-chan struct{}
}

// Delivery is one message that the broker handed over.
type Delivery struct {
	Message *messages.Message
	// Queue is the work queue that the task belongs to.
	Queue string
	// DeadReason is the broker's own word for why it dead-lettered the
	// message; empty for a delivery from a work queue.
	DeadReason string
	Acker      Acker
}

// Handler runs one claimed attempt. The context ends with a cause when the
// lease is lost, the task is cancelled or the worker has to stop.
type Handler func(ctx context.Context, t *messages.Task, progress ProgressFunc) Outcome

// ProgressFunc stores how far the running attempt has come.
type ProgressFunc func(ctx context.Context, p messages.ProgressInfo) error

// Options configure a [Processor]. All fields but GuardAfter, StartedAfter,
// Cancelled, Metrics and Tasks are required.
type Options struct {
	Store     *results.Store
	Publisher Publisher
	// Worker is the name that results carry.
	Worker string
	// Lease is how long a claim holds without being renewed.
	Lease time.Duration
	// GuardAfter is when the delivery of a running task is exchanged for a copy,
	// well before the broker's consumer_timeout; never when zero.
	GuardAfter time.Duration
	// StartedAfter is how long a handler runs before others are told that it does,
	// 20 ms by default. Most have ended by then, and their outcome says all there
	// is to say.
	StartedAfter time.Duration
	// Cancelled is told that a running task was cancelled, here or elsewhere.
	// Without it a cancellation is heard of when leases are renewed.
	Cancelled <-chan struct{}
	// Metrics receives what is counted: what claims were answered, leases that
	// were lost, deliveries that were exchanged, dead letters, and attempts of the
	// kinds of tasks in Tasks; nil for nobody.
	Metrics prometheus.Registerer
	Tasks   []string
	Log     *zap.Logger
}

// Processor takes deliveries to their end. It is safe for concurrent use.
type Processor struct {
	opts    Options
	metrics metrics
	leases  *leases
	// gate is passed by every attempt that runs, and taken whole by one that
	// must run alone.
	gate *semaphore.Weighted
}

// New returns a processor. Its leases are renewed while Run runs.
func New(o Options) *Processor {
	return &Processor{
		opts: o, metrics: newMetrics(o.Metrics, o.Tasks),
		leases: newLeases(o.Store, o.Lease/3, o.Cancelled, o.Log), gate: semaphore.NewWeighted(whole),
	}
}

// Run renews the leases of everything that runs, until ctx ends.
func (p *Processor) Run(ctx context.Context) error {
	p.leases.run(ctx)
	return nil
}

// Process takes a delivery from a work queue to its end. It returns when the
// delivery is settled, or when ctx ends: then it stays with the broker, which
// delivers it again. The handler's context descends from work.
func (p *Processor) Process(ctx, work context.Context, d Delivery, handle Handler) {
	p.process(ctx, work, d, func(t *task) Outcome { return p.attempt(ctx, work, t, handle) })
}

// Reject gives an outcome to a delivery that the broker dead-lettered.
func (p *Processor) Reject(ctx context.Context, d Delivery) {
	p.process(ctx, ctx, d, func(*task) Outcome {
		if d.DeadReason == "delivery_limit" {
			return failure(messages.ReasonDeliveryLimit, "DeliveryLimitExceeded", "the broker gave up after too many deliveries")
		}
		return failure(messages.ReasonBroker, "Rejected", "dead-lettered by the broker: "+d.DeadReason)
	})
}

// task is one delivery on its way: what arrived, and the claim on it.
type task struct {
	*messages.Task
	delivery Delivery
	token    string
	claim    messages.Claim
	started  time.Time
	lost     bool // somebody else has the task
	logger   *zap.Logger
}

// log is made when there is something to say, which is not so for most.
func (t *task) log() *zap.Logger {
	if t.ID == "" {
		return t.logger
	}
	return t.logger.With(zap.String("task_id", t.ID), zap.String("task", t.Name))
}

func (p *Processor) process(ctx, work context.Context, d Delivery, run func(*task) Outcome) {
	decoded, err := messages.Decode(d.Message)
	if err != nil {
		p.undecodable(ctx, d, err)
		return
	}
	d.Acker = &exchanged{Acker: d.Acker}
	t := &task{Task: decoded, delivery: d, logger: p.opts.Log}
	if d.Queue != "" {
		t.Queue = d.Queue
	}
	if time.Until(t.ETA) > 0 && d.DeadReason == "" {
		p.copyLater(ctx, t, t.ETA)
		return
	}
	select {
	case <-d.Acker.Gone():
		return
	default:
	}
	for arrived := *t; ; {
		// Each execution has a token and a task of its own: a handler that
		// was left behind must not report for the next one.
		execution := arrived
		t := &execution
		t.token, t.started = uuid.NewString(), time.Now()
		if !p.claim(ctx, work, t) {
			return
		}
		if t.claim.Verdict != messages.VerdictRun && t.claim.Verdict != messages.VerdictCancelled {
			p.redelivered(ctx, t)
			return
		}
		o := p.outcome(t, run)
		if o.State == "" {
			p.giveBack(ctx, t, o)
			return
		}
		r := p.record(t, o)
		err := p.settle(ctx, t, r, o)
		if invalid := new(messages.InvalidError); errors.As(err, &invalid) {
			// The outcome cannot be stored, so that becomes the outcome.
			o = failure(messages.ReasonPermanent, "ResultNotStored", err.Error())
			r = p.record(t, o)
			err = p.settle(ctx, t, r, o)
		}
		if errors.Is(err, messages.ErrLost) {
			p.metrics.lose(t)
			t.log().Warn("outcome dropped, another worker holds the task", zap.String("state", string(o.State)))
			continue
		}
		if err == nil {
			p.metrics.of(t.Name).settled(o.State)
			p.finish(ctx, t, o.next(), r)
		}
		return
	}
}

// outcome decides without the handler where there is nothing to run.
func (p *Processor) outcome(t *task, run func(*task) Outcome) Outcome {
	switch {
	case t.claim.Verdict == messages.VerdictCancelled:
		return revoked("revoked")
	case !t.Expires.IsZero() && time.Now().After(t.Expires):
		return revoked("expired")
	case hasSuccessors(t.Embed):
		return failure(messages.ReasonPermanent, "NotSupported", "the message carries callbacks, a chain or a chord, which this worker does not follow yet")
	}
	return run(t)
}

// attempt runs the handler under the lease. A first start runs at once; later
// ones are counted when they begin, and the suspect ones run alone, so that a
// task that kills its process is told from its neighbours.
func (p *Processor) attempt(ctx, work context.Context, t *task, handle Handler) Outcome {
	if t.claim.Starts >= convictAt {
		return failure(messages.ReasonDeliveryLimit, "WorkerLost", fmt.Sprintf("its worker died during each of %d starts", t.claim.Starts-1))
	}
	work, drop := p.leases.hold(work, t.Attempt(), t.token)
	defer drop()
	defer func() {
		if errors.Is(context.Cause(work), ErrLeaseLost) {
			p.metrics.lose(t)
		}
	}()
	leave, ok := p.enter(work, t.claim.Starts >= isolateAt)
	if !ok && work.Err() == nil {
		return Outcome{RetryIn: aloneAgain}
	}
	defer leave()
	if work.Err() != nil {
		return interrupted(work, Outcome{})
	}
	// A process that was frozen since its claim may have lost it.
	if (t.claim.Starts > 1 || time.Since(t.started) > p.opts.Lease) && p.begin(ctx, t) != nil {
		return Outcome{}
	}
	defer p.guard(ctx, t)()
	say := newAnnouncement(p, t)
	defer say.begin(ctx)()
	return interrupted(work, p.metrics.of(t.Name).run(work, t, handle, say.progress))
}

// enter waits at the gate. A suspect does not wait long: as long as it does,
// nobody else gets in.
func (p *Processor) enter(work context.Context, alone bool) (leave func(), ok bool) {
	weight := int64(1)
	if alone {
		var cancel context.CancelFunc
		work, cancel = context.WithTimeout(work, aloneWait)
		defer cancel()
		weight = whole
	}
	if p.gate.Acquire(work, weight) != nil {
		return func() {}, false
	}
	return func() { p.gate.Release(weight) }, true
}

// interrupted overrides the outcome of a handler whose task was cancelled. A
// success stands: what is done is done.
func interrupted(work context.Context, o Outcome) Outcome {
	if errors.Is(context.Cause(work), ErrCancelled) && o.State != messages.Success {
		return revoked("terminated")
	}
	return o
}

func (p *Processor) begin(ctx context.Context, t *task) error {
	err := p.persist(ctx, t, "begin", func(ctx context.Context) error {
		return p.opts.Store.Begin(ctx, t.Attempt(), t.token)
	})
	if errors.Is(err, messages.ErrLost) {
		p.metrics.lose(t)
	}
	return err
}

// claim asks the task record what to do, for as long as the store is away.
// False when there is no time left for an answer: the delivery goes back.
func (p *Processor) claim(ctx, work context.Context, t *task) bool {
	var due *messages.Result // most have neither
	if !t.ETA.IsZero() || !t.Expires.IsZero() {
		due = &messages.Result{ETA: t.ETA, Expires: t.Expires}
	}
	err := p.insist(work, t.delivery.Acker.Gone(), t, "claim", func() error {
		var err error
		t.claim, err = p.opts.Store.Claim(context.WithoutCancel(work), t.Attempt(), t.token, due)
		return err
	})
	if err != nil {
		p.giveBack(ctx, t, Outcome{}) // the store may have heard the claim all the same
		return false
	}
	p.metrics.claimed(t.claim.Verdict)
	return true
}

// undecodable dead-letters what cannot be read, with an outcome for its task
// where the message tells which one it is.
func (p *Processor) undecodable(ctx context.Context, d Delivery, cause error) {
	t := &task{Task: &messages.Task{Queue: d.Queue}, delivery: d, started: time.Now(), logger: p.opts.Log}
	o := failure(messages.ReasonUndecodable, "DecodeError", cause.Error())
	r := p.record(t, o)
	var de *messages.DecodeError
	if errors.As(cause, &de) && de.ID != "" {
		t.ID, t.Name, t.Run, t.Retries = de.ID, de.Name, de.Run, de.Retries
		t.token = uuid.NewString()
		// A claim that is not ours to run means that the outcome is known.
		if !p.claim(ctx, ctx, t) {
			return
		}
		if t.claim.Verdict == messages.VerdictRun || t.claim.Verdict == messages.VerdictCancelled {
			r = p.record(t, o)
			if err := p.settle(ctx, t, r, o); err != nil && !errors.Is(err, messages.ErrLost) {
				return
			}
		}
	}
	t.log().Warn("message dead-lettered", zap.String("reason", string(o.Reason)), zap.Error(cause))
	m := *d.Message
	messages.EncodeDeadLetter(&m, p.letter(t, r))
	err := p.publish(ctx, t, func(ctx context.Context) error {
		return p.opts.Publisher.DeadLetter(ctx, d.Queue, &m)
	})
	if err != nil {
		t.log().Error("dead letter not published, the delivery stays with the broker", zap.Error(err))
		return
	}
	p.metrics.died(o.Reason)
	p.ack(t)
	if t.ID != "" {
		_ = p.persist(ctx, t, "clear successor", func(ctx context.Context) error {
			return p.opts.Store.Done(ctx, t.Attempt())
		})
	}
}
