package rabbitmq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// channelWindow is how many messages a channel carries before the next one
	// is used.
	channelWindow = 100
	// maxWrite is about how many bytes are written at a time, and maxKept how
	// large the buffer for them may stay.
	maxWrite = 64 << 10
	maxKept  = 256 << 10
)

// session is one connection of a lane.
type session struct {
	link     *link
	frameMax int
	channels []*confirmChannel
	// quarantine takes what is sent to an ill queue: the broker's side of a
	// channel can stand still for seconds over one such message.
	quarantine *confirmChannel
	// probing takes nothing but the broker's pulse.
	probing *confirmChannel
	pulse   int64        // when the broker's pulse was last taken, unix nanoseconds
	alive   atomic.Int64 // when the broker last answered, unix nanoseconds
	// refused gets the error with which the broker has closed a channel.
	refused chan error
	// answered is told of every confirm.
	answered chan struct{}

	// Of the goroutine that writes: frames, and whose they are.
	out     []byte
	outJobs []outJob

	// Of the library's reader, see [session.receive].
	byNumber  map[uint16]*confirmChannel
	selected  *confirmChannel
	returning *confirmChannel
	settled   []*job

	mu  sync.Mutex
	err error
}

// outJob is a job whose frames begin at start.
type outJob struct {
	job   *job
	start int
}

func (l *lane) connect(ctx context.Context, attempt int) (*session, error) {
	s := &session{
		pulse: time.Now().UnixNano(), refused: make(chan error, 1), answered: make(chan struct{}, 1), byNumber: map[uint16]*confirmChannel{},
	}
	link, err := dial(ctx, l.opts.Options, attempt, s.receive, func(conn *amqp.Connection) error {
		if err := declare(conn, l.opts.Passive, (*declarer).base); err != nil {
			return err
		}
		s.frameMax = conn.Config.FrameSize
		for range l.opts.Channels {
			c, err := s.open(conn)
			if err != nil {
				return err
			}
			s.channels = append(s.channels, c)
		}
		var err error
		if s.quarantine, err = s.open(conn); err != nil {
			return err
		}
		s.probing, err = s.open(conn)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.link = link
	s.alive.Store(time.Now().UnixNano())
	return s, nil
}

// open opens a channel in confirm mode. The broker's answer has passed
// [session.receive] when the library returns.
func (s *session) open(conn *amqp.Connection) (*confirmChannel, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	if err := ch.Confirm(false); err != nil {
		return nil, fmt.Errorf("select confirms: %w", err)
	}
	ch.NotifyReturn(s.selected.returns)
	return s.selected, nil
}

// receive sees every method that comes in, before the library does, and takes
// the confirms out. It is called by the library's reader, which is done with all
// that came before.
func (s *session) receive(channel uint16, method uint32, args []byte) (taken bool) {
	if s.returning != nil {
		s.returning.collect()
		s.returning = nil
	}
	switch method {
	case confirmSelectOK:
		s.selected = newConfirmChannel(channel)
		s.byNumber[channel] = s.selected
	case basicReturn:
		s.returning = s.byNumber[channel]
	case channelClose:
		if s.byNumber[channel] != nil {
			select {
			case s.refused <- closeError(args):
			default:
			}
		}
	case basicAck, basicNack:
		c := s.byNumber[channel]
		if c == nil || len(args) < 9 {
			return false
		}
		s.settle(c, binary.BigEndian.Uint64(args), args[8]&1 != 0, method == basicAck)
		return true
	}
	return false
}

// closeError reads the arguments of channel.close.
func closeError(args []byte) error {
	if len(args) < 3 || len(args) < 3+int(args[2]) {
		return errors.New("channel closed")
	}
	return &amqp.Error{Code: int(binary.BigEndian.Uint16(args)), Reason: string(args[3 : 3+int(args[2])]), Server: true}
}

// settle ends the jobs that a confirm is about.
func (s *session) settle(c *confirmChannel, tag uint64, multiple, acked bool) {
	now := time.Now()
	c.lastConfirm.Store(now.UnixNano())
	s.alive.Store(now.UnixNano())
	s.settled = c.take(s.settled[:0], tag, multiple)
	for _, j := range s.settled {
		j.settle(acked, c.takeReturn(j), now)
	}
	clear(s.settled)
	select {
	case s.answered <- struct{}{}:
	default:
	}
}

// write writes jobs, many at a time, and returns those that it did not come to
// because the connection broke. It is called by the lane's goroutine only.
func (s *session) write(jobs []*job) (left []*job) {
	for i, j := range jobs {
		if !j.state.CompareAndSwap(jobQueued, jobWritten) {
			j.finish(noWord, time.Now()) // its caller has left; nothing was sent
			continue
		}
		c := s.quarantine
		if !j.trial {
			c = s.next()
		}
		if err := s.append(c, j); err != nil {
			j.complete(err, noWord, time.Now())
			continue
		}
		if len(s.out) >= maxWrite && !s.flush() {
			return jobs[i+1:]
		}
	}
	s.flush()
	return nil
}

// append adds the frames of a job to those that are about to be written.
func (s *session) append(c *confirmChannel, j *job) error {
	frames, err := appendPublish(s.out, c.number, s.frameMax, j.address, true, j.message)
	if err != nil {
		return err
	}
	s.outJobs = append(s.outJobs, outJob{j, len(s.out)})
	s.out = frames
	c.add(j)
	return nil
}

// flush writes the frames; false when the connection broke. Whatever may have
// gone out in part is in doubt then.
func (s *session) flush() bool {
	n, err := s.link.wire.Write(s.out)
	if err != nil {
		for _, o := range s.outJobs {
			o.job.unsent = o.start >= n
		}
		s.fail(err)
		s.link.kill()
	}
	clear(s.outJobs)
	s.outJobs, s.out = s.outJobs[:0], s.out[:0]
	if cap(s.out) > maxKept {
		s.out = nil
	}
	return err == nil
}

// abort ends what the broker has not answered. The connection has ended, and
// nothing is written any more.
func (s *session) abort() {
	var jobs []*job
	for _, c := range s.all() {
		jobs = c.takeAll(jobs)
	}
	now := time.Now()
	for _, j := range jobs {
		if j.unsent {
			j.handBack()
		} else {
			j.complete(errBroken, noWord, now)
		}
	}
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
	pulse, err := s.sendProbe()
	if err != nil {
		return err
	}
	timeout := time.NewTimer(probeTimeout)
	defer timeout.Stop()
	select {
	case err := <-pulse:
		return err
	case <-s.link.down:
		return errors.New("probe: connection lost")
	case <-timeout.C:
		return fmt.Errorf("probe: no confirm within %v", probeTimeout)
	}
}

// sendProbe returns where the confirm comes in.
func (s *session) sendProbe() (pulse <-chan error, err error) {
	a := Address{Exchange: probeExchange}
	j := newJob(a, &messages.Message{}, func() {}, nil)
	frames, err := appendPublish(nil, s.probing.number, s.frameMax, a, false, j.message)
	if err != nil {
		return nil, err
	}
	s.probing.add(j)
	if _, err := s.link.wire.Write(frames); err != nil {
		return nil, fmt.Errorf("probe: %w", err)
	}
	return j.done, nil
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
