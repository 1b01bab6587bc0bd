package rabbitmq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// depthEvery is how often queues are looked at, depthTimeout how long one
	// look may take.
	depthEvery   = time.Second
	depthTimeout = time.Second
	// depthFresh is how long the broker's word about a queue counts.
	depthFresh = 5 * time.Second
	// depthIdle is how long a queue is looked at that nothing is sent to.
	depthIdle = time.Minute
	// longestRetry bounds for how long a client is sent away.
	longestRetry = time.Minute
)

// DepthOptions configure a [Depth].
type DepthOptions struct {
	Options
	// Limit is how many messages may wait in a queue, and Limits the same for
	// queues that differ from the others; 0 means any number.
	Limit  int
	Limits map[string]int
}

// Depth refuses messages to queues in which too many wait. It asks the broker
// once a second about every queue that is watched or that something was sent to
// of late, and adds what was sent from here since, so that a queue grows beyond
// its limit by what others send within a second, and by what is on its way. A
// queue that nobody can tell the length of is never full. Create it with
// [NewDepth] and keep [Depth.Run] running; it is safe for concurrent use.
type Depth struct {
	opts DepthOptions

	mu     sync.Mutex
	queues map[string]*queueDepth
}

// queueDepth is what is known about one queue.
type queueDepth struct {
	ready int       // what the broker said
	read  time.Time // when it said so; zero if it has not
	tried time.Time // when it was asked
	used  time.Time // when something was last to be sent
	sent  int       // what was sent from here since the broker was asked
	drain float64   // messages that leave the queue in a second
	empty time.Time // since when the broker has said each time that none waits; zero if some do
	// watched queues are looked at whether something is sent to them or not.
	watched bool
}

func (q *queueDepth) depth() int { return q.ready + q.sent }

// known says whether the broker's word is worth anything.
func (q *queueDepth) known() bool { return time.Since(q.read) < depthFresh }

// NewDepth returns a Depth that knows of no queue yet.
func NewDepth(o DepthOptions) *Depth {
	o.Options = o.withDefaults()
	o.Name += " depth"
	return &Depth{opts: o, queues: map[string]*queueDepth{}}
}

func (d *Depth) limit(queue string) int {
	if n, found := d.opts.Limits[queue]; found {
		return n
	}
	return d.opts.Limit
}

// Check returns a [messages.QueueFullError] when no more is to be sent to the
// queue. It waits for nothing.
func (d *Depth) Check(queue string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[queue]
	if q == nil {
		return nil
	}
	q.used = time.Now()
	if limit := d.limit(queue); limit > 0 && q.known() && q.depth() >= limit {
		return &messages.QueueFullError{Queue: queue, Limit: limit, RetryAfter: q.retryAfter(limit)}
	}
	return nil
}

// Sent counts a message that has arrived in a queue. Queues are looked at from
// the first one on, so that names that callers make up cost nothing.
func (d *Depth) Sent(queue string) {
	if d.limit(queue) <= 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[queue]
	if q == nil {
		q = &queueDepth{used: time.Now()}
		d.queues[queue] = q
	}
	q.sent++
}

// retryAfter is about when a hundredth of the queue will be free, so that not
// everybody comes back for one place.
func (q *queueDepth) retryAfter(limit int) time.Duration {
	wanted := float64(q.depth() - limit + 1 + limit/100)
	seconds := math.Ceil(wanted / q.drain) // +Inf while nothing leaves the queue
	return time.Duration(max(1, min(seconds, longestRetry.Seconds()))) * time.Second
}

// Watch names the queues that are looked at in any case, in place of those that
// were named before.
func (d *Depth) Watch(queues ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, q := range d.queues {
		q.watched = false
	}
	for _, name := range queues {
		if d.queues[name] == nil {
			d.queues[name] = &queueDepth{}
		}
		d.queues[name].watched = true
	}
}

// Ready returns how many messages wait in a queue, as of the last look at it, and
// for how long every look has found none. It is known of queues that are watched
// or submitted to of late, unless the broker is silent. It waits for nothing.
func (d *Depth) Ready(queue string) (n int, empty time.Duration, known bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[queue]
	if q == nil || !q.known() {
		return 0, 0, false
	}
	if !q.empty.IsZero() {
		empty = time.Since(q.empty)
	}
	return q.ready, empty, true
}

// Full returns how many queues are at their limit, and how full the fullest
// is: 1 at its limit.
func (d *Depth) Full() (n int, fullest float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, q := range d.queues {
		if !q.known() || d.limit(name) <= 0 {
			continue
		}
		fill := float64(q.depth()) / float64(d.limit(name))
		fullest = max(fullest, fill)
		if fill >= 1 {
			n++
		}
	}
	return n, fullest
}

// Run looks at the queues until ctx ends, and returns nil then. It has a
// connection of its own, opened when there is a queue to look at.
func (d *Depth) Run(ctx context.Context) error {
	var r depthReader
	defer func() { r.close() }()
	for attempt := 0; sleep(ctx, depthEvery); attempt++ {
		for _, queue := range d.due() {
			if err := d.look(ctx, &r, attempt, queue); err != nil {
				r.close()
				d.opts.Log.Debug("depth of queue not read", zap.String("queue", queue), zap.Error(err))
				break // those behind it come first next time
			}
		}
	}
	return nil
}

// due returns the queues to look at, those first that were not for longest, and
// forgets those that nobody watches and that nothing was sent to for a while.
func (d *Depth) due() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var names []string
	for name, q := range d.queues {
		if !q.watched && time.Since(q.used) > depthIdle {
			delete(d.queues, name)
			continue
		}
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(d.queues[a].tried.Compare(d.queues[b].tried), cmp.Compare(a, b))
	})
	return names
}

// look asks about one queue. An error means that the connection is of no use
// any more.
func (d *Depth) look(ctx context.Context, r *depthReader, attempt int, queue string) error {
	sent := d.ask(queue)
	ready, err := r.ready(ctx, d.opts.Options, attempt, queue)
	if err == nil {
		d.answer(queue, ready, sent)
		return nil
	}
	no, ok := errors.AsType[*amqp.Error](err)
	if !ok || r.link == nil || r.link.conn.IsClosed() {
		return err
	}
	if no.Code == amqp.NotFound {
		d.forget(queue)
	}
	r.channel = nil // the broker has closed it for the question
	return nil
}

// ask notes that the broker is asked now, and returns how much was sent before.
func (d *Depth) ask(queue string) (sent int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[queue]
	q.tried = time.Now()
	return q.sent
}

func (d *Depth) forget(queue string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.queues[queue].watched {
		d.queues[queue] = &queueDepth{watched: true, tried: time.Now()}
		return
	}
	delete(d.queues, queue)
}

// answer takes what the broker said in place of what was sent before.
func (d *Depth) answer(queue string, ready, sent int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[queue]
	now := time.Now()
	switch {
	case ready > 0:
		q.empty = time.Time{}
	case q.empty.IsZero() || !q.known():
		q.empty = now
	}
	if !q.read.IsZero() {
		left := float64(q.ready+sent-ready) / now.Sub(q.read).Seconds()
		q.drain = (q.drain + max(0, left)) / 2
	}
	q.ready, q.read = ready, now
	q.sent -= sent
}

// depthReader is the connection by which queues are looked at, opened again
// whenever it is needed.
type depthReader struct {
	link    *link
	channel *amqp.Channel
}

// ready asks the broker how many messages of a queue wait.
func (r *depthReader) ready(ctx context.Context, o Options, attempt int, queue string) (int, error) {
	q, err := r.inspect(ctx, o, attempt, queue)
	return q.Messages, err
}

// inspect asks the broker about a queue.
func (r *depthReader) inspect(ctx context.Context, o Options, attempt int, queue string) (q amqp.Queue, err error) {
	if r.link == nil {
		if r.link, err = dial(ctx, o, attempt, nil, func(*amqp.Connection) error { return nil }); err != nil {
			return q, err
		}
	}
	err = r.link.bound(ctx, depthTimeout, func() error {
		if r.channel == nil {
			if r.channel, err = r.link.conn.Channel(); err != nil {
				return fmt.Errorf("open channel: %w", err)
			}
		}
		q, err = r.channel.QueueDeclarePassive(queue, true, false, false, false, nil)
		return err
	})
	return q, err
}

// close leaves nothing open. It waits for nobody: nothing is lost with it.
func (r *depthReader) close() {
	if r.link != nil {
		r.link.kill()
	}
	*r = depthReader{}
}
