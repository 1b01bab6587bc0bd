package rabbitmq

import (
	"runtime"
	"sync"
	"time"
)

const (
	// gapWait is how long acks beyond a gap wait for it to close. What takes
	// longer is a task that runs, and not one whose outcome is about to come.
	gapWait = 10 * time.Millisecond
	// gapMany is how many of them are worth the wait.
	gapMany = 8
	// Where the broker sends prefetchMany deliveries or more, a quarter of them is
	// acked at a time, or what there is after shareWait: they keep little back.
	prefetchMany = 64
	shareWait    = time.Millisecond
)

// acks settles the deliveries of one channel. What is acked while an earlier ack
// is being written shares the next write: one ack covers every tag up to the
// first that is not settled (AMQP 0-9-1, basic.ack, multiple), and what lies
// beyond that gap is acked singly. Whoever acks first writes for all who come
// meanwhile, so there is no goroutine to wait for.
//
// To a quorum queue each ack is an entry of its log, however many deliveries it
// covers. So when there are many beyond a gap that has just come about, they wait
// for a moment: where tasks end in groups it closes with the next one.
type acks struct {
	ch acknowledger

	mu      sync.Mutex
	written *sync.Cond // writing has become false
	writing bool
	low     uint64          // every tag up to here is settled
	moved   time.Time       // when low last rose
	beyond  map[uint64]bool // settled tags above low; true is acked and not written
	waiting int             // how many of them are true
	share   int             // so many are written at a time
	fresh   int             // acked since the last write
	soon    *time.Timer     // runs while they are too few
	pending bool            // there is something to write
	late    *time.Timer     // runs while some wait
}

// acknowledger is the part of a channel that settles.
type acknowledger interface {
	Ack(tag uint64, multiple bool) error
	Nack(tag uint64, multiple, requeue bool) error
}

func newAcks(ch acknowledger) *acks {
	a := &acks{ch: ch, moved: time.Now(), beyond: map[uint64]bool{}}
	a.written = sync.NewCond(&a.mu)
	return a
}

// expect says how many deliveries the broker sends at most.
func (a *acks) expect(prefetch int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.share = 1; prefetch >= prefetchMany {
		a.share = prefetch / 4
	}
}

// ack settles a delivery. An error means that its channel is gone; nil that the
// ack is written, or about to be.
func (a *acks) ack(tag uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.beyond[tag] = true
	a.waiting++
	a.fresh++
	a.pending = true
	if a.writing {
		return nil
	}
	if a.fresh < a.share {
		if a.soon == nil {
			a.soon = time.AfterFunc(shareWait, a.writeShare)
		}
		return nil
	}
	return a.writeAll()
}

// writeShare writes what was too little.
func (a *acks) writeShare() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.writing {
		_ = a.writeAll() // an error means that the broker delivers them again
	}
}

// writeAll writes until there is nothing more. It needs the lock, and nobody else
// may be writing.
func (a *acks) writeAll() error {
	a.writing = true
	defer a.wrote()
	for a.pending {
		// Those that were settled in the same group come right now.
		a.mu.Unlock()
		runtime.Gosched()
		a.mu.Lock()
		if err := a.write(a.take(false)); err != nil {
			return err
		}
	}
	return nil
}

// flush writes what waits for a gap to close. It returns when nothing that was
// acked before is left unwritten.
func (a *acks) flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.writing {
		a.written.Wait()
	}
	a.writing = true
	defer a.wrote()
	_ = a.write(a.take(true)) // an error means that the broker delivers them again
}

func (a *acks) wrote() {
	a.writing = false
	a.written.Broadcast()
}

// take returns what is to be written now: the tag of a multiple ack, 0 for none,
// and those of single ones, which may have to wait unless it is for all. It needs
// the lock.
func (a *acks) take(all bool) (multiple uint64, single []uint64) {
	a.pending, a.fresh = false, 0
	if a.soon != nil {
		a.soon.Stop()
		a.soon = nil
	}
	before := a.low
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
			a.waiting--
		}
	}
	if a.low > before {
		a.moved = time.Now()
	}
	if a.late != nil {
		a.late.Stop()
		a.late = nil
	}
	if a.waiting == 0 {
		return multiple, nil
	}
	if left := gapWait - time.Since(a.moved); left > 0 && a.waiting >= gapMany && !all {
		a.late = time.AfterFunc(left, a.flush)
		return multiple, nil
	}
	for tag, unwritten := range a.beyond {
		if unwritten {
			single = append(single, tag)
			a.beyond[tag] = false
		}
	}
	a.waiting = 0
	return multiple, single
}

// write writes without the lock, which it needs.
func (a *acks) write(multiple uint64, single []uint64) error {
	a.mu.Unlock()
	defer a.mu.Lock()
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
