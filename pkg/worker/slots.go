package worker

import (
	"container/list"
	"sync"
)

// slots are what tasks run in, one each. Deliveries wait for them in lines: those
// of a lower rank come first, and those of one rank in their order.
type slots struct {
	mu    sync.Mutex
	size  int
	free  int  // above 0 only while nobody waits, below while more run than may
	over  bool // since more ran than may, until a slot is free again
	lines []line
}

// line is what is known of one rank.
type line struct {
	held    int       // how many have a slot or wait for one
	waiting list.List // of *place
}

// place is that of one delivery.
type place struct {
	rank int
	turn chan struct{} // closed when it has a slot, or is turned away
	at   *list.Element // in the line; nil when it has a slot
	// away is that it was turned away; it is read after its turn.
	away bool
}

func newSlots(size, ranks int) *slots {
	return &slots{size: size, free: size, lines: make([]line, ranks)}
}

// enter gives a delivery a slot or a place in its line. crowded is how many ranks
// from the first one on have become enough to fill all slots, so that those after
// them had better stay away; 0 if none.
func (s *slots) enter(rank int) (p *place, crowded int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p = &place{rank: rank, turn: make(chan struct{})}
	l := &s.lines[rank]
	l.held++
	if s.free > 0 {
		s.free--
		close(p.turn)
	} else {
		p.at = l.waiting.PushBack(p)
	}
	for n := rank + 1; n < len(s.lines); n++ {
		if !s.idleLocked(n) {
			return p, n
		}
	}
	return p, 0
}

// leave gives the place up. Its slot, if it had one, goes to the next in line.
// fits reports that with it one is free again after more ran than may.
func (s *slots) leave(p *place) (fits bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.lines[p.rank]
	l.held--
	if p.at != nil {
		l.waiting.Remove(p.at)
		return false
	}
	if p.away {
		return false
	}
	s.free++
	s.hand()
	return s.settled()
}

// hand gives the free slots to those who wait. It needs the lock.
func (s *slots) hand() {
	for i := range s.lines {
		for first := s.lines[i].waiting.Front(); first != nil && s.free > 0; first = s.lines[i].waiting.Front() {
			next := s.lines[i].waiting.Remove(first).(*place)
			next.at = nil
			close(next.turn)
			s.free--
		}
	}
}

// resize changes how many there are. Those that are taken stay so.
func (s *slots) resize(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free += size - s.size
	s.size = size
	s.hand()
	s.over = s.over || s.free < 0
	s.settled()
}

// turnAway sends away all who wait, if more run than may.
func (s *slots) turnAway() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.lines {
		for first := s.lines[i].waiting.Front(); first != nil && s.over; first = s.lines[i].waiting.Front() {
			p := s.lines[i].waiting.Remove(first).(*place)
			p.at, p.away = nil, true
			close(p.turn)
		}
	}
}

// settled reports whether a slot is free again after more ran than may, once. It
// needs the lock.
func (s *slots) settled() bool {
	was := s.over
	s.over = s.over && s.free <= 0
	return was && !s.over
}

func (s *slots) overfull() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

func (s *slots) capacity() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size
}

// idle reports whether nothing of the first n ranks waits, and they leave a slot
// to the others.
func (s *slots) idle(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idleLocked(n)
}

func (s *slots) idleLocked(n int) bool {
	held := 0
	for i := range s.lines[:n] {
		if s.lines[i].waiting.Len() > 0 {
			return false
		}
		held += s.lines[i].held
	}
	return held < s.size
}
