package main

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

const (
	pickUpSlots = 32
	// pickUpTasks is the least number of tasks for quantiles to mean something.
	pickUpTasks = 100
	// pickUpTrial is the greatest number with which pools are tried: more than a
	// worker prefetches, since some do well until then.
	pickUpTrial = 400
)

// pickUp measures from the broker's confirm of a task to the first line of its
// handler, at rates that keep a fifth of the slots busy; beside it a consumer by
// hand, which claims nothing and stores nothing.
func (b *bench) pickUp(ctx context.Context) error {
	contenders := slices.Concat([]contender{b.loose(), b.our()}, b.peers)
	for _, rate := range b.Rates {
		measure := fmt.Sprintf("pickup-%v", rate)
		tasks, rounds := max(pickUpTasks, int(rate*b.Length.Seconds())), b.some()
		if rate == pickUpRate {
			tasks, rounds = 2*tasks, b.Rounds
		}
		w := stack.Work{Tasks: tasks, Rate: rate, Kind: runner.Noop}
		var able []contender
		var pools []pool
		for _, c := range contenders {
			b.try(ctx, measure, c.name, func(ctx context.Context) error {
				p, err := b.bestPickUp(ctx, measure, c, w)
				if err == nil {
					able, pools = append(able, c), append(pools, p)
				}
				return err
			})
		}
		err := b.turns(ctx, measure, rounds, contenderNames(able), func(ctx context.Context, i int) error {
			return b.pickUpTurn(ctx, measure, able[i], pools[i], w)
		})
		if err != nil {
			return err
		}
		b.comparePeers(measure+"-p50", measure+"-p99")
	}
	return nil
}

// bestPickUp tries the pools of a contender, if there are several, and returns the
// one that takes 99 % of the tasks soonest. Without trials it is the first.
func (b *bench) bestPickUp(ctx context.Context, measure string, c contender, w stack.Work) (pool, error) {
	pools := c.pickUpPools()
	best, soonest := pools[0], math.Inf(1)
	if len(pools) == 1 || b.Trial == 0 {
		return best, nil
	}
	w.Tasks = min(w.Tasks, pickUpTrial)
	for _, p := range pools {
		times, err := pickUpOnce(ctx, c, p, w)
		if err != nil {
			return best, fmt.Errorf("%s: %w", p.name, err)
		}
		b.book.Add("pool-"+measure+"-p99", c.name+", "+p.name, "ms", times["p99"])
		if times["p99"] < soonest {
			best, soonest = p, times["p99"]
		}
	}
	progress("%s: %s has %s", measure, c.name, best.name)
	return best, nil
}

func (b *bench) pickUpTurn(ctx context.Context, measure string, c contender, p pool, w stack.Work) error {
	times, err := pickUpOnce(ctx, c, p, w)
	if err != nil {
		return err
	}
	for _, q := range []string{"p50", "p99"} {
		b.add(measure+"-"+q, c, "ms", times[q])
	}
	b.book.Add(measure+"-max", c.name, "ms", times["max"])
	return nil
}

func pickUpOnce(ctx context.Context, c contender, p pool, w stack.Work) (map[string]float64, error) {
	if err := c.clear(ctx); err != nil {
		return nil, err
	}
	w.Slots = p.slots
	v, err := p.work(ctx, w)
	if err != nil {
		return nil, err
	}
	return c.pickedUp(ctx, v, w)
}
