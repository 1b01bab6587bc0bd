package messages

import (
	"math"
	"time"
)

// WorkerTotals count what a worker has done since it started.
type WorkerTotals struct {
	// Succeeded, Failed, Retried and Revoked are attempts by how they ended.
	Succeeded int64 `json:"succeeded"`
	Failed    int64 `json:"failed"`
	Retried   int64 `json:"retried"`
	Revoked   int64 `json:"revoked"`
	// Runs says how long the attempts took.
	Runs Spread `json:"runs"`
}

// Plus adds the totals of another worker.
func (t WorkerTotals) Plus(o WorkerTotals) WorkerTotals {
	return WorkerTotals{
		Succeeded: t.Succeeded + o.Succeeded, Failed: t.Failed + o.Failed,
		Retried: t.Retried + o.Retried, Revoked: t.Revoked + o.Revoked, Runs: t.Runs.Plus(o.Runs),
	}
}

// Minus takes away what the same worker had done before.
func (t WorkerTotals) Minus(o WorkerTotals) WorkerTotals {
	for i := range o.Runs {
		t.Runs[i] -= o.Runs[i]
	}
	return WorkerTotals{
		Succeeded: t.Succeeded - o.Succeeded, Failed: t.Failed - o.Failed,
		Retried: t.Retried - o.Retried, Revoked: t.Revoked - o.Revoked, Runs: t.Runs,
	}
}

// Spread counts durations: element i those up to 4ⁱ ms, the last one all that
// are longer than what the one before it holds (4.4 minutes).
type Spread [11]int64

// Place is the element that counts a duration.
func (Spread) Place(d time.Duration) int {
	limit := time.Millisecond
	for i := range len(Spread{}) - 1 {
		if d <= limit {
			return i
		}
		limit *= 4
	}
	return len(Spread{}) - 1
}

// Plus adds another spread.
func (s Spread) Plus(o Spread) Spread {
	for i := range o {
		s[i] += o[i]
	}
	return s
}

// Quantile returns, in seconds, below what a share of the durations is, as far
// as their places tell; NaN when there are none.
func (s Spread) Quantile(share float64) float64 {
	var all int64
	for _, n := range s {
		all += n
	}
	if all == 0 {
		return math.NaN()
	}
	rank := share * float64(all)
	limit, before := 0.001, 0.0
	for i, n := range s {
		if float64(n) >= rank && n > 0 || i == len(s)-1 {
			return before + (limit-before)*min(1, rank/math.Max(float64(n), 1))
		}
		rank -= float64(n)
		before, limit = limit, limit*4
	}
	return before
}
