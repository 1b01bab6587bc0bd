package api

import (
	"sync"
	"time"
)

const (
	// limitTick is how often the limiter learns.
	limitTick = 100 * time.Millisecond
	// easyLimit is how many submissions may be in flight as long as the broker
	// keeps up, and at once after that: a burst, or a slow network, is no
	// overload. leastLimit is how many may be in any case.
	easyLimit  = 512
	leastLimit = 64
	// fineWait is a time in flight that is worth refusing nobody.
	fineWait = 75 * time.Millisecond
	// silence is after how long without an answer the broker is not busy but
	// away, which is for others to find out. So many are let in then as would
	// have been confirmed in untilFound.
	silence    = 500 * time.Millisecond
	untilFound = 1500 * time.Millisecond
	// lookAgain is how old the undisturbed time may become.
	lookAgain = 10 * time.Second
	// tryAgain is how long submissions are refused before it is tried whether
	// that is still needed, and fairWait bounds what the trial may cost those
	// that are in it.
	tryAgain = time.Minute
	fairWait = 300 * time.Millisecond
	// forgetAfter is how many ticks a submission counts. One that takes longer
	// waits for something ill, and says nothing about how busy the broker is.
	forgetAfter = 20
	// second is one in ticks.
	second = int64(time.Second / limitTick)
)

// limiter bounds the submissions in flight while more come than the broker
// confirms: those too many would only wait, and everybody with them.
//
// By Little's law as many are in flight as are confirmed in the time that one
// takes. So the limit is the rate of confirms times the time that one takes
// while nothing waits, and half as many again for the broker to be never idle.
// Both are measured. The undisturbed time is the least of the last seconds; when
// submissions were refused all the while it is measured anew, by letting so few
// in for a moment that nothing waits. Otherwise the queue itself would
// become the measure, and the limit would grow with it.
//
// Only refusals lower the limit, and nobody is refused while fewer than
// easyLimit are in flight and no one was before. So neither many patient
// clients nor a network that is slow are taken for an overload. Once a minute
// it is tried whether such clients are all that there is by now. And the limit
// only holds while confirms come.
type limiter struct {
	most float64

	mu    sync.Mutex
	limit float64
	// inFlight are those that began in the last ticks; began says how many in
	// which.
	inFlight int
	began    [forgetAfter]int
	tick     int64 // since 1970
	answered time.Time

	// Of the present tick.
	done    int
	took    time.Duration // of all that are done
	refused int

	rate float64       // confirms a second, and
	pace float64       // what it was when the last one came
	base time.Duration // the undisturbed time, and
	seen int64         // the tick when it was measured
	look looking
	shed int64 // the last tick with a refusal, and
	from int64 // the one from which on there were some, or that of the last trial
}

// looking is a measurement of the undisturbed time under load.
type looking struct {
	on      bool
	since   int64
	quiet   int // ticks since nothing waits
	fastest time.Duration
}

func newLimiter(most int) *limiter {
	l := &limiter{most: float64(most)}
	l.limit = l.easy()
	return l
}

// slot is the place of a submission in flight.
type slot struct {
	tick  int64
	begun time.Time
}

// full reports whether a submission would be refused, and counts it as such.
func (l *limiter) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refuse(time.Now())
}

// enter takes a place; false when there is none.
func (l *limiter) enter() (slot, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.refuse(now) {
		return slot{}, false
	}
	l.inFlight++
	l.began[l.tick%forgetAfter]++
	return slot{l.tick, now}, true
}

// leave gives a place back, and says whether the broker has answered.
func (l *limiter) leave(s slot, answered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.advance(now)
	if l.tick-s.tick < forgetAfter {
		l.inFlight--
		l.began[s.tick%forgetAfter]--
	}
	if answered {
		l.answered = now
		l.done++
		l.took += now.Sub(s.begun)
	}
}

// state is what the metrics show.
func (l *limiter) state() (limit float64, inFlight int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance(time.Now())
	return l.allowed(), l.inFlight
}

func (l *limiter) refuse(now time.Time) bool {
	l.advance(now)
	allowed := l.allowed()
	if now.Sub(l.answered) > silence {
		allowed = max(l.easy(), min(l.pace*untilFound.Seconds(), l.most))
	}
	if float64(l.inFlight) < allowed {
		return false
	}
	l.refused++
	return true
}

func (l *limiter) allowed() float64 {
	if l.look.on {
		return max(0.4*l.limit, leastLimit/8)
	}
	return l.limit
}

// advance ends the ticks that are over.
func (l *limiter) advance(now time.Time) {
	tick := now.UnixNano() / int64(limitTick)
	if tick-l.tick > forgetAfter {
		// Whoever was in flight is forgotten by now.
		l.inFlight, l.began = 0, [forgetAfter]int{}
		l.rate, l.limit, l.look = 0, l.easy(), looking{}
		l.tick = tick - 1
	}
	for l.tick < tick {
		l.learn()
		l.tick++
		i := l.tick % forgetAfter
		l.inFlight -= l.began[i]
		l.began[i] = 0
		l.done, l.took, l.refused = 0, 0, 0
	}
}

// learn takes its lessons from a tick.
func (l *limiter) learn() {
	const weight = 0.3
	l.rate += weight * (float64(l.done)/limitTick.Seconds() - l.rate)
	if l.refused > 0 {
		if l.tick-l.shed > second {
			l.from = l.tick
		}
		l.shed = l.tick
	}
	if l.done > 0 {
		l.pace = l.rate
		l.measure(l.took / time.Duration(l.done))
	}
	wanted := min(max(l.rate*max(l.base*3/2, fineWait).Seconds(), leastLimit), l.most)
	switch rest := max(wanted, l.easy()); {
	case l.look.on:
	case l.refused > 0 && l.tick-l.from > int64(tryAgain/limitTick):
		l.from = l.tick
		l.limit = max(wanted, min(l.easy(), l.rate*fairWait.Seconds()))
	case l.refused > 0:
		l.limit = wanted
	case l.limit < rest:
		l.limit = min(l.limit*1.05, rest)
	default:
		l.limit = max(l.limit*0.95, rest)
	}
}

func (l *limiter) easy() float64 { return min(easyLimit, l.most) }

// measure keeps the undisturbed time, by the mean of a tick.
func (l *limiter) measure(took time.Duration) {
	switch {
	case l.look.on:
		l.lookOn(took)
	case l.base == 0 || took < l.base:
		l.base, l.seen = took, l.tick
	case l.tick-l.seen < int64(lookAgain/limitTick):
	case l.tick-l.shed > second:
		l.base, l.seen = took, l.tick
	default:
		l.look = looking{on: true, since: l.tick}
	}
}

// lookOn measures until two ticks have passed in which nothing waited.
func (l *limiter) lookOn(took time.Duration) {
	const enough, patience = 3, second
	if float64(l.inFlight) <= l.allowed() {
		l.look.quiet++
	}
	if l.look.quiet > 1 && (l.look.fastest == 0 || took < l.look.fastest) {
		l.look.fastest = took
	}
	if l.look.quiet < enough && l.tick-l.look.since < patience {
		return
	}
	if l.look.fastest == 0 {
		l.look.fastest = took
	}
	l.base, l.seen, l.look = l.look.fastest, l.tick, looking{}
}
