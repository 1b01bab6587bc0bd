package worker

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// The backoff of a task that does not name its own.
const (
	DefaultBackoffBase   = time.Second
	DefaultBackoffMax    = 10 * time.Minute
	DefaultBackoffFactor = 2
)

// Backoff says how long a failed attempt waits for the next one: exponential
// with full jitter, so that tasks that failed together do not come back
// together. The zero value means 1 s, doubled each time, at most 10 minutes;
// a field that is zero takes its part of that.
type Backoff struct {
	// Base is the upper bound of the first wait.
	Base time.Duration
	// Max is the upper bound of every wait.
	Max time.Duration
	// Factor is what the upper bound grows by each time, at least 1.
	Factor float64
	// Waits, if there are any, are the waits themselves, without jitter and in
	// place of the other fields: the first retry comes after the first, and all
	// retries that there is none for come after the last.
	Waits []time.Duration
}

// Validate reports what is wrong with the backoff, joined.
func (b Backoff) Validate() error {
	if len(b.Waits) > 0 {
		return errors.Join(
			check(slices.Min(b.Waits) >= 0, "backoff: Waits must not be negative"),
			check(b.Base == 0 && b.Max == 0 && b.Factor == 0, "backoff: Waits take the place of Base, Max and Factor"),
		)
	}
	b = b.withDefaults()
	return errors.Join(
		check(b.Base > 0, "backoff: Base must be positive"),
		check(b.Max >= b.Base, "backoff: Max must not be below Base"),
		check(b.Factor >= 1 && !math.IsInf(b.Factor, 0), "backoff: Factor must be a number of at least 1"),
	)
}

// Delay returns how long to wait after the attempt that had the given number of
// retries before it (0 for the first): rnd() of min(Max, Base × Factor^retry),
// where rnd yields numbers in [0, 1), or what Waits says. A nil rnd means
// [rand.Float64].
func (b Backoff) Delay(retry int, rnd func() float64) time.Duration {
	if n := len(b.Waits); n > 0 {
		return b.Waits[min(max(retry, 0), n-1)]
	}
	if rnd == nil {
		rnd = rand.Float64
	}
	b = b.withDefaults()
	// In floating point, where a large power is infinite instead of negative.
	bound := min(float64(b.Max), float64(b.Base)*math.Pow(b.Factor, float64(max(retry, 0))))
	return time.Duration(bound * rnd())
}

func (b Backoff) withDefaults() Backoff {
	if b.Base == 0 {
		b.Base = DefaultBackoffBase
	}
	if b.Max == 0 {
		b.Max = max(DefaultBackoffMax, b.Base)
	}
	if b.Factor == 0 {
		b.Factor = DefaultBackoffFactor
	}
	return b
}
