package rabbitmq

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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

// left is how many are not settled.
func (l *ledger) left() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.open)
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
		a := newAcks(l)
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
		a.flush()
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
	a := newAcks(l)
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
	a := newAcks(l)
	require.Error(t, a.ack(1))
	require.Error(t, a.ack(2), "nobody is taken to be writing any more")
	require.Error(t, a.requeue(3))
}

// gap acks the first of n deliveries and, while that is written, all but those
// from the second to the last of the gap.
func gap(t *testing.T, a *acks, l *ledger, last, n uint64) {
	t.Helper()
	l.hold = make(chan struct{})
	go func() { _ = a.ack(1) }()
	l.hold <- struct{}{}
	for tag := last + 1; tag <= n; tag++ {
		require.NoError(t, a.ack(tag))
	}
	close(l.hold)
	synctest.Wait()
}

// One ack covers a whole group although the first of it comes last.
func TestManyAcksBeyondAGapWaitForItToClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 100
		l := newLedger(n)
		a := newAcks(l)
		gap(t, a, l, 2, n)
		require.Equal(t, 1, l.writes)
		require.NoError(t, a.ack(2))
		require.Empty(t, l.open)
		require.Equal(t, 2, l.writes)
		<-time.After(2 * gapWait)
		require.Zero(t, l.refused)
	})
}

// A large prefetch is acked in shares, and what is less of one soon.
func TestAcksOfALargePrefetchAreWrittenInShares(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLedger(100)
		a := newAcks(l)
		a.expect(4 * 50)
		for tag := uint64(1); tag < 100; tag++ {
			require.NoError(t, a.ack(tag))
		}
		require.Equal(t, 50, l.left())
		<-time.After(shareWait)
		synctest.Wait()
		require.Equal(t, 1, l.left())
		require.NoError(t, a.ack(100))
		a.flush()
		require.Zero(t, l.left())
		require.Zero(t, l.refused)
		require.Equal(t, 3, l.writes)
	})
}

// A task that runs for long keeps nobody from being acked.
func TestAcksBeyondAGapDoNotWaitForLong(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(*acks){
		"in time": func(*acks) { <-time.After(gapWait) },
		"at once": (*acks).flush,
		"not few": func(*acks) {},
	} {
		synctest.Test(t, func(t *testing.T) {
			last := uint64(2)
			if name == "not few" {
				last = 100 - gapMany + 1
			}
			l := newLedger(100)
			a := newAcks(l)
			gap(t, a, l, last, 100)
			then(a)
			synctest.Wait()
			require.Len(t, l.open, int(last)-1, name)
			require.Zero(t, l.refused)
		})
	}
}
