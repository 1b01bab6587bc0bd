package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// Intake is one queue to consume.
type Intake struct {
	Queue string
	// Prefetch is how many unacknowledged deliveries the broker sends at most.
	Prefetch int
}

// ConsumerOptions configure a [Consumer].
type ConsumerOptions struct {
	Options
	Intakes []Intake
	// Idle makes the order of the intakes strict: one of them is consumed only
	// while the broker has nothing ready for those before it, and Idle reports
	// that nothing waits of what the first n of them have handed over. Queues
	// that are held count as empty. Idle must neither block nor call the
	// consumer. Without it all intakes are consumed.
	Idle func(n int) bool
}

// Consumer consumes queues over a connection of its own, and again after each
// lost connection. Create it with [NewConsumer]; it does nothing until Run.
type Consumer struct {
	opts      ConsumerOptions
	connected atomic.Bool

	mu      sync.Mutex
	paused  bool            // what is wanted: nothing
	held    map[string]bool // nothing from these queues
	limits  map[string]int  // in place of the prefetch of the intakes
	open    int             // nothing from the intakes after so many
	wait    time.Duration   // until it is looked whether there may be one more
	taking  bool            // what is: the broker may send something
	changed chan struct{}   // closed when one of them changes
}

// NewConsumer returns a consumer that takes nothing until Run.
func NewConsumer(o ConsumerOptions) *Consumer {
	o.Options = o.withDefaults()
	o.Name += " consumer"
	return &Consumer{opts: o, open: len(o.Intakes), changed: make(chan struct{})}
}

// Connected reports whether the broker delivers to us now, or would if we were
// not paused.
func (c *Consumer) Connected() bool { return c.connected.Load() }

// Run consumes until ctx ends and then closes the connection: whoever wants to
// settle what runs calls [Consumer.Pause], waits, and ends ctx after that. It
// returns early, with a [TopologyError], only when the broker holds an object
// of ours with other arguments.
//
// handle is called for every delivery, one at a time a queue. It must not
// block: it hands the delivery to a goroutine, which settles it exactly once.
func (c *Consumer) Run(ctx context.Context, handle func(*Delivery)) error {
	pause := newPause()
	for attempt := 0; ; attempt++ {
		begun := time.Now()
		err := c.serve(ctx, attempt, handle)
		if ends, end := final(ctx, err); ends {
			return end
		}
		if time.Since(begun) > stableAfter {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		c.opts.Log.Warn("consumer not connected", zap.Error(err), zap.Duration("retry_in", wait))
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// Pause stops the intake and returns when the broker sends nothing more, or
// when ctx ends. What arrived but was not handed over goes back to the broker;
// what was handed over can still be settled.
func (c *Consumer) Pause(ctx context.Context) {
	for {
		c.mu.Lock()
		if !c.paused {
			c.paused = true
			c.broadcast()
		}
		taking, changed := c.taking, c.changed
		c.mu.Unlock()
		if !taking {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Resume takes up the intake again. It does not block.
func (c *Consumer) Resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = false
	c.broadcast()
}

// Hold stops the intake from these queues, and takes up that from all others
// unless the consumer is paused. What was handed over can still be settled. It
// does not block: what is under way arrives.
func (c *Consumer) Hold(queues ...string) {
	held := make(map[string]bool, len(queues))
	for _, q := range queues {
		held[q] = true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !maps.Equal(held, c.held) {
		c.reopen(held)
		c.held = held
		c.broadcast()
	}
}

// SetPrefetch changes how many unacknowledged deliveries of each queue the broker
// sends at most; 0 takes none. A queue that is not named keeps the prefetch of its
// intake. What was handed over before does not count: it can still be settled. It
// does not block.
func (c *Consumer) SetPrefetch(limits map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits = maps.Clone(limits)
	c.broadcast()
}

// Quiet returns when the broker sends nothing more, as after a [Consumer.SetPrefetch]
// of 0 for all queues, or when ctx ends.
func (c *Consumer) Quiet(ctx context.Context) {
	for {
		c.mu.Lock()
		taking, changed := c.taking, c.changed
		c.mu.Unlock()
		if !taking {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// broadcast wakes everybody who waits for a change. It needs the lock.
func (c *Consumer) broadcast() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// wanted says how many deliveries to take from each intake, and notes in the same
// step that it is more than none, so that Pause waits for what is about to start.
// look is when to see whether there may be one more of them, 0 for never.
func (c *Consumer) wanted() (take []int, look time.Duration, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	take = make([]int, len(c.opts.Intakes))
	for i, in := range c.opts.Intakes {
		if c.paused || c.held[in.Queue] || i >= c.open {
			continue
		}
		take[i] = in.Prefetch
		if n, limited := c.limits[in.Queue]; limited {
			take[i] = n
		}
	}
	if !none(take) && !c.taking {
		c.taking = true
		c.broadcast()
	}
	if !c.paused && c.open < len(take) {
		look = c.wait
	}
	return take, look, c.changed
}

func none(take []int) bool { return !slices.ContainsFunc(take, func(n int) bool { return n > 0 }) }

func (c *Consumer) stopped() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taking {
		c.taking = false
		c.broadcast()
	}
}

func (c *Consumer) serve(ctx context.Context, attempt int, handle func(*Delivery)) error {
	l, err := dial(ctx, c.opts.Options, attempt, nil, func(conn *amqp.Connection) error {
		return declare(conn, c.opts.Passive, c.topology)
	})
	if err != nil {
		return err
	}
	in := newIntake(c.opts, handle, l)
	c.begin()
	defer c.stopped()
	defer in.wait()
	defer l.kill()
	defer c.connected.Store(false)
	for {
		take, wait, changed := c.wanted()
		if err := in.set(ctx, take); err != nil {
			return err
		}
		if none(take) {
			c.stopped()
		}
		if !c.connected.Swap(true) {
			c.opts.Log.Info("consumer connected")
		}
		var look <-chan time.Time
		if wait > 0 {
			look = time.After(wait)
		}
		select {
		case <-ctx.Done():
			in.stop(ctx, in.lines)
			l.close(c.opts.DialTimeout) //nolint:contextcheck // ctx has ended; closing has a deadline of its own
			return nil
		case err := <-l.closed:
			return closeReason(err)
		case <-in.ended:
			return errors.New("the broker ended a consumer (queue deleted or channel closed)")
		case <-changed:
		case <-look:
			if err := c.look(ctx, in); err != nil {
				return err
			}
		}
	}
}

func closeReason(err *amqp.Error) error {
	if err == nil {
		return errors.New("connection closed")
	}
	return err
}

func (c *Consumer) topology(d *declarer) {
	d.base()
	for _, in := range c.opts.Intakes {
		if in.Queue != RejectedQueue && in.Queue != UnroutableQueue {
			d.work(in.Queue)
		}
	}
}

// intake is the consuming side of one connection.
type intake struct {
	opts   ConsumerOptions
	handle func(*Delivery)
	link   *link
	lines  []*line
	asking *amqp.Channel // to ask about queues; opened when it is needed
	// ended is closed when the broker ends one of the consumers.
	ended chan struct{}
	once  sync.Once
}

// line is one queue with a channel of its own, opened when it is needed.
type line struct {
	Intake
	ch       *amqp.Channel
	acks     *acks
	tag      string // of the consumer; empty when there is none
	limit    int    // the prefetch that the channel has
	stopping atomic.Bool
	pump     sync.WaitGroup
}

func newIntake(o ConsumerOptions, handle func(*Delivery), l *link) *intake {
	in := &intake{opts: o, handle: handle, link: l, ended: make(chan struct{})}
	for _, q := range o.Intakes {
		in.lines = append(in.lines, &line{Intake: q})
	}
	return in
}

// set starts and stops consuming. Another prefetch counts for a new consumer.
func (in *intake) set(ctx context.Context, take []int) error {
	var stop, start []*line
	for i, l := range in.lines {
		same := l.limit == take[i]
		if active := l.tag != ""; active && !same {
			stop = append(stop, l)
		} else if active {
			continue
		}
		if l.Prefetch = take[i]; l.Prefetch > 0 {
			start = append(start, l)
		}
	}
	if len(stop) > 0 {
		in.stop(ctx, stop)
	}
	if len(start) == 0 {
		return nil
	}
	return in.link.bound(ctx, in.opts.SetupTimeout, func() error {
		for _, l := range start {
			if err := in.start(l); err != nil {
				return err
			}
		}
		return nil
	})
}

func (in *intake) start(l *line) error {
	if l.ch == nil {
		ch, err := in.link.conn.Channel()
		if err != nil {
			return fmt.Errorf("open channel: %w", err)
		}
		l.ch, l.acks = ch, newAcks(ch)
	}
	if l.limit != l.Prefetch {
		if err := l.ch.Qos(l.Prefetch, 0, false); err != nil {
			return fmt.Errorf("set prefetch: %w", err)
		}
		l.limit = l.Prefetch
		l.acks.expect(l.limit)
	}
	tag := fmt.Sprintf("%s-%d", l.Queue, time.Now().UnixNano())
	deliveries, err := l.ch.Consume(l.Queue, tag, false, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume queue %s: %w", l.Queue, err)
	}
	l.tag = tag
	l.stopping.Store(false)
	l.pump.Go(func() {
		in.pump(l, deliveries)
		if !l.stopping.Load() {
			in.once.Do(func() { close(in.ended) })
		}
	})
	return nil
}

// pump hands deliveries over until the broker or stop ends the consumer. Those
// that arrive after stop go back, and only when the consumer has ended: before
// that the broker would send them straight here again.
func (in *intake) pump(l *line, deliveries <-chan amqp.Delivery) {
	var late []uint64
	for d := range deliveries {
		if l.stopping.Load() {
			late = append(late, d.DeliveryTag)
			continue
		}
		in.handle(newDelivery(l.Queue, d, l.acks, in.link.down))
	}
	for _, tag := range late {
		_ = l.acks.requeue(tag) // an error means that the broker does it
	}
}

// stop cancels consumers and waits until their pumps have ended.
func (in *intake) stop(ctx context.Context, lines []*line) {
	for _, l := range lines {
		l.stopping.Store(true)
	}
	err := in.link.bound(context.WithoutCancel(ctx), in.opts.DialTimeout, func() error {
		for _, l := range lines {
			if l.acks != nil {
				l.acks.flush()
			}
			if l.tag == "" {
				continue
			}
			if err := l.ch.Cancel(l.tag, false); err != nil {
				return err
			}
			l.tag = ""
		}
		for _, l := range lines {
			l.pump.Wait()
		}
		return nil
	})
	if err != nil {
		in.link.kill()
	}
}

// wait returns when all pumps have ended.
func (in *intake) wait() {
	for _, l := range in.lines {
		l.pump.Wait()
	}
}
