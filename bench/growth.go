package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/procfs"
	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

const (
	// growthRounds is how often it is measured at most: to fill a queue takes long.
	growthRounds = 2
	// growthDrain is how many of the tasks that wait are run at most.
	growthDrain = 10_000
)

// growth measures what many tasks that wait cost those that come and those that
// are run.
func (b *bench) growth(ctx context.Context) error {
	contenders := slices.Concat([]contender{b.our()}, b.peers)
	for round := range min(b.Rounds, growthRounds) {
		for _, waiting := range b.Waiting {
			progress("growth: round %d of %d, %d waiting", round+1, min(b.Rounds, growthRounds), waiting)
			for i := range contenders {
				c := contenders[(round+i)%len(contenders)]
				if err := b.growthTurn(ctx, c, waiting); err != nil {
					return fmt.Errorf("%s, %d waiting: %w", c.name, waiting, err)
				}
			}
		}
	}
	first, last := growthMeasure(b.Waiting[0]), growthMeasure(b.Waiting[len(b.Waiting)-1])
	for _, suffix := range []string{"-submit", "-drain"} {
		for _, c := range contenders {
			for _, times := range b.book.Ratios(last+suffix, c.name, first+suffix, c.name) {
				b.book.Add("growth"+suffix+"-last-per-first", c.name, "×", times)
			}
		}
	}
	return nil
}

func growthMeasure(waiting int) string { return fmt.Sprintf("growth-%d", waiting) }

func (b *bench) growthTurn(ctx context.Context, c contender, waiting int) error {
	measure := growthMeasure(waiting)
	if err := c.clear(ctx); err != nil {
		return err
	}
	before, err := c.kept(ctx)
	if err != nil {
		return err
	}
	if err := c.fill(ctx, runner.Noop, waiting); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	if err := b.stack.Quiet(ctx); err != nil {
		return err
	}
	after, err := c.kept(ctx)
	if err != nil {
		return err
	}
	b.book.Add(measure+"-kept-10000", c.name, "MB", (after-before)/MB*per/float64(waiting))
	if strings.HasPrefix(c.note, rabbitNote) {
		rabbitmq, err := procfs.RSS(b.stack.RabbitMQ.PID())
		if err != nil {
			return err
		}
		b.book.Add(measure+"-rabbitmq", c.name, "MB", float64(rabbitmq)/MB)
	}
	out, err := load.Closed{
		Address: c.service.Address, Request: load.Request(c.service.Address, c.path, stack.Input), Status: http.StatusAccepted,
		Clients: manyClients, Warm: b.WarmUp, Length: b.Length, Mark: func() {},
	}.Run(ctx)
	if err != nil {
		return c.service.Explain(err)
	}
	b.add(measure+"-submit", c, "1/s", out.PerSecond())
	return b.drainSome(ctx, c, measure+"-drain", min(waiting, growthDrain))
}

// drainSome works off some of the tasks that wait.
func (b *bench) drainSome(ctx context.Context, c contender, measure string, tasks int) error {
	w := stack.Work{Tasks: tasks, Kind: runner.Noop, Part: true}
	p := c.pools[0]
	w.Slots = p.slots
	v, err := p.work(ctx, w)
	if err != nil {
		return err
	}
	took, err := c.drained(ctx, v, w)
	if err != nil {
		return v.Explain(err)
	}
	b.add(measure, c, "1/s", float64(tasks)/took.Seconds())
	return v.End()
}
