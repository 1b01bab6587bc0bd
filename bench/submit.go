package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

// The contenders of single submissions.
const (
	ours       = "lovage"
	sameBytes  = "floor-same-bytes"
	twoHeaders = "floor-two-headers"
)

// contender is a program that takes single submissions.
type contender struct {
	name    string
	service *stack.Service
	path    string
}

// submit measures single submissions in a closed loop.
func (b *bench) submit(ctx context.Context) error {
	contenders := []contender{{ours, b.gateway, stack.TaskPath}}
	for _, name := range []string{sameBytes, twoHeaders} {
		floor, err := b.bestFloor(ctx, name)
		if err != nil {
			return err
		}
		contenders = append(contenders, floor)
	}
	for round := range b.Rounds {
		progress("submit: round %d of %d", round+1, b.Rounds)
		for _, clients := range b.Clients {
			for i := range contenders {
				c := contenders[(round+i)%len(contenders)] // nobody is always the first
				if err := b.submitTurn(ctx, c, clients); err != nil {
					return err
				}
			}
		}
	}
	for _, clients := range b.Clients {
		b.compareSubmit(fmt.Sprintf("submit-%d", clients), clients == manyClients)
	}
	b.addScaling(contenders)
	return nil
}

// submitTurn measures one contender once, and takes down all there is to it.
func (b *bench) submitTurn(ctx context.Context, c contender, clients int) error {
	out, used, err := b.turn(ctx, c, clients)
	if err != nil {
		return err
	}
	measure := fmt.Sprintf("submit-%d", clients)
	b.book.Add(measure, c.name, "1/s", out.PerSecond())
	b.book.Add(measure+"-p50", c.name, "ms", float64(out.Latency.ValueAtQuantile(50))/1e6)
	b.book.Add(measure+"-p99", c.name, "ms", float64(out.Latency.ValueAtQuantile(99))/1e6)
	b.addFailed(measure, c.name, out.Failed)
	used.add(b.book, measure, c.name, out.Answers)
	return nil
}

// turn lets one contender have the machine for a while.
func (b *bench) turn(ctx context.Context, c contender, clients int) (load.Outcome, *meter, error) {
	if err := b.stack.Clear(ctx, stack.Queue); err != nil {
		return load.Outcome{}, nil, err
	}
	m := newMeter(b.stack, c.service)
	out, err := load.Closed{
		Address: c.service.Address, Request: load.Request(c.service.Address, c.path, stack.Input), Status: http.StatusAccepted,
		Clients: clients, Warm: b.WarmUp, Length: b.Length, Mark: m.mark,
	}.Run(ctx)
	if err == nil {
		err = errors.Join(m.err, b.arrived(stack.Queue, out.Answers))
	}
	if err != nil {
		return load.Outcome{}, nil, c.service.Explain(fmt.Errorf("%s: %w", c.name, err))
	}
	return out, m, nil
}

// addFailed takes down failures. There should be none, and then there is no row.
func (b *bench) addFailed(measure, contender string, n int64) {
	if n > 0 {
		b.book.Add(measure+"-failed", contender, "a turn", float64(n))
	}
}

// arrived makes sure that what was answered is in the queue.
func (b *bench) arrived(queue string, answers int64) error {
	depth, err := b.stack.Depth(queue)
	if err == nil && int64(depth) < answers {
		err = fmt.Errorf("%d were answered, and %d are in the queue", answers, depth)
	}
	return err
}

// compareSubmit relates ours to both floors.
func (b *bench) compareSubmit(measure string, targets bool) {
	for _, floor := range []struct {
		name string
		rate float64
	}{{sameBytes, 0.9}, {twoHeaders, 0.7}} {
		rate := report.Comparison{Measure: measure, Ours: ours, Contender: floor.name}
		slow := report.Comparison{Measure: measure + "-p99", Ours: ours, Contender: floor.name}
		if targets {
			rate.Target = report.AtLeast(floor.rate)
		}
		if targets && floor.name == sameBytes {
			slow.Target = report.AtMost(1.2)
		}
		b.book.Compare(rate)
		b.book.Compare(slow)
		for _, suffix := range []string{"-p50", "-cpu", "-cpu-service", "-cpu-rabbitmq", "-cpu-load"} {
			b.book.Compare(report.Comparison{Measure: measure + suffix, Ours: ours, Contender: floor.name})
		}
	}
}

// addScaling takes down what many clients get done for each one that a single
// client does.
func (b *bench) addScaling(contenders []contender) {
	for _, c := range contenders {
		for _, times := range b.book.Ratios("submit-64", c.name, "submit-1", c.name) {
			b.book.Add("submit-64-per-1", c.name, "×", times)
		}
	}
}
