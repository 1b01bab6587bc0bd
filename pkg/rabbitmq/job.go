package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lovage-mq/lovage/pkg/messages"
)

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
	targets    *targets
	trial      bool // sent to an ill queue, to see whether it is well again
}

// sent says what became of the hand-over: written, or why not.
type sent struct {
	session *session
	channel *confirmChannel
	confirm *amqp.DeferredConfirmation
	err     error
}

func newJob(a Address, p amqp.Publishing, free func(), t *targets) *job {
	return &job{address: a, publishing: p, sent: make(chan sent, 1), free: free, targets: t}
}

// release gives the token back.
func (j *job) release() { j.once.Do(j.free) }

// finish ends the job with the broker's word for it.
func (j *job) finish(word word) {
	j.targets.leave(j, word)
	j.release()
}

// reject hands an unwritten job back.
func (j *job) reject() {
	if j.state.CompareAndSwap(jobQueued, jobAbandoned) {
		j.sent <- sent{err: errNotWritten}
		return
	}
	j.finish(noWord)
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
			j.finish(noWord) // the lane handed it back unwritten at this very moment
			return fmt.Errorf("publish: %w", messages.ErrNotSent)
		}
		go j.settleLate(nil)
		return fmt.Errorf("publish: %w", messages.ErrUnconfirmed)
	}
	if s.err != nil {
		if !errors.Is(s.err, errNotWritten) {
			j.finish(noWord)
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
		j.finish(noWord)
		return
	}
	<-s.confirm.Done()
	_ = j.settle(*s)
}

func (j *job) settle(s sent) error {
	s.channel.outstanding.Add(-1)
	acked := s.confirm.Acked()
	// The library fails every outstanding confirm when a channel ends, and
	// marks the channel closed before that.
	if !acked && s.channel.ch.IsClosed() {
		s.session.link.kill() // also when only the channel was closed
		j.finish(noWord)
		return errBroken
	}
	now := time.Now().UnixNano()
	s.channel.lastConfirm.Store(now)
	s.session.alive.Store(now)
	if !acked {
		j.finish(refused)
		return fmt.Errorf("publish: %w", messages.ErrRefused)
	}
	j.finish(confirmed)
	if s.channel.takeReturn(returnKey{j.address, j.publishing.MessageId}) {
		return fmt.Errorf("publish to %q: %w", j.address.Key, messages.ErrQueueMissing)
	}
	return nil
}
