package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// ErrStale says that the connection a delivery came by is gone. The broker
// delivers it again, to whoever consumes then.
var ErrStale = errors.New("delivery is stale, the broker delivers it again")

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
	// Foreign queues exist already: only checked, without a dead-letter queue.
	Foreign []string
}

// Consumer consumes queues over a connection of its own, and again after each
// lost connection. Create it with [NewConsumer]; it does nothing until Run.
type Consumer struct {
	opts      ConsumerOptions
	connected atomic.Bool

	mu      sync.Mutex
	paused  bool
	changed chan struct{} // closed when paused changes
}

// NewConsumer returns a consumer that takes nothing until Run.
func NewConsumer(o ConsumerOptions) *Consumer {
	o.Options = o.withDefaults()
	o.Name += " consumer"
	return &Consumer{opts: o, changed: make(chan struct{})}
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
		err := c.serve(ctx, c.opts.URLs[attempt%len(c.opts.URLs)], handle, pause.Reset)
		if ends, end := final(ctx, err); ends {
			return end
		}
		wait := pause.NextBackOff()
		c.opts.Log.Warn("consumer not connected", zap.Error(err), zap.Duration("retry_in", wait))
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// Pause stops the intake: the broker sends nothing new, deliveries that were
// not handed over yet go back to it, and what was handed over can still be
// settled. It does not block.
func (c *Consumer) Pause() { c.setPaused(true) }

// Resume takes up the intake again.
func (c *Consumer) Resume() { c.setPaused(false) }

func (c *Consumer) setPaused(paused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused != paused {
		c.paused = paused
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

func (c *Consumer) isPaused() (bool, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paused, c.changed
}

func (c *Consumer) serve(ctx context.Context, url string, handle func(*Delivery), connected func()) error {
	l, err := dial(ctx, c.opts.Options, url, func(conn *amqp.Connection) error {
		return declare(conn, c.opts.Passive, c.topology)
	})
	if err != nil {
		return err
	}
	defer l.kill()
	c.opts.Log.Info("consumer connected")
	connected()
	c.connected.Store(true)
	defer c.connected.Store(false)

	in := &intake{opts: c.opts, handle: handle, link: l}
	defer in.wait()
	defer l.kill()
	for {
		paused, changed := c.isPaused()
		if err := in.set(ctx, !paused); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			in.stop(ctx)
			l.close(c.opts.DialTimeout) //nolint:contextcheck // ctx has ended; closing has a deadline of its own
			return nil
		case err := <-l.closed:
			return closeReason(err)
		case <-in.ended:
			return errors.New("the broker ended a consumer (queue deleted or channel closed)")
		case <-changed:
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
	foreign := map[string]bool{}
	for _, q := range c.opts.Foreign {
		foreign[q] = true
	}
	for _, in := range c.opts.Intakes {
		switch {
		case in.Queue == RejectedQueue:
		case foreign[in.Queue]:
			d.foreign(in.Queue)
		default:
			d.work(in.Queue)
		}
	}
}

// intake is the consuming side of one connection: a channel a queue.
type intake struct {
	opts     ConsumerOptions
	handle   func(*Delivery)
	link     *link
	channels []*amqp.Channel
	tags     []string
	active   bool
	ended    chan struct{}
	stopping atomic.Bool
	pumps    sync.WaitGroup
	once     *sync.Once
}

// set starts or stops consuming.
func (in *intake) set(ctx context.Context, active bool) error {
	if in.active == active {
		return nil
	}
	in.active = active
	if !active {
		in.stop(ctx)
		return nil
	}
	in.stopping.Store(false)
	in.ended, in.once = make(chan struct{}), new(sync.Once)
	return in.link.bound(ctx, in.opts.SetupTimeout, in.start)
}

func (in *intake) start() error {
	o := in.opts
	in.tags = in.tags[:0]
	for i, q := range o.Intakes {
		if len(in.channels) <= i {
			ch, err := in.link.conn.Channel()
			if err != nil {
				return fmt.Errorf("open channel: %w", err)
			}
			if err := ch.Qos(q.Prefetch, 0, false); err != nil {
				return fmt.Errorf("set prefetch: %w", err)
			}
			in.channels = append(in.channels, ch)
		}
		tag := fmt.Sprintf("%s-%d-%d", o.Name, i, time.Now().UnixNano())
		deliveries, err := in.channels[i].Consume(q.Queue, tag, false, false, false, false, nil)
		if err != nil {
			return fmt.Errorf("consume queue %s: %w", q.Queue, err)
		}
		in.tags = append(in.tags, tag)
		ended, once := in.ended, in.once
		in.pumps.Go(func() {
			in.pump(q.Queue, deliveries)
			if !in.stopping.Load() {
				once.Do(func() { close(ended) })
			}
		})
	}
	return nil
}

// pump hands deliveries over until the broker or stop ends the consumer; those
// that arrive after stop go back.
func (in *intake) pump(queue string, deliveries <-chan amqp.Delivery) {
	for d := range deliveries {
		if in.stopping.Load() {
			_ = d.Nack(false, true)
			continue
		}
		in.handle(newDelivery(queue, d))
	}
}

// stop cancels the consumers and waits until their pumps have ended.
func (in *intake) stop(ctx context.Context) {
	in.stopping.Store(true)
	err := in.link.bound(context.WithoutCancel(ctx), in.opts.DialTimeout, func() error {
		for i, tag := range in.tags {
			if err := in.channels[i].Cancel(tag, false); err != nil {
				return err
			}
		}
		in.pumps.Wait()
		return nil
	})
	if err != nil {
		in.link.kill()
	}
	in.tags = in.tags[:0]
}

func (in *intake) wait() { in.pumps.Wait() }

// Delivery is one message that the broker handed to us. It is settled exactly
// once, by Ack or Requeue.
type Delivery struct {
	Message messages.Message
	// Queue is the queue it was consumed from.
	Queue string
	// Redelivered is the broker's hint that it was delivered before.
	Redelivered bool
	// DeadFrom and DeadReason are set when the broker dead-lettered it: the
	// queue it died in last and why (expired, rejected, maxlen,
	// delivery_limit).
	DeadFrom   string
	DeadReason string

	raw     amqp.Delivery
	settled atomic.Bool
}

func newDelivery(queue string, d amqp.Delivery) *Delivery {
	from, _ := d.Headers["x-last-death-queue"].(string)
	reason, _ := d.Headers["x-last-death-reason"].(string)
	if from == "" {
		from, reason = firstDeath(d.Headers)
	}
	return &Delivery{
		Message: received(&d), Queue: queue, Redelivered: d.Redelivered,
		DeadFrom: from, DeadReason: reason, raw: d,
	}
}

// firstDeath reads the newest entry of x-death, which is the first: RabbitMQ
// writes x-last-death-* only from 3.13 on.
func firstDeath(h amqp.Table) (queue, reason string) {
	list, _ := h["x-death"].([]any)
	if len(list) == 0 {
		return "", ""
	}
	newest, _ := list[0].(amqp.Table)
	queue, _ = newest["queue"].(string)
	reason, _ = newest["reason"].(string)
	return queue, reason
}

// Ack tells the broker that the delivery is done with. It returns [ErrStale]
// when the connection is gone, and blocks no longer than the write timeout.
func (d *Delivery) Ack() error {
	return d.settle(func() error { return d.raw.Ack(false) })
}

// Requeue gives the delivery back to the broker. Errors are those of Ack.
func (d *Delivery) Requeue() error {
	return d.settle(func() error { return d.raw.Nack(false, true) })
}

func (d *Delivery) settle(fn func() error) error {
	if d.settled.Swap(true) {
		return errors.New("delivery settled twice")
	}
	if err := fn(); err != nil {
		return fmt.Errorf("%w: %w", ErrStale, err)
	}
	return nil
}
