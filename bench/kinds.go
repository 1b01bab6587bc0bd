package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
			return err
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
	// processes work off the queue together, if there are several.
	processes int
}

func (b *bench) kind(ctx context.Context, kind string) error {
	contenders := []contender{b.our()}
	if b.Base == "" && (kind == runner.Noop || kind == runner.Payload) { // the loop does nothing with its tasks
		contenders = append(contenders, b.loose())
	}
	measure, rounds := drainMeasure(kind), b.some()
	if kind == runner.Noop {
		rounds = b.Rounds
	}
	return b.drainTurns(ctx, measure, rounds, b.entries(ctx, measure, kind, append(contenders, b.peers...)))
}

func drainMeasure(kind string) string { return "drain-" + kind }

// entries are those contenders that can take part, with their best pools.
func (b *bench) entries(ctx context.Context, measure, kind string, contenders []contender) (entries []entry) {
	for _, c := range contenders {
		if c.name == baseName && len(entries) > 0 { // as many tasks and slots as ours has
			entries = append(entries, like(entries[0], c))
			continue
		}
		b.try(ctx, measure, c.name, func(ctx context.Context) error {
			e, err := b.bestPool(ctx, c, measure, kind)
			if err == nil {
				entries = append(entries, e)
			}
			return err
		})
	}
	return entries
}

// drainTurns has all of them work off their queues in turn, and relates ours to
// the others.
func (b *bench) drainTurns(ctx context.Context, measure string, rounds int, entries []entry) error {
	var names []string
	for _, e := range entries {
		names = append(names, e.name)
	}
	err := b.turns(ctx, measure, rounds, names, func(ctx context.Context, i int) error { return b.kindTurn(ctx, measure, entries[i]) })
	if err != nil {
		return err
	}
	for _, e := range entries {
		if b.isOurs(e.contender) {
			b.book.Note(measure, e.name, e.note+"; a quorum write and an fsync a task more than asynq")
		}
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
	return entry{contender: c, pool: c.pools[i], work: e.work}
}

// bestPool tries all pools of a contender with a few tasks. Without any it takes
// the first.
func (b *bench) bestPool(ctx context.Context, c contender, measure, kind string) (entry, error) {
	if b.Trial == 0 {
		w := stack.Work{Tasks: b.Items, Kind: kind, Bytes: b.bytes, Slots: c.pools[0].slots}
		return entry{contender: c, pool: c.pools[0], work: w}, nil
	}
	best := entry{contender: c}
	fastest := 0.0
	for _, p := range c.pools {
		e := entry{contender: c, pool: p, work: stack.Work{Tasks: b.Trial, Kind: kind, Bytes: b.bytes, Slots: p.slots}}
		took, _, err := b.drainOnce(ctx, e)
		if err != nil {
			return best, fmt.Errorf("%s: %w", p.name, err)
		}
		rate := float64(b.Trial) / took.Seconds()
		b.book.Add("pool-"+strings.TrimPrefix(measure, "drain-"), c.name+", "+p.name, "1/s", rate)
		if rate > fastest {
			fastest, best = rate, e
		}
	}
	tasks := int(fastest * b.Drain.Seconds())
	best.work.Tasks = min(max(tasks, b.Trial), b.Items)
	progress("%s: %s has %s and gets %d tasks", measure, c.name, best.pool.name, best.work.Tasks)
	return best, nil
}

// used is what a drain has cost.
type used struct {
	meter *meter
	// memory is the worker's, kept what tasks and results take, grown by how much
	// the memory of the servers has, in bytes.
	memory      int64
	kept, grown float64
}

func (b *bench) drainOnce(ctx context.Context, e entry) (took time.Duration, u used, err error) {
	if err := e.clear(ctx); err != nil {
		return 0, u, err
	}
	keptBefore, memoryBefore, err := b.holds(ctx, e.contender)
	if err != nil {
		return 0, u, err
	}
	if err := e.fill(ctx, e.work.Kind, e.work.Tasks); err != nil {
		return 0, u, fmt.Errorf("fill: %w", err)
	}
	workers, took, err := b.workOff(ctx, e, &u)
	if err != nil {
		return 0, u, err
	}
	for _, v := range workers {
		memory, err := procfs.TreeMemory(v.PID())
		if err != nil {
			return 0, u, err
		}
		u.memory += memory
	}
	kept, memory, err := b.holds(ctx, e.contender)
	if err != nil {
		return 0, u, err
	}
	u.kept, u.grown = kept-keptBefore, memory-memoryBefore
	for _, v := range workers {
		if err := v.End(); err != nil {
			return 0, u, err
		}
	}
	return took, u, u.meter.err
}

// holds is what a contender keeps, and the memory of the servers, in bytes.
func (b *bench) holds(ctx context.Context, c contender) (kept, memory float64, err error) {
	if kept, err = c.kept(ctx); err != nil {
		return 0, 0, err
	}
	memory, err = b.stack.ServerMemory()
	return kept, memory, err
}

// workOff starts the workers, which work off what waits, and returns how long that
// has taken. They still run.
func (b *bench) workOff(ctx context.Context, e entry, u *used) (workers []*stack.Service, took time.Duration, err error) {
	if e.processes > 0 {
		return b.together(ctx, e, u)
	}
	v, err := e.pool.start(ctx, e.work)
	if err != nil {
		return nil, 0, err
	}
	u.meter = newMeter(b.stack, v)
	u.meter.mark()
	took, err = e.drained(ctx, v, e.work)
	u.meter.mark()
	return []*stack.Service{v}, took, v.Explain(err)
}

func (b *bench) kindTurn(ctx context.Context, measure string, e entry) error {
	took, u, err := b.drainOnce(ctx, e)
	if err != nil {
		return err
	}
	n := float64(e.work.Tasks)
	b.add(measure, e.contender, "1/s", n/took.Seconds())
	u.meter.add(b.book, measure, e.name, int64(e.work.Tasks))
	b.book.Add(measure+"-memory", e.name, "MB", float64(u.memory)/MB)
	if repeats(measure) {
		return nil
	}
	b.book.Add(measure+"-cpu-10000", e.name, "s", u.meter.all().Seconds()*per/n)
	b.book.Add(measure+"-kept-10000", e.name, "MB", u.kept/MB*per/n)
	b.book.Add(measure+"-grown-10000", e.name, "MB", u.grown/MB*per/n)
	return nil
}
