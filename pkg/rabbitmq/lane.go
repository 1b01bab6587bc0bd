package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

var (
	// errNotWritten: the lane went down before the message was written.
	errNotWritten = errors.New("connection lost before the message was written")
	// errBroken: the connection broke after the message was written.
	errBroken = errors.New("connection lost before the confirm")
)

const (
	// overdueAfter is how long no confirm of any kind may come while some are
	// outstanding; then the broker's pulse is taken.
	overdueAfter = 750 * time.Millisecond
	// probeTimeout is how long the pulse may take.
	probeTimeout = 250 * time.Millisecond
	watchEvery   = 50 * time.Millisecond
	// drainTimeout is how long a closing lane waits for confirms.
	drainTimeout = 2 * time.Second
	// groupSize is how many messages a write waits for, and groupWait for how
	// long, while at least groupBusy are under way.
	groupSize = 32
	groupBusy = 16
	groupWait = 4 * time.Millisecond
	// stableAfter is how long a connection must last for the next one to be
	// tried without a pause.
	stableAfter = 5 * time.Second
)

// lane is one goroutine that owns a connection and its channels in confirm
// mode, fed by a queue that is as long as the publisher's in-flight limit.
type lane struct {
	opts    PublisherOptions
	index   int
	owner   *Publisher
	up      atomic.Pointer[session] // changed with mu held
	blocked atomic.Bool
	waiting atomic.Int64 // jobs in the queue
	filled  chan struct{}

	mu    sync.Mutex
	queue []*job
}

func newLane(o PublisherOptions, index int, owner *Publisher) *lane {
	o.Log = o.Log.With(zap.Int("lane", index))
	o.Name = fmt.Sprintf("%s publisher %d", o.Name, index)
	return &lane{opts: o, index: index, owner: owner, filled: make(chan struct{}, 1)}
}

// offer hands a job over without blocking; false when the lane is down.
func (l *lane) offer(j *job) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up.Load() == nil {
		return false
	}
	j.state.Store(jobQueued)
	j.unsent = false
	l.queue = append(l.queue, j)
	l.waiting.Store(int64(len(l.queue)))
	if n := int64(len(l.queue)); n == 1 || n == groupSize {
		select {
		case l.filled <- struct{}{}:
		default:
		}
	}
	return true
}

// take returns all that waits, and keeps an empty slice in its place.
func (l *lane) take(empty []*job) []*job {
	l.mu.Lock()
	defer l.mu.Unlock()
	jobs := l.queue
	l.queue = empty
	l.waiting.Store(0)
	return jobs
}

// open lets jobs in, and shut keeps them out from then on.
func (l *lane) open(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up.Store(s)
}

func (l *lane) shut() { l.open(nil) }

func (l *lane) run(ctx context.Context) error {
	pause := newPause()
	for attempt := l.index; ; attempt++ {
		begun := time.Now()
		s, err := l.connect(ctx, attempt)
		if err == nil {
			err = l.greet(ctx, s)
		}
		if err == nil {
			l.opts.Log.Info("publisher connected")
			l.owner.metrics.reconnects.Inc()
			err = l.serve(ctx, s)
		}
		if time.Since(begun) > stableAfter {
			pause.Reset()
		}
		if ends, end := final(ctx, err); ends {
			return end
		}
		wait := pause.NextBackOff()
		l.opts.Log.Warn("publisher not connected", zap.Error(err), zap.Duration("retry_in", wait))
		if !sleep(ctx, wait) {
			return nil
		}
	}
}

// greet takes the broker's pulse before the first job is let in: no submission
// has to find out that the broker does not take any. A broker with an alarm says
// so to whoever publishes, and only then.
func (l *lane) greet(ctx context.Context, s *session) error {
	pulse, err := s.sendProbe()
	timeout := time.NewTimer(l.opts.SetupTimeout)
	defer timeout.Stop()
	if err == nil {
		select {
		case err = <-pulse:
		case b := <-s.link.blocked:
			l.block(b)
		case err = <-s.refused:
		case lost := <-s.link.closed:
			if err = errors.New("probe: connection lost"); lost != nil {
				err = lost
			}
		case <-timeout.C:
			err = fmt.Errorf("probe: no confirm within %v", l.opts.SetupTimeout)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	if err != nil {
		s.link.kill()
	}
	return err
}

// block notes whether the broker asks publishers to stop.
func (l *lane) block(b amqp.Blocking) {
	l.blocked.Store(b.Active)
	l.opts.Log.Warn("broker changed its flow of publishers", zap.Bool("blocked", b.Active), zap.String("reason", b.Reason))
}

// serve writes jobs until the connection breaks or ctx ends.
func (l *lane) serve(ctx context.Context, s *session) error {
	l.open(s)
	// The broker may have come back without what was declared before.
	l.owner.admin.forget()
	l.owner.wake()
	var helpers sync.WaitGroup
	helpers.Go(func() { l.watch(s) })

	l.write(ctx, s)
	l.shut()
	l.owner.alarm.Store(time.Now().UnixNano())
	handBack(l.take(nil))
	if ctx.Err() != nil {
		s.drain(drainTimeout)
		s.link.close(drainTimeout) //nolint:contextcheck // ctx has ended; closing has a deadline of its own
	}
	s.link.kill()
	helpers.Wait()
	s.abort()
	l.blocked.Store(false)
	return s.cause()
}

// write writes what waits, all of it at a time.
func (l *lane) write(ctx context.Context, s *session) {
	var jobs []*job
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.link.down:
			return
		case <-l.filled:
		}
		runtime.Gosched() // those about to hand over a job come along
		l.gather(s)
		jobs = l.take(jobs[:0])
		handBack(s.write(jobs))
		clear(jobs)
		if cap(jobs) > maxSpare {
			jobs = nil
		}
	}
}

// gather waits for more jobs to share a write, as long as many messages wait for
// their confirm: they would have to wait for RabbitMQ anyway, which takes a group
// of messages for much less than each of them alone.
func (l *lane) gather(s *session) {
	if l.waiting.Load() >= groupSize || s.outstanding() < groupBusy {
		return
	}
	patience := time.NewTimer(groupWait)
	defer patience.Stop()
	for l.waiting.Load() < groupSize && s.outstanding() >= groupBusy {
		select {
		case <-l.filled:
		case <-s.answered:
		case <-s.link.down:
			return
		case <-patience.C:
			return
		}
	}
}

// maxSpare is how long the list of waiting jobs may stay.
const maxSpare = 1024

// handBack gives jobs back of which nothing was written.
func handBack(jobs []*job) {
	for _, j := range jobs {
		j.handBack()
	}
}

// watch follows what the connection says about itself, and takes the broker's
// pulse when confirms stop coming: lost quorum and a frozen broker give no
// signal at all.
func (l *lane) watch(s *session) {
	defer s.link.kill()
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.link.down:
			return
		case err := <-s.link.closed:
			if err != nil {
				s.fail(err)
			}
			return
		case err := <-s.refused:
			s.fail(err)
			return
		case b, ok := <-s.link.blocked:
			if !ok {
				return
			}
			l.block(b)
		case now := <-tick.C:
			if l.blocked.Load() || !s.overdue(now) && l.owner.alarm.Load() <= s.pulse {
				continue
			}
			err := s.probe()
			s.pulse = time.Now().UnixNano()
			if err != nil {
				l.owner.alarm.Store(s.pulse)
			} else {
				s.alive.Store(s.pulse)
				l.owner.wake()
			}
			// Whether the broker or a queue is to blame: these take one
			// message at a time until they confirm again. An ill queue holds
			// up whatever shares a channel with it, so the channels go too.
			ill, _ := l.owner.targets.judge(overdueAfter)
			if err != nil || len(ill) > 0 {
				l.owner.metrics.overdue.Inc()
				l.opts.Log.Warn("confirms are overdue, reconnecting", zap.Error(err), zap.Strings("queues", ill), zap.Int64("outstanding", s.outstanding()))
				return
			}
			s.rearm()
		}
	}
}

func newPause() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 50 * time.Millisecond
	b.MaxInterval = time.Second
	return b
}

// final reports whether a lost connection is the last one, and with which
// error to end: trying again does not help against other arguments.
func final(ctx context.Context, err error) (ends bool, end error) {
	if te, ok := errors.AsType[*TopologyError](err); ok {
		return true, te
	}
	return ctx.Err() != nil, nil
}

// sleep waits for d; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
