package worker

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func hasTurn(p *place) bool {
	select {
	case <-p.turn:
		return true
	default:
		return false
	}
}

func enter(s *slots, rank int) *place {
	p, _ := s.enter(rank)
	return p
}

func TestSlotsGoToTheFirstLineAndThereToWhoCameFirst(t *testing.T) {
	t.Parallel()
	s := newSlots(1, 3)
	running := enter(s, 2)
	require.True(t, hasTurn(running))
	low, high, second, middle := enter(s, 2), enter(s, 0), enter(s, 0), enter(s, 1)
	for _, next := range []*place{high, second, middle, low} {
		require.False(t, hasTurn(next))
		s.leave(running)
		require.True(t, hasTurn(next))
		running = next
	}
	s.leave(running)
	require.True(t, hasTurn(enter(s, 1)), "it is free again")
}

func TestWhoGivesUpAPlaceTakesNoSlot(t *testing.T) {
	t.Parallel()
	s := newSlots(1, 1)
	running, impatient, patient := enter(s, 0), enter(s, 0), enter(s, 0)
	s.leave(impatient)
	s.leave(running)
	require.False(t, hasTurn(impatient))
	require.True(t, hasTurn(patient))
	s.leave(patient)
	require.True(t, hasTurn(enter(s, 0)))
}

func TestLinesAreCrowdedWhenTheyLeaveNoSlotToThoseAfterThem(t *testing.T) {
	t.Parallel()
	s := newSlots(3, 3)
	first := func(p *place, crowded int) *place {
		require.Zero(t, crowded)
		return p
	}
	high := first(s.enter(0))
	middle := first(s.enter(1))
	_, crowded := s.enter(1)
	require.Equal(t, 2, crowded, "the first two fill all slots")
	require.True(t, s.idle(1))
	require.False(t, s.idle(2))
	_, crowded = s.enter(0)
	require.Equal(t, 1, crowded, "one of the first waits")
	require.False(t, s.idle(1))
	s.leave(high)
	require.True(t, s.idle(1))
	require.False(t, s.idle(2))
	s.leave(middle)
	require.True(t, s.idle(2))

	_, crowded = newSlotsThatAreTaken(1).enter(0)
	require.Zero(t, crowded, "nobody is after the only line")
}

func newSlotsThatAreTaken(ranks int) *slots {
	s := newSlots(1, ranks)
	s.enter(0)
	return s
}

func TestSlotsAreAddedAndTakenAway(t *testing.T) {
	t.Parallel()
	s := newSlots(2, 2)
	a, b := enter(s, 0), enter(s, 1)
	c, d := enter(s, 1), enter(s, 0)
	s.resize(3)
	require.True(t, hasTurn(d), "the new slot goes to the first line")
	require.False(t, hasTurn(c))
	require.False(t, s.overfull())

	s.resize(1)
	require.Equal(t, 1, s.capacity())
	require.True(t, s.overfull())
	s.turnAway()
	require.True(t, hasTurn(c))
	require.True(t, c.away)
	require.False(t, s.leave(c), "it had no slot")
	require.False(t, s.leave(a))
	require.False(t, s.leave(b), "as many run as may")
	require.True(t, s.leave(d), "there is room again")
	require.False(t, s.overfull())
	e := enter(s, 0)
	require.True(t, hasTurn(e))
	require.False(t, s.leave(e), "that is told once")

	s.resize(0)
	require.False(t, s.overfull(), "nothing runs")
	f := enter(s, 0)
	require.False(t, hasTurn(f))
	s.turnAway()
	require.False(t, f.away, "it was not too many that ran")
	s.resize(1)
	require.True(t, hasTurn(f))
	s.resize(0)
	require.True(t, s.overfull())
	s.resize(2)
	require.False(t, s.overfull())
}
