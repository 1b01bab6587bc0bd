package main

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

// workers measures how fast tasks that do nothing are worked off by several worker
// processes together.
func (b *bench) workers(ctx context.Context) error {
	contenders := slices.Concat([]contender{b.our()}, b.peers)
	entries := b.entries(ctx, "workers", runner.Noop, contenders)
	for _, n := range b.Workers {
		these := slices.Clone(entries)
		for i := range these {
			these[i].processes = n
			// Some are run while the processes start, and together they are faster.
			these[i].work.Tasks = min(2*these[i].work.Tasks, max(b.Items, these[i].work.Tasks))
		}
		if err := b.drainTurns(ctx, workersOf(n), b.some(), these); err != nil {
			return err
		}
	}
	for _, n := range b.Workers {
		for _, c := range contenders {
			for _, times := range b.book.Ratios(workersOf(n), c.name, workersOf(1), c.name) {
				if n > 1 {
					b.book.Add(workersOf(n)+"-per-1", c.name, "×", times)
				}
			}
		}
	}
	return nil
}

const workersMeasure = "workers-"

func workersOf(n int) string { return workersMeasure + strconv.Itoa(n) }

// togetherEvery is how often is asked how far processes have come that work off
// one queue.
const togetherEvery = 50 * time.Millisecond

// together has several processes work off the queue. It counts from when the last
// of them has started, and returns what all tasks would take at that rate.
func (b *bench) together(ctx context.Context, e entry, u *used) (workers []*stack.Service, took time.Duration, err error) {
	begun := time.Now()
	for n := range e.processes {
		w := e.work
		w.Tasks, w.Beside = endless, n
		v, err := e.pool.start(ctx, w)
		if err != nil {
			return nil, 0, err
		}
		workers = append(workers, v)
	}
	u.meter = newMeter(b.stack, workers...)
	u.meter.mark()
	from, before := time.Now(), 0
	if before, err = e.settled(ctx, workers); err != nil {
		return nil, 0, err
	}
	if before > e.work.Tasks/2 { // so few that they do not last until all have started
		from, before = begun, 0
	}
	for now := before; now < e.work.Tasks; {
		if err := load.Pass(ctx, togetherEvery); err != nil {
			return nil, 0, workers[0].Explain(err)
		}
		if now, err = e.settled(ctx, workers); err != nil {
			return nil, 0, err
		}
	}
	part := float64(e.work.Tasks-before) / float64(e.work.Tasks)
	took = time.Duration(float64(time.Since(from)) / part)
	u.meter.mark()
	return workers, took, nil
}
