package rabbitmq

import (
	"runtime"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// acks settles the deliveries of one channel. What is acked while an earlier ack
// is being written shares the next write: one ack covers every tag up to the
// first that is not settled (AMQP 0-9-1, basic.ack, multiple), and what lies
// beyond that gap is acked singly. Whoever acks first writes for all who come
// meanwhile, so there is no goroutine to wait for, and nothing is left unwritten
// once all calls have returned.
type acks struct {
	ch acknowledger

	mu      sync.Mutex
	writing bool
	low     uint64          // every tag up to here is settled
	beyond  map[uint64]bool // settled tags above low; true is acked and not written
	pending int             // acked and not written
}

// acknowledger is the part of a channel that settles.
type acknowledger interface {
	Ack(tag uint64, multiple bool) error
	Nack(tag uint64, multiple, requeue bool) error
}

func newAcks(ch *amqp.Channel) *acks { return &acks{ch: ch, beyond: map[uint64]bool{}} }

// ack settles a delivery. An error means that its channel is gone; nil that the
// ack is written, or about to be by somebody else.
func (a *acks) ack(tag uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.beyond[tag] = true
	a.pending++
	if a.writing {
		return nil
	}
	a.writing = true
	defer func() { a.writing = false }()
	for a.pending > 0 {
		// Those that were settled in the same group come right now.
		a.mu.Unlock()
		runtime.Gosched()
		a.mu.Lock()
		multiple, single := a.take()
		a.mu.Unlock()
		err := a.write(multiple, single)
		a.mu.Lock()
		if err != nil {
			return err
		}
	}
	return nil
}

// take returns what is to be written now: the tag of a multiple ack, 0 for none,
// and those of single ones. It needs the lock.
func (a *acks) take() (multiple uint64, single []uint64) {
	for {
		unwritten, settled := a.beyond[a.low+1]
		if !settled {
			break
		}
		a.low++
		delete(a.beyond, a.low)
		if unwritten {
			// The broker wants this very tag to be unsettled, so it is the last
			// one that is, and not the last one below the gap.
			multiple = a.low
		}
	}
	for tag, unwritten := range a.beyond {
		if unwritten {
			single = append(single, tag)
			a.beyond[tag] = false
		}
	}
	a.pending = 0
	return multiple, single
}

func (a *acks) write(multiple uint64, single []uint64) error {
	if multiple > 0 {
		if err := a.ch.Ack(multiple, true); err != nil {
			return err
		}
	}
	for _, tag := range single {
		if err := a.ch.Ack(tag, false); err != nil {
			return err
		}
	}
	return nil
}

// requeue gives a delivery back. It counts as settled when it is written: an ack
// of those before it must never cover it.
func (a *acks) requeue(tag uint64) error {
	if err := a.ch.Nack(tag, false, true); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.beyond[tag] = false
	return nil
}
