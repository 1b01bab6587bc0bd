package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// PublisherOptions configure a [Publisher].
type PublisherOptions struct {
	Options
	// Lanes is the number of connections, Channels the number of channels on
	// each; default 2 and 8. The second of each is used when the first has its
	// hands full.
	Lanes    int
	Channels int
	// MaxInFlight bounds the messages that are handed over and not settled;
	// default 4000.
	MaxInFlight int
	// MaxBody bounds the body of a message in bytes; default 16 MiB, which
	// is what RabbitMQ 4 takes (max_message_size).
	MaxBody int
	// Foreign are queues that somebody else declared and serves: they are
	// published to as they are, and never twice.
	Foreign []string
	// Metrics receives what the publisher counts; nil for nobody.
	Metrics prometheus.Registerer
}

// A quorum queue refuses the first messages of a channel while it elects its
// leader, without having looked at them: just declared, for instance. So a
// refusal is final only when it is repeated.
const (
	refusedTries = 4
	refusedPause = 50 * time.Millisecond
)

// spillOver is how many messages may wait to be written to a connection before
// the next one takes over.
const spillOver = 128

// Publisher publishes durable messages and returns when the broker has
// confirmed them. No call outlives its context, and while the broker is known
// to be away a call is refused at once. Create it with [NewPublisher] and keep
// [Publisher.Run] running; it is safe for concurrent use.
type Publisher struct {
	lanes   []*lane
	tokens  chan struct{}
	foreign map[string]bool
	admin   *admin
	targets targets
	maxBody int
	metrics *metrics
	log     *zap.Logger

	// alarm is when a connection was last lost or found the broker silent
	// (unix nanoseconds): the others then take its pulse too, busy or not.
	alarm atomic.Int64

	mu     sync.Mutex
	wakeUp chan struct{}
}

// NewPublisher returns a publisher that is down until Run connects it.
func NewPublisher(o PublisherOptions) *Publisher {
	o.Options = o.withDefaults()
	if o.Lanes == 0 {
		o.Lanes = 2
	}
	if o.Channels == 0 {
		o.Channels = 8
	}
	if o.MaxInFlight == 0 {
		o.MaxInFlight = 4000
	}
	if o.MaxBody == 0 {
		o.MaxBody = 16 << 20
	}
	p := &Publisher{
		targets: targets{byName: map[string]*target{}},
		maxBody: o.MaxBody,
		log:     o.Log,
		tokens:  make(chan struct{}, o.MaxInFlight),
		foreign: map[string]bool{},
		admin:   newAdmin(o.Options),
		wakeUp:  make(chan struct{}),
	}
	for _, q := range o.Foreign {
		p.foreign[q] = true
	}
	p.metrics = newMetrics(p, o.Metrics)
	for i := range o.Lanes {
		p.lanes = append(p.lanes, newLane(o, i, p))
	}
	return p
}

// Run connects and reconnects until ctx ends, then waits up to two seconds for
// what is in flight and closes. It returns early, with a [TopologyError], only
// when the broker holds an object of ours with other arguments.
func (p *Publisher) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range p.lanes {
		g.Go(func() error { return l.run(ctx) })
	}
	g.Go(func() error {
		p.watchTargets(ctx)
		return nil
	})
	return g.Wait()
}

// watchTargets finds the queues that confirm nothing while others do.
func (p *Publisher) watchTargets(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if p.State() != "up" {
				continue
			}
			if _, ill := p.targets.judge(illAfter); len(ill) > 0 {
				p.log.Warn("queues do not confirm, refusing messages to them", zap.Strings("queues", ill))
			}
		}
	}
}

// State is "up" while at least one connection takes messages, "blocked" while
// the broker asks publishers to stop (an alarm), and else "down".
func (p *Publisher) State() string {
	state := "down"
	for _, l := range p.lanes {
		switch {
		case l.blocked.Load():
			return "blocked"
		case l.up.Load() != nil:
			state = "up"
		}
	}
	return state
}

// waiting is how many messages wait to be written.
func (p *Publisher) waiting() (n int) {
	for _, l := range p.lanes {
		n += int(l.waiting.Load())
	}
	return n
}

// Adopt tells the publisher that these queues are ours: when one of them is
// missing it is declared once before a message to it is refused.
func (p *Publisher) Adopt(queues ...string) {
	for _, q := range queues {
		if !p.foreign[q] {
			p.admin.adopt(q)
		}
	}
}

// Enqueue publishes a message to a work queue, to arrive after delay, and
// returns nil when the broker has confirmed it. Foreign queues get it at once:
// Celery holds a task until its eta. The errors are the sentinels of package
// messages: [messages.ErrBrokerUnavailable], [messages.ErrOverloaded] and
// [messages.ErrNotSent] (not sent), [messages.ErrQueueUnavailable] (not sent:
// the queue confirms nothing), [messages.ErrQueueMissing], [messages.ErrRefused] and [messages.ErrUnconfirmed]; a message that no
// broker would take is a [messages.InvalidError].
func (p *Publisher) Enqueue(ctx context.Context, queue string, delay time.Duration, m *messages.Message) (err error) {
	defer func(begun time.Time) { p.metrics.observe(begun, err) }(time.Now())
	if p.foreign[queue] {
		return p.publish(ctx, Immediate(queue), m, false)
	}
	if p.State() != "up" {
		return p.unavailable()
	}
	if delay > 0 {
		end, err := p.admin.ensureDelay(ctx, queue)
		if err != nil {
			return err
		}
		return p.publish(ctx, Delayed(end, delay), m, true)
	}
	return p.publishOwn(ctx, queue, Immediate(queue), m)
}

// DeadLetter publishes a message to the dead-letter queue of a work queue. The
// errors are those of [Publisher.Enqueue].
func (p *Publisher) DeadLetter(ctx context.Context, queue string, m *messages.Message) (err error) {
	defer func(begun time.Time) { p.metrics.observe(begun, err) }(time.Now())
	p.Adopt(queue)
	return p.publishOwn(ctx, queue, Dead(queue), m)
}

// SendOn publishes what was found in [UnroutableQueue] to the queue that it was
// delayed for. The errors are those of [Publisher.Enqueue]:
// [messages.ErrQueueMissing] when that queue is still not there.
func (p *Publisher) SendOn(ctx context.Context, m *messages.Message) (err error) {
	defer func(begun time.Time) { p.metrics.observe(begun, err) }(time.Now())
	queue := delayedFor(m.RoutingKey)
	return p.publishOwn(ctx, queue, Immediate(queue), anew(m))
}

// SetAside publishes it to [UnroutableQueue] again, behind the others. The errors
// are those of [Publisher.Enqueue].
func (p *Publisher) SetAside(ctx context.Context, m *messages.Message) (err error) {
	defer func(begun time.Time) { p.metrics.observe(begun, err) }(time.Now())
	return p.publish(ctx, Address{Exchange: UnroutableQueue, Key: m.RoutingKey}, anew(m), true)
}

// anew is a message without what the broker has written into it on its way.
func anew(m *messages.Message) *messages.Message {
	t, err := messages.Decode(m)
	if err != nil {
		return m // its worker is to see what is wrong with it
	}
	again, err := messages.Encode(t)
	if err != nil {
		return m
	}
	return again
}

// publishOwn declares a queue of ours once when the broker returns a message
// because the queue is gone.
func (p *Publisher) publishOwn(ctx context.Context, queue string, a Address, m *messages.Message) error {
	err := p.publish(ctx, a, m, true)
	if !errors.Is(err, messages.ErrQueueMissing) || !p.admin.adopted(queue) {
		return err
	}
	if err := p.admin.declareWork(ctx, queue); err != nil {
		return err
	}
	return p.publish(ctx, a, m, true)
}

// publish sends a message and, when its connection breaks before the word of
// the broker, once more under the same id, unless resend is false. Once a
// write may have reached the broker the answer is nil or ErrUnconfirmed,
// whatever the second try says.
func (p *Publisher) publish(ctx context.Context, a Address, m *messages.Message, resend bool) error {
	if err := checkPublish(a, m, p.maxBody); err != nil {
		return err
	}
	err := p.try(ctx, a, m, 0)
	for tries := 1; resend && errors.Is(err, messages.ErrRefused) && tries < refusedTries && sleep(ctx, refusedPause); tries++ {
		err = p.try(ctx, a, m, 0)
	}
	if !errors.Is(err, errBroken) {
		return err
	}
	if resend && p.again(ctx, a, m) {
		return nil
	}
	return fmt.Errorf("publish: %w: %w", messages.ErrUnconfirmed, err)
}

// again sends a message in doubt once more, and reports whether it is confirmed.
// Connections often end together, so the one other try is not spent on one that
// has not heard of its end yet. To be refused, because the queue is still ill,
// is no try: nothing was written.
func (p *Publisher) again(ctx context.Context, a Address, m *messages.Message) bool {
	broken := time.Now().UnixNano()
	for p.awaitAlive(ctx, broken) {
		err := p.try(ctx, a, m, broken)
		if !unsent(err) {
			p.metrics.resends.Inc()
			return err == nil
		}
		if !sleep(ctx, refusedPause) {
			break
		}
	}
	return false
}

// unsent reports whether a try ended before anything was written.
func unsent(err error) bool {
	return errors.Is(err, messages.ErrQueueUnavailable) || errors.Is(err, messages.ErrOverloaded) ||
		errors.Is(err, messages.ErrBrokerUnavailable) || errors.Is(err, messages.ErrNotSent)
}

// try hands a message to a lane that the broker has answered since then, and
// waits for its outcome. A lane that goes down before the write hands it back,
// and the next lane gets it.
func (p *Publisher) try(ctx context.Context, a Address, m *messages.Message, since int64) error {
	select {
	case p.tokens <- struct{}{}:
	default:
		return fmt.Errorf("publish: %w (limit %d)", messages.ErrOverloaded, cap(p.tokens))
	}
	j := newJob(a, m, func() { <-p.tokens }, &p.targets)
	if err := p.targets.enter(j); err != nil {
		j.release()
		return fmt.Errorf("publish to %q: %w", targetName(a), err)
	}
	for range p.lanes {
		l := p.pick(since)
		if l == nil || !l.offer(j) {
			break
		}
		err := j.wait(ctx)
		if !errors.Is(err, errNotWritten) {
			return err
		}
	}
	j.finish(noWord, time.Now())
	return p.unavailable()
}

func (p *Publisher) unavailable() error {
	return fmt.Errorf("publish: %w: broker is %s", messages.ErrBrokerUnavailable, p.State())
}

// pick returns the first lane that is up and not behind with its writing, else the
// one least behind, or nil while there is none that the broker has answered
// since then, or while the broker asks publishers to stop. Spreading messages
// over the lanes would make each write carry fewer of them, and a write costs
// more than a message.
func (p *Publisher) pick(since int64) *lane {
	var up *lane
	for _, l := range p.lanes {
		if l.blocked.Load() {
			return nil
		}
		s := l.up.Load()
		if s == nil || s.alive.Load() < since {
			continue
		}
		if up == nil || up.waiting.Load() >= spillOver && l.waiting.Load() < up.waiting.Load() {
			up = l
		}
	}
	return up
}

// awaitAlive waits until there is a lane that the broker has answered since
// then; false when ctx ended first.
func (p *Publisher) awaitAlive(ctx context.Context, since int64) bool {
	for {
		woken := p.woken()
		if p.pick(since) != nil {
			return true
		}
		select {
		case <-woken:
		case <-ctx.Done():
			return false
		}
	}
}

// woken returns a channel that is closed when the broker next answers a lane's
// connect or probe.
func (p *Publisher) woken() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.wakeUp
}

// wake lets those who wait for a lane look again.
func (p *Publisher) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.wakeUp)
	p.wakeUp = make(chan struct{})
}
