package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/procfs"
	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

const (
	// growthRounds is how often it is measured at most, and the others only once:
	// to fill a queue takes long.
	growthRounds = 2
	// growthDrain is how many of the tasks that wait are run at most, growthPeers by
	// the others, of whom some are slow.
	growthDrain, growthPeers = 60_000, 10_000
	// growthSubmit is how long is submitted to ours, so that as many come.
	growthSubmit = 10 * time.Second
)

// growth measures what many tasks that wait cost those that come and those that
// are run.
func (b *bench) growth(ctx context.Context) error {
	contenders := slices.Concat([]contender{b.our()}, b.peers)
	failed := map[string]bool{}
	for round := range min(b.Rounds, growthRounds) {
		if round > 0 && b.late() {
			break
		}
		for _, waiting := range b.Waiting {
			progress("growth: round %d of %d, %d waiting", round+1, min(b.Rounds, growthRounds), waiting)
			for _, c := range contenders {
				if failed[c.name] || round > 0 && !b.isOurs(c) {
					continue
				}
				failed[c.name] = !b.try(ctx, growthMeasure(waiting), c.name, func(ctx context.Context) error {
					return b.growthTurn(ctx, c, waiting)
				})
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
			}
		}
	}
	b.addGrown(contenders)
	return nil
}

func (b *bench) isOurs(c contender) bool { return c.name == ours || c.name == baseName }

func growthMeasure(waiting int) string { return fmt.Sprintf("growth-%d", waiting) }

// grown is the measure of what is with so many tasks that wait for each of what is
// with 60,000.
func grown(of string, waiting int) string {
	return fmt.Sprintf("growth-%s-%d-per-%d", of, waiting, muchWaits)
}

func (b *bench) addGrown(contenders []contender) {
	for _, of := range []string{"submit", "drain", "gateway", "worker"} {
		for _, waiting := range b.Waiting {
			for _, c := range contenders {
				for _, times := range b.book.Ratios(growthMeasure(waiting)+"-"+of, c.name, growthMeasure(muchWaits)+"-"+of, c.name) {
					if waiting > muchWaits {
						b.book.Add(grown(of, waiting), c.name, "×", times)
					}
				}
			}
		}
	}
}

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
	if err := b.submitSome(ctx, c, measure, waiting); err != nil {
		return err
	}
	most := growthPeers
	if b.isOurs(c) {
		most = growthDrain
	}
	return b.drainSome(ctx, c, measure, min(waiting, most))
}

// submitSome submits beside the tasks that wait.
func (b *bench) submitSome(ctx context.Context, c contender, measure string, waiting int) error {
	length := b.Length
	if b.isOurs(c) && waiting >= muchWaits {
		length = max(length, growthSubmit)
	}
	out, err := load.Closed{
		Address: c.service.Address, Request: load.Request(c.service.Address, c.path, stack.Input), Status: http.StatusAccepted,
		Clients: manyClients, Warm: b.WarmUp, Length: length, Mark: func() {},
	}.Run(ctx)
	if err != nil {
		return c.service.Explain(err)
	}
	b.add(measure+"-submit", c, "1/s", out.PerSecond())
	return b.addMemory(measure+"-gateway", c, c.service)
}

// drainSome works off some of the tasks that wait.
func (b *bench) drainSome(ctx context.Context, c contender, measure string, tasks int) error {
	w := stack.Work{Tasks: tasks, Kind: runner.Noop, Part: true}
	v, err := c.pools[0].start(ctx, w)
	if err != nil {
		return err
	}
	took, err := c.drained(ctx, v, w)
	if err != nil {
		return v.Explain(err)
	}
	b.add(measure+"-drain", c, "1/s", float64(tasks)/took.Seconds())
	if err := b.addMemory(measure+"-worker", c, v); err != nil {
		return err
	}
	return v.End()
}

func (b *bench) addMemory(measure string, c contender, v *stack.Service) error {
	memory, err := procfs.TreeMemory(v.PID())
	if err == nil {
		b.book.Add(measure, c.name, "MB", float64(memory)/MB)
	}
	return err
}
