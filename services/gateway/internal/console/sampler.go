package console

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// sampleEvery is how often the fleet is looked at; workers give their sign
	// of life as often.
	sampleEvery = 5 * time.Second
	// samplesKept are 15 minutes.
	samplesKept = 180
)

// sample is what happened between one look at the fleet and the next.
type sample struct {
	at time.Time
	// known says that the workers were read.
	known bool
	// finished, failed and retried are a second; runs says how long the
	// attempts took.
	finished, failed, retried float64
	runs                      messages.Spread
	ready                     float64
	slots, busy, workers      int
}

// sampler keeps what the plots are drawn from.
type sampler struct {
	fleet Fleet
	last  time.Time
	seen  map[string]messages.WorkerTotals

	mu      sync.RWMutex
	samples []sample
}

func newSampler(f Fleet) *sampler { return &sampler{fleet: f} }

func (s *sampler) run(ctx context.Context) error {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	for {
		s.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (s *sampler) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sampleEvery/2)
	defer cancel()
	workers, err := s.fleet.Workers(ctx)
	one := s.compare(workers, err == nil, now())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(s.samples, one)
	if len(s.samples) > samplesKept {
		s.samples = append(s.samples[:0], s.samples[len(s.samples)-samplesKept:]...)
	}
}

// compare counts what the workers have done since the look before. What a worker
// did between its last sign of life and its end is not counted.
func (s *sampler) compare(workers []messages.WorkerInfo, known bool, at time.Time) sample {
	one := sample{at: at, known: known}
	if !known {
		return one
	}
	seen := map[string]messages.WorkerTotals{}
	queues := map[string]bool{}
	var sum messages.WorkerTotals
	for _, w := range workers {
		one.workers++
		one.slots += w.Slots
		one.busy += w.Busy
		for _, q := range w.Queues {
			queues[q] = true
		}
		seen[w.Name] = w.Totals
		before, found := s.seen[w.Name]
		if !found && w.Started.Before(s.last) || s.seen == nil {
			continue // it was there, and what it had done then is not known
		}
		sum = sum.Plus(w.Totals.Minus(before))
	}
	for q := range queues {
		if n, known := s.fleet.Ready(q); known {
			one.ready += float64(n)
		}
	}
	if seconds := at.Sub(s.last).Seconds(); s.seen != nil && seconds > 0 {
		one.finished = float64(sum.Succeeded+sum.Failed) / seconds
		one.failed, one.retried = float64(sum.Failed)/seconds, float64(sum.Retried)/seconds
		one.runs = sum.Runs
	}
	s.seen, s.last = seen, at
	return one
}

// history returns the samples, the oldest first.
func (s *sampler) history() []sample {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return append([]sample(nil), s.samples...)
}

// figures are what the overview shows in large.
type figures struct {
	// Since is when the first sample was taken.
	Since                  time.Time
	PerSecond, FailureRate float64
	Median, Slow           float64 // seconds, NaN when nothing ran
	Ready                  float64
	Slots, Busy, Workers   int
	Throughput, Failures   plot
	Latency, Depth         plot
}

// lately is over how many samples the large figures are.
const lately = 12

func newFigures(samples []sample) figures {
	f := figures{FailureRate: math.NaN(), Median: math.NaN(), Slow: math.NaN(), PerSecond: math.NaN()}
	if len(samples) == 0 {
		return f
	}
	last := samples[len(samples)-1]
	f.Since, f.Ready = samples[0].at, last.ready
	f.Slots, f.Busy, f.Workers = last.slots, last.busy, last.workers
	var finished, failed, n float64
	var runs messages.Spread
	for _, one := range samples[max(0, len(samples)-lately):] {
		if !one.known {
			continue
		}
		finished, failed, runs, n = finished+one.finished, failed+one.failed, runs.Plus(one.runs), n+1
	}
	if n > 0 {
		f.PerSecond = finished / n
	}
	if finished > 0 {
		f.FailureRate = 100 * failed / finished
	}
	f.Median, f.Slow = runs.Quantile(0.5), runs.Quantile(0.95)
	f.Throughput = newPlot(samples, func(s sample) float64 { return s.finished })
	f.Failures = newPlot(samples, func(s sample) float64 {
		if s.finished == 0 {
			return 0
		}
		return 100 * s.failed / s.finished
	})
	f.Latency = newPlot(samples, func(s sample) float64 {
		if q := s.runs.Quantile(0.95); !math.IsNaN(q) {
			return q
		}
		return 0
	})
	f.Depth = newPlot(samples, func(s sample) float64 { return s.ready })
	return f
}
