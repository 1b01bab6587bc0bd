package access

import (
	"errors"
	"math"
	"sync"
	"time"
)

// Rate is how often something may be done: so many times a second in the long
// run, and Burst times at once. Zero is no limit.
type Rate struct {
	PerSecond float64 `json:"per_second,omitempty"`
	Burst     int     `json:"burst,omitempty"`
}

const (
	mostPerSecond = 1e6
	mostBurst     = 1_000_000
)

func (r Rate) validate() error {
	switch {
	case r == Rate{}:
		return nil
	case !(r.PerSecond > 1e-3 && r.PerSecond <= mostPerSecond): // NaN is neither
		return errors.New("must be above 0.001 and at most 1000000 per second")
	case r.Burst < 0 || r.Burst > mostBurst:
		return errors.New("the burst must be from 1 to 1000000")
	}
	return nil
}

// NewRate returns a rate; without a burst it is what a second allows.
func NewRate(perSecond float64, burst int) (Rate, error) {
	r := Rate{PerSecond: perSecond, Burst: burst}
	return r, r.validate()
}

// burst is that of the rate, at least 1.
func (r Rate) burst() int {
	if r.Burst > 0 {
		return r.Burst
	}
	return max(1, int(math.Ceil(r.PerSecond)))
}

// interval is the time that one use takes of the rate.
func (r Rate) interval() time.Duration { return time.Duration(float64(time.Second) / r.PerSecond) }

// Quota is what is left of a rate.
type Quota struct {
	// Limit may be used within Window, as often as it is full; zero when there
	// is no limit.
	Limit  int
	Window time.Duration
	// Remaining may be used now. It is full again after Reset.
	Remaining int
	Reset     time.Duration
	// RetryAfter is when it may be used next; zero when this use was allowed.
	RetryAfter time.Duration
}

// allowed is the quota after a use, when the bucket is full again after a time.
func (r Rate) allowed(full time.Duration) Quota {
	window := r.window()
	return Quota{Limit: r.burst(), Window: window, Remaining: int(max(0, window-full) / r.interval()), Reset: full}
}

// refused is the quota of a use for which there was no room.
func (r Rate) refused(full time.Duration) Quota {
	window := r.window()
	return Quota{Limit: r.burst(), Window: window, Reset: full, RetryAfter: max(time.Millisecond, full+r.interval()-window)}
}

// window is how long an empty bucket takes to be full.
func (r Rate) window() time.Duration { return r.interval() * time.Duration(r.burst()) }

// Buckets count uses in memory, by GCRA: a bucket is one point in time. Its zero
// value is ready. It holds one bucket for every name that was used of late.
type Buckets struct {
	mu    sync.Mutex
	full  map[string]time.Time
	swept time.Time
}

// Take uses the rate of a name once.
func (b *Buckets) Take(name string, r Rate, now time.Time) Quota {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.full == nil {
		b.full = map[string]time.Time{}
	}
	if now.Sub(b.swept) > time.Minute {
		for other, full := range b.full {
			if full.Before(now) {
				delete(b.full, other)
			}
		}
		b.swept = now
	}
	full := max(0, b.full[name].Sub(now))
	if full+r.interval() > r.window() {
		return r.refused(full)
	}
	full += r.interval()
	b.full[name] = now.Add(full)
	return r.allowed(full)
}
