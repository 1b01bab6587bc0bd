package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
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
	wake    func() // told when the lane is up
	queue   chan *job
	up      atomic.Pointer[session]
	blocked atomic.Bool
}

func newLane(o PublisherOptions, index int, wake func()) *lane {
	o.Log = o.Log.With(zap.Int("lane", index))
	o.Name = fmt.Sprintf("%s publisher %d", o.Name, index)
	// The queue holds as many as may be in flight, so offering never blocks.
	return &lane{opts: o, index: index, wake: wake, queue: make(chan *job, o.MaxInFlight)}
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
		s, err := l.connect(ctx, l.opts.URLs[attempt%len(l.opts.URLs)])
		if err == nil {
			l.opts.Log.Info("publisher connected")
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
	l.wake()
	var watcher sync.WaitGroup
	watcher.Go(func() { l.watch(s) })

	l.write(ctx, s)
	l.up.Store(nil)
	l.failQueued()
	if ctx.Err() != nil {
		s.drain(drainTimeout)
		s.link.close(drainTimeout) //nolint:contextcheck // ctx has ended; closing has a deadline of its own
	}
	s.link.kill()
	watcher.Wait()
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
			if l.blocked.Load() || !s.overdue(now) {
				continue
			}
			if err := s.probe(); err != nil {
				l.opts.Log.Warn("broker does not confirm, reconnecting", zap.Error(err), zap.Int64("outstanding", s.outstanding.Load()))
				return
			}
			s.lastConfirm.Store(time.Now().UnixNano()) // its pulse is a confirm too
		}
	}
}

// session is one connection of a lane, immutable once it is up.
type session struct {
	link     *link
	channels []*confirmChannel
	probing  *amqp.Channel
	turn     int

	outstanding atomic.Int64
	lastConfirm atomic.Int64 // unix nanoseconds; also set when the first goes out

	mu  sync.Mutex
	err error
}

func (l *lane) connect(ctx context.Context, url string) (*session, error) {
	s := &session{}
	link, err := dial(ctx, l.opts.Options, url, func(conn *amqp.Connection) error {
		if err := declare(conn, l.opts.Passive, (*declarer).base); err != nil {
			return err
		}
		for range l.opts.Channels {
			c, err := openConfirm(conn, l.opts.MaxInFlight)
			if err != nil {
				return err
			}
			s.channels = append(s.channels, c)
		}
		var err error
		s.probing, err = conn.Channel()
		if err != nil {
			return fmt.Errorf("open channel: %w", err)
		}
		return s.probing.Confirm(false)
	})
	if err != nil {
		return nil, err
	}
	s.link = link
	return s, nil
}

// write publishes one job. It is called by the lane's goroutine only.
func (s *session) write(j *job) {
	select {
	case <-s.link.down:
		j.reject()
		return
	default:
	}
	if !j.state.CompareAndSwap(jobQueued, jobWritten) {
		j.release() // its caller has left; nothing was sent
		return
	}
	c := s.channels[s.turn%len(s.channels)]
	s.turn++
	if s.outstanding.Add(1) == 1 {
		s.lastConfirm.Store(time.Now().UnixNano())
	}
	confirm, err := c.ch.PublishWithDeferredConfirm(j.address.Exchange, j.address.Key, true, false, j.publishing)
	if err != nil {
		s.outstanding.Add(-1)
		s.fail(err)
		s.link.kill()
		// ErrClosed comes before the last byte is written; after any other
		// error nobody can tell how much went out.
		if errors.Is(err, amqp.ErrClosed) {
			err = errNotWritten
		} else {
			err = fmt.Errorf("%w: %w", errBroken, err)
		}
		j.sent <- sent{err: err}
		return
	}
	j.sent <- sent{session: s, channel: c, confirm: confirm}
}

func (s *session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

func (s *session) cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return errors.New("connection closed")
	}
	return s.err
}

// overdue reports whether confirms are outstanding and none of any kind has
// come for a while. By the age of the oldest alone, overload would look like a
// dead broker, and reconnecting would add to it.
func (s *session) overdue(now time.Time) bool {
	return s.outstanding.Load() > 0 && now.UnixNano()-s.lastConfirm.Load() > int64(overdueAfter)
}

// probe takes the broker's pulse on the same connection: an exchange without
// bindings confirms at once, whatever the queues do.
func (s *session) probe() error {
	confirm, err := s.probing.PublishWithDeferredConfirm(probeExchange, "", false, false, amqp.Publishing{})
	if err != nil {
		return fmt.Errorf("probe: %w", err)
	}
	timeout := time.NewTimer(probeTimeout)
	defer timeout.Stop()
	select {
	case <-confirm.Done():
		if confirm.Acked() {
			return nil
		}
		return errors.New("probe: not confirmed")
	case <-s.link.down:
		return errors.New("probe: connection lost")
	case <-timeout.C:
		return fmt.Errorf("probe: no confirm within %v", probeTimeout)
	}
}

// drain waits until nothing is outstanding, or for d.
func (s *session) drain(d time.Duration) {
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.outstanding.Load() > 0 {
		select {
		case <-tick.C:
		case <-s.link.down:
			return
		case <-deadline.C:
			return
		}
	}
}

// confirmChannel is a channel in confirm mode with its returned messages.
type confirmChannel struct {
	ch      *amqp.Channel
	returns chan amqp.Return

	mu       sync.Mutex
	returned map[returnKey]int
}

// returnKey tells returns apart: one id may be in flight to two queues.
type returnKey struct {
	address Address
	id      string
}

func openConfirm(conn *amqp.Connection, window int) (*confirmChannel, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	if err := ch.Confirm(false); err != nil {
		return nil, fmt.Errorf("select confirms: %w", err)
	}
	// The buffer holds every message that can be in flight: the library's
	// reader waits for whoever is behind.
	c := &confirmChannel{
		ch:       ch,
		returned: map[returnKey]int{},
		returns:  ch.NotifyReturn(make(chan amqp.Return, window)),
	}
	return c, nil
}

// takeReturn reports whether the message came back unroutable. A return comes
// before its ack, and the library's one reader puts it into the buffer before
// it completes the confirm.
func (c *confirmChannel) takeReturn(key returnKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for drained := false; !drained; {
		select {
		case r, ok := <-c.returns:
			if ok {
				c.returned[returnKey{Address{r.Exchange, r.RoutingKey}, r.MessageId}]++
			}
			drained = !ok
		default:
			drained = true
		}
	}
	n := c.returned[key]
	if n > 1 {
		c.returned[key] = n - 1
	} else {
		delete(c.returned, key)
	}
	return n > 0
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

const (
	jobQueued int32 = iota
	jobWritten
	jobAbandoned
)

// job is one message on its way through a lane. It holds a token of the
// publisher's in-flight limit until the broker's word or the end of the
// connection, also when its caller has left.
type job struct {
	address    Address
	publishing amqp.Publishing
	state      atomic.Int32
	sent       chan sent
	free       func()
	once       sync.Once
}

// sent says what became of the hand-over: written, or why not.
type sent struct {
	session *session
	channel *confirmChannel
	confirm *amqp.DeferredConfirmation
	err     error
}

func newJob(a Address, p amqp.Publishing, free func()) *job {
	return &job{address: a, publishing: p, sent: make(chan sent, 1), free: free}
}

func (j *job) release() { j.once.Do(j.free) }

// reject hands an unwritten job back.
func (j *job) reject() {
	if j.state.CompareAndSwap(jobQueued, jobAbandoned) {
		j.sent <- sent{err: errNotWritten}
		return
	}
	j.release()
}

// wait returns when the outcome is known or ctx ends.
func (j *job) wait(ctx context.Context) error {
	var s sent
	select {
	case s = <-j.sent:
	case <-ctx.Done():
		if j.state.CompareAndSwap(jobQueued, jobAbandoned) {
			return fmt.Errorf("publish: %w", messages.ErrNotSent) // the lane gives the token back
		}
		if j.state.Load() == jobAbandoned {
			j.release() // the lane handed it back unwritten at this very moment
			return fmt.Errorf("publish: %w", messages.ErrNotSent)
		}
		go j.settleLate(nil)
		return fmt.Errorf("publish: %w", messages.ErrUnconfirmed)
	}
	if s.err != nil {
		if !errors.Is(s.err, errNotWritten) {
			j.release()
		}
		return s.err
	}
	select {
	case <-s.confirm.Done():
		return j.settle(s)
	case <-ctx.Done():
		go j.settleLate(&s)
		return fmt.Errorf("publish: %w", messages.ErrUnconfirmed)
	}
}

// settleLate keeps the token of a job whose caller has left until the broker's
// word comes or the connection ends. It ends with the lane at the latest: a
// lane closes its socket before it returns.
func (j *job) settleLate(s *sent) {
	if s == nil {
		late := <-j.sent
		s = &late
	}
	if s.err != nil {
		j.release()
		return
	}
	<-s.confirm.Done()
	_ = j.settle(*s)
}

func (j *job) settle(s sent) error {
	defer j.release()
	s.session.outstanding.Add(-1)
	if !s.confirm.Acked() {
		// The library fails every outstanding confirm when a channel ends;
		// it marks the channel closed first.
		if s.channel.ch.IsClosed() {
			s.session.link.kill() // also when only the channel was closed
			return errBroken
		}
		s.session.lastConfirm.Store(time.Now().UnixNano())
		return fmt.Errorf("publish: %w", messages.ErrRefused)
	}
	s.session.lastConfirm.Store(time.Now().UnixNano())
	if s.channel.takeReturn(returnKey{j.address, j.publishing.MessageId}) {
		return fmt.Errorf("publish to %q: %w", j.address.Key, messages.ErrQueueMissing)
	}
	return nil
}
