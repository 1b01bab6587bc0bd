package api

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// line is a broker in a simulation: one message after the other, and the way
// there and back.
type line struct {
	each, way time.Duration
	free      time.Time
	frozen    time.Time // nothing is confirmed before
}

// confirmed says when a message that is sent now is confirmed.
func (b *line) confirmed(now time.Time) time.Time {
	if b.free.Before(now) {
		b.free = now
	}
	if b.free.Before(b.frozen) {
		b.free = b.frozen
	}
	b.free = b.free.Add(b.each)
	return b.free.Add(b.way)
}

// flight is a submission in a simulation.
type flight struct {
	due  time.Time
	next func()
}

type flights []flight

func (f flights) Len() int           { return len(f) }
func (f flights) Less(i, j int) bool { return f[i].due.Before(f[j].due) }
func (f flights) Swap(i, j int)      { f[i], f[j] = f[j], f[i] }
func (f *flights) Push(x any)        { *f = append(*f, x.(flight)) }
func (f *flights) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}

// simulation puts a limiter before a line. It has to run in a bubble.
type simulation struct {
	*limiter
	line    line
	events  flights
	random  *rand.Rand // the same every time
	took    []time.Duration
	refused int
}

// at plans something.
func (s *simulation) at(due time.Time, do func()) { heap.Push(&s.events, flight{due: due, next: do}) }

// submit is one submission now; then is called when it is answered.
func (s *simulation) submit(then func()) {
	begun := time.Now()
	place, ok := s.enter()
	if !ok {
		s.refused++
		s.at(begun.Add(time.Second), then) // as Retry-After asks
		return
	}
	s.at(s.line.confirmed(begun), func() {
		s.leave(place, true)
		s.took = append(s.took, time.Since(begun))
		then()
	})
}

// open submits so many a second, whatever becomes of them.
func (s *simulation) open(rate float64) {
	var again func()
	again = func() {
		s.submit(func() {})
		s.at(time.Now().Add(time.Duration(s.random.ExpFloat64()/rate*float64(time.Second))), again)
	}
	s.at(time.Now(), again)
}

// closed is a client that submits one after the other.
func (s *simulation) closed() {
	s.submit(func() { s.closed() })
}

// run lets things happen for a while.
func (s *simulation) run(d time.Duration) {
	end := time.Now().Add(d)
	for len(s.events) > 0 && !s.events[0].due.After(end) {
		e := heap.Pop(&s.events).(flight)
		<-time.After(time.Until(e.due))
		e.next()
	}
	<-time.After(time.Until(end))
}

// seen runs for a while and returns what came of that alone.
func (s *simulation) seen(d time.Duration) (rate float64, p99 time.Duration, refused int) {
	s.took, s.refused = nil, 0
	s.run(d)
	slices.Sort(s.took)
	if n := len(s.took); n > 0 {
		p99 = s.took[n*99/100]
	}
	return float64(len(s.took)) / d.Seconds(), p99, s.refused
}

func simulate(t *testing.T, b line, do func(s *simulation)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		do(&simulation{limiter: newLimiter(4000), line: b, random: rand.New(rand.NewPCG(1, 2))}) //nolint:gosec // it simulates
	})
}

func TestOverloadCostsTheAcceptedNeitherTimeNorThroughput(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]line{
		"1000/s, near": {each: time.Millisecond, way: 2 * time.Millisecond},
		"200/s, near":  {each: 5 * time.Millisecond, way: 2 * time.Millisecond},
		"1500/s, far":  {each: time.Second / 1500, way: 100 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			capacity := float64(time.Second / b.each)
			var at time.Duration
			simulate(t, b, func(s *simulation) {
				s.open(capacity)
				s.run(5 * time.Second)
				_, at, _ = s.seen(15 * time.Second)
			})
			simulate(t, b, func(s *simulation) {
				s.open(3 * capacity)
				s.run(5 * time.Second)
				rate, p99, refused := s.seen(15 * time.Second)
				t.Logf("p99 %v at capacity, %v at three times; %.0f of %.0f a second, %d refused", at, p99, rate, capacity, refused)
				require.LessOrEqual(t, p99, 2*at)
				require.GreaterOrEqual(t, rate, 0.9*capacity)
			})
		})
	}
}

func TestNobodyIsRefusedWithoutOverload(t *testing.T) {
	t.Parallel()
	for clients, b := range map[int]line{
		64:  {each: 5 * time.Millisecond, way: time.Millisecond},
		256: {each: time.Millisecond, way: time.Millisecond},
		500: {each: time.Millisecond, way: 50 * time.Millisecond},
	} {
		simulate(t, b, func(s *simulation) {
			for range clients {
				s.closed()
			}
			_, _, refused := s.seen(10 * time.Second)
			require.Zero(t, refused, "%d clients", clients)
		})
	}
}

func TestSlowNetworkIsNoOverload(t *testing.T) {
	t.Parallel()
	simulate(t, line{each: time.Second / 8000, way: 2 * time.Millisecond}, func(s *simulation) {
		s.open(640)
		s.run(10 * time.Second)
		s.line.way = 200 * time.Millisecond
		_, p99, refused := s.seen(20 * time.Second)
		require.Zero(t, refused)
		require.Less(t, p99, 250*time.Millisecond)
	})
}

func TestLimitFindsOutThatTheNetworkIsSlow(t *testing.T) {
	t.Parallel()
	simulate(t, line{each: time.Second / 8000, way: 2 * time.Millisecond}, func(s *simulation) {
		s.open(3000)
		s.run(5 * time.Second)
		s.line.way = 200 * time.Millisecond
		s.run(lookAgain + 5*time.Second) // 600 have to be in flight now
		_, _, refused := s.seen(5 * time.Second)
		require.Zero(t, refused)
	})
}

func TestBrokerThatIsSilentIsNotOverloaded(t *testing.T) {
	t.Parallel()
	simulate(t, line{each: time.Second / 8000, way: 2 * time.Millisecond}, func(s *simulation) {
		s.open(640)
		s.run(5 * time.Second)
		s.line.frozen = time.Now().Add(1100 * time.Millisecond)
		_, _, refused := s.seen(1100 * time.Millisecond)
		require.Zero(t, refused, "what comes of it is the publisher's to say")
		s.run(time.Second)
		_, _, refused = s.seen(5 * time.Second)
		require.Zero(t, refused)
	})
}

func TestLimitRecoversFromAnOverload(t *testing.T) {
	t.Parallel()
	simulate(t, line{each: time.Millisecond, way: 2 * time.Millisecond}, func(s *simulation) {
		s.open(3000)
		s.run(10 * time.Second)
		limit, _ := s.state()
		require.Less(t, limit, 200.0)
		s.events = nil // everybody goes, and what was in flight is never answered
		s.run(10 * time.Second)
		for range 256 {
			s.closed()
		}
		_, _, refused := s.seen(20 * time.Second)
		require.Zero(t, refused)
	})
}

func TestManyPatientClientsAreNotRefusedForLongAfterAnOverload(t *testing.T) {
	t.Parallel()
	simulate(t, line{each: time.Millisecond, way: 2 * time.Millisecond}, func(s *simulation) {
		s.open(3000)
		s.run(5 * time.Second)
		s.events = nil
		for range 256 { // they keep the broker busy, as the others did
			s.closed()
		}
		s.run(time.Second)
		_, _, refused := s.seen(time.Second)
		require.NotZero(t, refused)
		s.run(tryAgain + 5*time.Second)
		_, _, refused = s.seen(20 * time.Second)
		require.Zero(t, refused)
	})
}
