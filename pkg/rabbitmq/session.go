package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// session is one connection of a lane, immutable once it is up.
type session struct {
	link     *link
	channels []*confirmChannel
	// quarantine takes what is sent to an ill queue: the broker's side of a
	// channel can stand still for seconds over one such message.
	quarantine *confirmChannel
	probing    *amqp.Channel
	pulse      int64        // when the broker's pulse was last taken, unix nanoseconds
	alive      atomic.Int64 // when the broker last answered, unix nanoseconds

	mu  sync.Mutex
	err error
}

func (l *lane) connect(ctx context.Context, attempt int) (*session, error) {
	s := &session{pulse: time.Now().UnixNano()}
	link, err := dial(ctx, l.opts.Options, attempt, func(conn *amqp.Connection) error {
		if err := declare(conn, l.opts.Passive, (*declarer).base); err != nil {
			return err
		}
		for range l.opts.Channels {
			c, err := openConfirm(conn)
			if err != nil {
				return err
			}
			s.channels = append(s.channels, c)
		}
		var err error
		if s.quarantine, err = openConfirm(conn); err != nil {
			return err
		}
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
	s.alive.Store(time.Now().UnixNano())
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
		j.finish(noWord) // its caller has left; nothing was sent
		return
	}
	c := s.quarantine
	if !j.trial {
		c = s.next()
	}
	c.sent()
	confirm, err := c.ch.PublishWithDeferredConfirm(j.address.Exchange, j.address.Key, true, false, j.publishing)
	if err != nil {
		c.outstanding.Add(-1)
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

// next returns the first channel with room in its window, else the one with the
// fewest messages under way. On one channel the broker confirms many messages
// in one frame; beyond the window it slows the channel down.
func (s *session) next() *confirmChannel {
	least, fewest := s.channels[0], int64(math.MaxInt64)
	for _, c := range s.channels {
		n := c.outstanding.Load()
		if n < channelWindow {
			return c
		}
		if n < fewest {
			least, fewest = c, n
		}
	}
	return least
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

// overdue reports whether a channel waits for confirms and none of any kind has
// come by it for a while. By the age of the oldest alone, overload would look
// like a dead broker, and reconnecting would add to it.
func (s *session) overdue(now time.Time) bool {
	for _, c := range s.channels {
		if c.outstanding.Load() > 0 && now.UnixNano()-c.lastConfirm.Load() > int64(overdueAfter) {
			return true
		}
	}
	return false
}

// rearm lets the watch begin anew.
func (s *session) rearm() {
	for _, c := range s.channels {
		c.lastConfirm.Store(time.Now().UnixNano())
	}
}

// outstanding is how many messages wait for their confirm.
func (s *session) outstanding() (n int64) {
	for _, c := range s.all() {
		n += c.outstanding.Load()
	}
	return n
}

// all returns the channels that carry messages.
func (s *session) all() []*confirmChannel { return append(slices.Clip(s.channels), s.quarantine) }

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
	for s.outstanding() > 0 {
		select {
		case <-tick.C:
		case <-s.link.down:
			return
		case <-deadline.C:
			return
		}
	}
}

// channelWindow is how many messages a channel carries before the next one is
// used.
const channelWindow = 100

// returnBuffer is how many returned messages of a channel may wait to be
// counted.
const returnBuffer = 256

// confirmChannel is a channel in confirm mode with its returned messages.
type confirmChannel struct {
	ch      *amqp.Channel
	returns chan amqp.Return

	outstanding atomic.Int64
	lastConfirm atomic.Int64 // unix nanoseconds; also set when the first goes out

	mu       sync.Mutex
	returned map[returnKey]int
}

// returnKey tells returns apart: one id may be in flight to two queues.
type returnKey struct {
	address Address
	id      string
}

func openConfirm(conn *amqp.Connection) (*confirmChannel, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	if err := ch.Confirm(false); err != nil {
		return nil, fmt.Errorf("select confirms: %w", err)
	}
	c := &confirmChannel{
		ch:       ch,
		returned: map[returnKey]int{},
		returns:  ch.NotifyReturn(make(chan amqp.Return, returnBuffer)),
	}
	return c, nil
}

// sent counts a message that is about to go out.
func (c *confirmChannel) sent() {
	if c.outstanding.Add(1) == 1 {
		c.lastConfirm.Store(time.Now().UnixNano())
	}
}

// collectReturns empties the buffers of returned messages until the connection
// ends, also when no confirm makes anybody look: the library's reader waits for
// room, and the confirms wait for the reader.
func (s *session) collectReturns() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			for _, c := range s.all() {
				c.mu.Lock()
				c.collect()
				c.mu.Unlock()
			}
		case <-s.link.down:
			s.collectLast()
			return
		}
	}
}

// collectLast makes room until the library has closed the buffers, so that its
// reader gets to fail the confirms that are outstanding.
func (s *session) collectLast() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range drainTimeout / time.Millisecond {
		if !slices.ContainsFunc(s.all(), func(c *confirmChannel) bool { return !c.ended() }) {
			return
		}
		<-tick.C
	}
}

// ended empties the buffer, and reports whether the library has closed it.
func (c *confirmChannel) ended() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.collect()
	select {
	case r, ok := <-c.returns:
		if ok {
			c.count(r)
		}
		return !ok
	default:
		return false
	}
}

func (c *confirmChannel) count(r amqp.Return) {
	c.returned[returnKey{Address{r.Exchange, r.RoutingKey}, r.MessageId}]++
}

// takeReturn reports whether the message came back unroutable. A return comes
// before its ack, and the library's one reader puts it into the buffer before
// it completes the confirm.
func (c *confirmChannel) takeReturn(key returnKey) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.collect()
	n := c.returned[key]
	if n > 1 {
		c.returned[key] = n - 1
	} else {
		delete(c.returned, key)
	}
	return n > 0
}

// collect counts what is in the buffer. The caller holds the lock, so that
// nobody misses what another has in hand.
func (c *confirmChannel) collect() {
	for len(c.returns) > 0 {
		c.count(<-c.returns)
	}
}
