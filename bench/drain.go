package main

import (
	"context"
	"fmt"
	"net/http"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

func slots() []int { return []int{10, 32, 100, manySlots} }

func slotted(n int) string { return fmt.Sprintf("lovage-%d", n) }

// drain measures how fast a queue that was filled before is worked off, results
// stored: a worker process with so many slots, and a loop.
func (b *bench) drain(ctx context.Context) error {
	filler, err := b.startFloor(ctx, stack.FloorOptions{Channels: 8, Window: 100})
	if err != nil {
		return err
	}
	fill := func(ctx context.Context, n int) (int, error) {
		return n, load.Post(ctx, fmt.Sprintf("http://%s/publish?messages=%d&fresh=true", filler.Address, n), "{}", http.StatusOK)
	}
	contenders, names := []int{0}, []string{floorName}
	for _, n := range slots() {
		contenders, names = append(contenders, n), append(names, slotted(n))
	}
	err = b.turns(ctx, "drain", b.Rounds, names, func(ctx context.Context, i int) error {
		return b.drainTurn(ctx, fill, names[i], contenders[i])
	})
	if err != nil {
		return err
	}
	for _, n := range slots() {
		c := report.Comparison{Measure: "drain", Ours: slotted(n), Contender: floorName}
		if n == manySlots {
			c.Target = report.AtLeast(drainTarget)
		}
		b.book.Compare(c)
	}
	b.book.Compare(report.Comparison{Measure: "drain-cpu", Ours: slotted(manySlots), Contender: floorName})
	return nil
}

func (b *bench) drainTurn(ctx context.Context, fill func(context.Context, int) (int, error), name string, slots int) error {
	if err := b.stack.Clear(ctx, stack.Queue); err != nil {
		return err
	}
	if _, err := fill(ctx, b.Items); err != nil {
		return err
	}
	v, err := b.stack.Drainer(ctx, stack.Work{Tasks: b.Items, Slots: slots, Kind: runner.Noop})
	if err != nil {
		return err
	}
	m := newMeter(b.stack, v)
	m.mark()
	took, err := stack.Drained(ctx, v)
	m.mark()
	if err != nil {
		return v.Explain(err)
	}
	b.book.Add("drain", name, "1/s", float64(b.Items)/took.Seconds())
	m.add(b.book, "drain", name, int64(b.Items))
	if m.err != nil {
		return m.err
	}
	return v.End()
}
