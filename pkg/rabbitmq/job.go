package rabbitmq

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// A job is queued until its lane writes it, or its caller leaves. A lane that
// goes down before the write hands it back.
const (
	jobQueued int32 = iota
	jobWritten
	jobHandedBack
	jobLeft
)

// job is one message on its way through a lane. It holds a token of the
// publisher's in-flight limit until the broker's word or the end of the
// connection, also when its caller has left.
type job struct {
	address Address
	message *messages.Message
	state   atomic.Int32
	// done gets the outcome, whether or not anybody still waits for it.
	done    chan error
	free    func()
	once    sync.Once
	targets *targets
	trial   bool // sent to an ill queue, to see whether it is well again
	unsent  bool // the connection broke before a byte of it was written
}

func newJob(a Address, m *messages.Message, free func(), t *targets) *job {
	return &job{address: a, message: m, done: make(chan error, 1), free: free, targets: t}
}

// release gives the token back.
func (j *job) release() { j.once.Do(j.free) }

// finish ends the job with the broker's word for it.
func (j *job) finish(w word, now time.Time) {
	j.targets.leave(j, w, now)
	j.release()
}

// complete ends a job that was written.
func (j *job) complete(err error, w word, now time.Time) {
	j.finish(w, now)
	j.done <- err
}

// handBack gives an unwritten job back to its caller, who may try elsewhere.
func (j *job) handBack() {
	if j.state.CompareAndSwap(jobQueued, jobHandedBack) || j.state.CompareAndSwap(jobWritten, jobHandedBack) {
		j.done <- errNotWritten
		return
	}
	j.finish(noWord, time.Now())
}

// wait returns when the outcome is known or ctx ends.
func (j *job) wait(ctx context.Context) error {
	select {
	case err := <-j.done:
		return err
	case <-ctx.Done():
	}
	switch {
	case j.state.CompareAndSwap(jobQueued, jobLeft):
		return fmt.Errorf("publish: %w", messages.ErrNotSent) // the lane gives the token back
	case j.state.CompareAndSwap(jobWritten, jobLeft):
		return fmt.Errorf("publish: %w", messages.ErrUnconfirmed)
	default:
		return <-j.done // handed back at this very moment
	}
}

// settle ends the job with the broker's answer to it.
func (j *job) settle(acked, returned bool, now time.Time) {
	switch {
	case !acked:
		j.complete(fmt.Errorf("publish: %w", messages.ErrRefused), refused, now)
	case returned:
		j.complete(fmt.Errorf("publish: %w", &messages.MissingError{Object: j.address.destination()}), confirmed, now)
	default:
		j.complete(nil, confirmed, now)
	}
}
