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
	// stableAfter is how long a connection must last for the next one to be
	// tried without a pause.
	stableAfter = 5 * time.Second
)

// lane is one goroutine that owns a connection and its channels in confirm
// mode, fed by a bounded queue.
type lane struct {
	opts    PublisherOptions
	index   int
	owner   *Publisher
	queue   chan *job
	up      atomic.Pointer[session]
	blocked atomic.Bool
}

func newLane(o PublisherOptions, index int, owner *Publisher) *lane {
	o.Log = o.Log.With(zap.Int("lane", index))
	o.Name = fmt.Sprintf("%s publisher %d", o.Name, index)
	// The queue holds as many as may be in flight, so offering never blocks.
	return &lane{opts: o, index: index, owner: owner, queue: make(chan *job, o.MaxInFlight)}
}

// offer hands a job over without blocking; false when the lane is down.
func (l *lane) offer(j *job) bool {
	j.state.Store(jobQueued)
	select {
	case l.queue <- j:
	default:
		return false
	}
	if l.up.Load() == nil {
		l.failQueued()
	}
	return true
}

// failQueued gives back everything that waits: nothing of it was written.
func (l *lane) failQueued() {
	for {
		select {
		case j := <-l.queue:
			j.reject()
		default:
			return
		}
	}
}

func (l *lane) run(ctx context.Context) error {
	pause := newPause()
	for attempt := l.index; ; attempt++ {
		begun := time.Now()
		s, err := l.connect(ctx, attempt)
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

// serve writes jobs until the connection breaks or ctx ends.
func (l *lane) serve(ctx context.Context, s *session) error {
	l.up.Store(s)
	// The broker may have come back without what was declared before.
	l.owner.admin.forget()
	l.owner.wake()
	var helpers sync.WaitGroup
	helpers.Go(func() { l.watch(s) })
	helpers.Go(s.collectReturns)

	l.write(ctx, s)
	l.up.Store(nil)
	l.owner.alarm.Store(time.Now().UnixNano())
	l.failQueued()
	if ctx.Err() != nil {
		s.drain(drainTimeout)
		s.link.close(drainTimeout) //nolint:contextcheck // ctx has ended; closing has a deadline of its own
	}
	s.link.kill()
	helpers.Wait()
	l.blocked.Store(false)
	return s.cause()
}

func (l *lane) write(ctx context.Context, s *session) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.link.down:
			return
		case j := <-l.queue:
			l.writeAll(s, j)
		}
	}
}

// writeAll writes the first job and all that wait behind it as one.
func (l *lane) writeAll(s *session, first *job) {
	s.link.wire.cork()
	runtime.Gosched() // those about to hand over a job come along
	s.write(first)
	for range cap(l.queue) {
		select {
		case j := <-l.queue:
			s.write(j)
			continue
		default:
		}
		break
	}
	if err := s.link.wire.uncork(); err != nil {
		// Those messages count as sent: each is in doubt.
		s.fail(err)
		s.link.kill()
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
		case b, ok := <-s.link.blocked:
			if !ok {
				return
			}
			l.blocked.Store(b.Active)
			l.opts.Log.Warn("broker changed its flow of publishers", zap.Bool("blocked", b.Active), zap.String("reason", b.Reason))
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
