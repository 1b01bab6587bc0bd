package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lovage-mq/lovage/bench/internal/procfs"
	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

// per is how many tasks memory and processor time are given for.
const per = 10_000

// kinds measures how fast everybody works off a queue of tasks of one kind that
// was filled before, results stored.
func (b *bench) kinds(ctx context.Context) error {
	for _, kind := range b.Kinds {
		if err := b.kind(ctx, kind); err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
	}
	return nil
}

// entry is a contender with its best pool, and so many tasks that they keep it
// busy for a while.
type entry struct {
	contender
	pool pool
	work stack.Work
}

func (b *bench) kind(ctx context.Context, kind string) error {
	var entries []entry
	for _, c := range slices.Concat([]contender{b.our(), b.loose()}, b.peers) {
		if c.name == floorName && (b.Base != "" || kind != runner.Noop && kind != runner.Payload) {
			continue // the loop does nothing with its tasks
		}
		if c.name == baseName { // as many tasks and slots as ours has
			entries = append(entries, like(entries[0], c))
			continue
		}
		e, err := b.bestPool(ctx, c, kind)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		entries = append(entries, e)
	}
	measure := "drain-" + kind
	err := b.turns(measure, len(entries), func(i int) error {
		if err := b.kindTurn(ctx, measure, entries[i]); err != nil {
			return fmt.Errorf("%s: %w", entries[i].name, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	measures := []string{measure, measure + cpuSuffix, measure + "-memory"}
	for _, m := range measures {
		b.book.Compare(report.Comparison{Measure: m, Ours: ours, Contender: floorName})
	}
	b.comparePeers(measures...)
	return nil
}

// like is another build of ours with what ours has.
func like(e entry, c contender) entry {
	i := slices.IndexFunc(c.pools, func(p pool) bool { return p.slots == e.pool.slots })
	return entry{c, c.pools[i], e.work}
}

// bestPool tries all pools of a contender with a few tasks. Without any it takes
// the first.
func (b *bench) bestPool(ctx context.Context, c contender, kind string) (entry, error) {
	if b.Trial == 0 {
		return entry{c, c.pools[0], stack.Work{Tasks: b.Items, Kind: kind, Bytes: b.bytes, Slots: c.pools[0].slots}}, nil
	}
	measure := "pool-" + kind
	best := entry{contender: c}
	fastest := 0.0
	for _, p := range c.pools {
		e := entry{contender: c, pool: p, work: stack.Work{Tasks: b.Trial, Kind: kind, Bytes: b.bytes, Slots: p.slots}}
		took, _, err := b.drainOnce(ctx, e)
		if err != nil {
			return best, fmt.Errorf("%s: %w", p.name, err)
		}
		rate := float64(b.Trial) / took.Seconds()
		b.book.Add(measure, c.name+", "+p.name, "1/s", rate)
		if rate > fastest {
			fastest, best = rate, e
		}
	}
	tasks := int(fastest * b.Drain.Seconds())
	best.work.Tasks = min(max(tasks, b.Trial), b.Items)
	progress("drain-%s: %s has %s and gets %d tasks", kind, c.name, best.pool.name, best.work.Tasks)
	return best, nil
}

// used is what a drain has cost.
type used struct {
	meter *meter
	// memory is the worker's, kept what tasks and results take, in bytes.
	memory int64
	kept   float64
}

func (b *bench) drainOnce(ctx context.Context, e entry) (took time.Duration, u used, err error) {
	if err := e.clear(ctx); err != nil {
		return 0, u, err
	}
	before, err := e.kept(ctx)
	if err != nil {
		return 0, u, err
	}
	if err := e.fill(ctx, e.work.Kind, e.work.Tasks); err != nil {
		return 0, u, fmt.Errorf("fill: %w", err)
	}
	v, err := e.pool.start(ctx, e.work)
	if err != nil {
		return 0, u, err
	}
	u.meter = newMeter(b.stack, v)
	u.meter.mark()
	took, err = e.drained(ctx, v, e.work)
	u.meter.mark()
	if err != nil {
		return 0, u, v.Explain(err)
	}
	if u.memory, err = procfs.TreeMemory(v.PID()); err != nil {
		return 0, u, err
	}
	after, err := e.kept(ctx)
	if err != nil {
		return 0, u, err
	}
	u.kept = after - before
	return took, u, cmp.Or(u.meter.err, v.End())
}

func (b *bench) kindTurn(ctx context.Context, measure string, e entry) error {
	took, u, err := b.drainOnce(ctx, e)
	if err != nil {
		return err
	}
	n := float64(e.work.Tasks)
	b.add(measure, e.contender, "1/s", n/took.Seconds())
	u.meter.add(b.book, measure, e.name, int64(e.work.Tasks))
	b.book.Add(measure+"-cpu-10000", e.name, "s", u.meter.all().Seconds()*per/n)
	b.book.Add(measure+"-memory", e.name, "MB", float64(u.memory)/MB)
	b.book.Add(measure+"-kept-10000", e.name, "MB", u.kept/MB*per/n)
	return nil
}
