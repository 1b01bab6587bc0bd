package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

const (
	pickUpSlots = 32
	// pickUpRate is what the targets are about.
	pickUpRate = 300
	pickUpP50  = 3  // ms
	pickUpP99  = 15 // ms
	// pickUpTasks is the least number of tasks for quantiles to mean something.
	pickUpTasks = 100
)

// pickUp measures from the broker's confirm of a task to the first line of its
// handler, at rates that keep a fifth of the slots busy; beside it a consumer by
// hand, which claims nothing and stores nothing.
func (b *bench) pickUp(ctx context.Context) error {
	contenders := slices.Concat([]contender{b.loose(), b.our()}, b.peers)
	for _, rate := range b.Rates {
		measure := fmt.Sprintf("pickup-%v", rate)
		tasks := max(pickUpTasks, int(rate*b.Length.Seconds()))
		err := b.turns(measure, len(contenders), func(i int) error {
			if err := b.pickUpTurn(ctx, measure, contenders[i], stack.Work{Tasks: tasks, Rate: rate, Kind: runner.Noop}); err != nil {
				return fmt.Errorf("%s: %w", contenders[i].name, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		b.comparePeers(measure+"-p50", measure+"-p99")
		if rate == pickUpRate {
			b.book.Expect(measure+"-p50", ours, report.AtMost(pickUpP50))
			b.book.Expect(measure+"-p99", ours, report.AtMost(pickUpP99))
		}
	}
	return nil
}

func (b *bench) pickUpTurn(ctx context.Context, measure string, c contender, w stack.Work) error {
	if err := c.clear(ctx); err != nil {
		return err
	}
	p := c.pickUpPool()
	w.Slots = p.slots
	v, err := p.work(ctx, w)
	if err != nil {
		return err
	}
	times, err := c.pickedUp(ctx, v, w)
	if err != nil {
		return err
	}
	for _, q := range []string{"p50", "p99", "max"} {
		b.add(measure+"-"+q, c, "ms", times[q])
	}
	return nil
}
