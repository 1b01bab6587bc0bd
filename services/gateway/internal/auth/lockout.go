package auth

import (
	"sync"
	"time"
)

const (
	// tries are free; after them each wrong one costs a wait that doubles, from
	// firstWait to longestWait. What was wrong is forgotten after a while.
	tries       = 10
	firstWait   = time.Second
	longestWait = 5 * time.Minute
	forgetAfter = 15 * time.Minute
	// mostOrigins bounds the memory of wrong tries. When it is full those from
	// elsewhere share one account.
	mostOrigins = 10_000
)

// lockout counts wrong credentials by where they come from. Its zero value is
// ready.
type lockout struct {
	mu     sync.Mutex
	counts map[string]*failures
	swept  time.Time
}

type failures struct {
	n     int
	last  time.Time
	until time.Time
}

// failed counts a wrong try and returns how long no other is looked at, zero
// while there are free ones.
func (l *lockout) failed(from string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.of(from, now)
	if now.Before(f.until) {
		return f.until.Sub(now) // one that comes in the wait is no try
	}
	f.n, f.last = f.n+1, now
	if f.n <= tries {
		return 0
	}
	wait := min(longestWait, firstWait<<min(f.n-tries-1, 20))
	f.until = now.Add(wait)
	return wait
}

// locked returns how long no try is looked at.
func (l *lockout) locked(from string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.counts[from]; f != nil && now.Before(f.until) {
		return f.until.Sub(now)
	}
	return 0
}

// forget ends the count after a right one.
func (l *lockout) forget(from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.counts, from)
}

func (l *lockout) of(from string, now time.Time) *failures {
	if l.counts == nil {
		l.counts = map[string]*failures{}
	}
	if now.Sub(l.swept) > time.Minute {
		l.swept = now
		for other, f := range l.counts {
			if now.Sub(f.last) > forgetAfter && now.After(f.until) {
				delete(l.counts, other)
			}
		}
	}
	if l.counts[from] == nil && len(l.counts) >= mostOrigins {
		from = "elsewhere"
	}
	if l.counts[from] == nil {
		l.counts[from] = &failures{}
	}
	return l.counts[from]
}
