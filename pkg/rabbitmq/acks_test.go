package rabbitmq

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// ledger is a channel that counts what became of each delivery, as the broker
// does: it refuses a tag that it does not know any more.
type ledger struct {
	mu     sync.Mutex
	open   map[uint64]bool
	acked  map[uint64]bool
	nacked map[uint64]bool
	writes int
	// refused is how often a tag was not known: a broker closes the channel.
	refused int
	err     error
	// hold, if set, is where a write waits: it takes one value to begin with and
	// another to go on.
	hold chan struct{}
}

func newLedger(n int) *ledger {
	l := &ledger{open: map[uint64]bool{}, acked: map[uint64]bool{}, nacked: map[uint64]bool{}}
	for i := range n {
		l.open[uint64(i)+1] = true
	}
	return l
}

func (l *ledger) Ack(tag uint64, multiple bool) error {
	if l.hold != nil {
		<-l.hold
		<-l.hold
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes++
	if !l.open[tag] {
		l.refused++
		return errors.New("unknown delivery tag")
	}
	for t := range l.open {
		if t == tag || multiple && t < tag {
			l.acked[t] = true
			delete(l.open, t)
		}
	}
	return l.err
}

func (l *ledger) Nack(tag uint64, _, _ bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open[tag] {
		return errors.New("unknown delivery tag")
	}
	l.nacked[tag] = true
	delete(l.open, tag)
	return l.err
}

// Whatever the order and however many at a time, each delivery is settled once
// and as it was asked for.
func TestAcksSettleEachDeliveryAsAskedFor(t *testing.T) {
	t.Parallel()
	for round := range 50 {
		const n = 200
		l := newLedger(n)
		a := &acks{ch: l, beyond: map[uint64]bool{}}
		back := map[uint64]bool{}
		left := uint64(rand.IntN(n) + 1) // this one is not settled
		var all sync.WaitGroup
		for _, i := range rand.Perm(n) {
			tag := uint64(i) + 1
			if tag == left {
				continue
			}
			give := rand.IntN(10) == 0
			back[tag] = give
			all.Go(func() {
				if give {
					_ = a.requeue(tag)
					return
				}
				_ = a.ack(tag)
			})
		}
		all.Wait()
		require.Zero(t, l.refused, "round %d", round)
		require.Equal(t, map[uint64]bool{left: true}, l.open, "round %d", round)
		for tag, give := range back {
			require.Equal(t, give, l.nacked[tag])
			require.Equal(t, !give, l.acked[tag])
		}
	}
}

func TestAcksThatComeTogetherShareAWrite(t *testing.T) {
	t.Parallel()
	const n = 100
	l := newLedger(n)
	l.hold = make(chan struct{})
	a := &acks{ch: l, beyond: map[uint64]bool{}}
	var first sync.WaitGroup
	first.Go(func() { _ = a.ack(1) })
	l.hold <- struct{}{} // the first is being written
	for tag := uint64(2); tag <= n; tag++ {
		require.NoError(t, a.ack(tag), "it waits for nobody")
	}
	close(l.hold)
	first.Wait()
	require.Empty(t, l.open)
	require.Equal(t, 2, l.writes)
}

func TestAnAckThatCannotBeWrittenSaysSo(t *testing.T) {
	t.Parallel()
	l := newLedger(2)
	l.err = errors.New("closed")
	a := &acks{ch: l, beyond: map[uint64]bool{}}
	require.Error(t, a.ack(1))
	require.Error(t, a.ack(2), "nobody is taken to be writing any more")
	require.Error(t, a.requeue(3))
}
