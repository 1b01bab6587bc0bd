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

// submit measures single submissions in a closed loop.
func (b *bench) submit(ctx context.Context) error {
	contenders := []contender{b.our()}
	for _, name := range b.floors() {
		floor, err := b.bestFloor(ctx, name)
		if err != nil {
			return err
		}
		contenders = append(contenders, floor)
	}
	contenders = append(contenders, b.peers...)
	for _, clients := range b.Clients {
		measure := fmt.Sprintf("submit-%d", clients)
		err := b.turns(measure, len(contenders), func(i int) error { return b.submitTurn(ctx, contenders[i], measure, clients) })
		if err != nil {
			return err
		}
		b.compareSubmit(measure, clients == manyClients)
	}
	b.addScaling(contenders)
	return nil
}

// floors are those that take part: none beside another revision of ours.
func (b *bench) floors() []string {
	if b.Base != "" {
		return nil
	}
	return []string{floorName, twoHeaders}
}

// submitTurn measures one contender once, and takes down all there is to it.
func (b *bench) submitTurn(ctx context.Context, c contender, measure string, clients int) error {
	out, used, err := b.turn(ctx, c, clients)
	if err != nil {
		return err
	}
	b.addLoad(measure, c, out, used)
	return nil
}

// addLoad takes down what a closed loop has come to.
func (b *bench) addLoad(measure string, c contender, out load.Outcome, used *meter) {
	b.add(measure, c, "1/s", out.PerSecond())
	b.add(measure+"-p50", c, "ms", float64(out.Latency.ValueAtQuantile(50))/1e6)
	b.add(measure+"-p99", c, "ms", float64(out.Latency.ValueAtQuantile(99))/1e6)
	b.addFailed(measure, c.name, out.Failed)
	used.add(b.book, measure, c.name, out.Answers)
}

// add takes down a value of which it matters how tasks are kept.
func (b *bench) add(measure string, c contender, unit string, value float64) {
	b.book.Add(measure, c.name, unit, value)
	b.book.Note(measure, c.name, c.note)
}

// turn lets one contender have the machine for a while.
func (b *bench) turn(ctx context.Context, c contender, clients int) (load.Outcome, *meter, error) {
	if err := c.clear(ctx); err != nil {
		return load.Outcome{}, nil, err
	}
	m := newMeter(b.stack, c.service)
	out, err := load.Closed{
		Address: c.service.Address, Request: load.Request(c.service.Address, c.path, stack.Input), Status: http.StatusAccepted,
		Clients: clients, Warm: b.WarmUp, Length: b.Length, Mark: m.mark,
	}.Run(ctx)
	if err == nil {
		err = errors.Join(m.err, arrived(ctx, c, out.Answers))
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

// arrived makes sure that what was answered waits.
func arrived(ctx context.Context, c contender, answers int64) error {
	n, err := c.waiting(ctx)
	if err == nil && int64(n) < answers {
		err = fmt.Errorf("%d were answered, and %d are in the queue", answers, n)
	}
	return err
}

// compareSubmit relates ours to all others.
func (b *bench) compareSubmit(measure string, targets bool) {
	for _, floor := range []struct {
		name string
		rate float64
	}{{floorName, 0.9}, {twoHeaders, 0.7}} {
		rate := report.Comparison{Measure: measure, Ours: ours, Contender: floor.name}
		slow := report.Comparison{Measure: measure + "-p99", Ours: ours, Contender: floor.name}
		if targets {
			rate.Target = report.AtLeast(floor.rate)
		}
		if targets && floor.name == floorName {
			slow.Target = report.AtMost(1.2)
		}
		b.book.Compare(rate)
		b.book.Compare(slow)
		for _, suffix := range []string{"-p50", "-cpu", "-cpu-service", "-cpu-rabbitmq", "-cpu-load"} {
			b.book.Compare(report.Comparison{Measure: measure + suffix, Ours: ours, Contender: floor.name})
		}
	}
	b.comparePeers(measure, measure+"-p50", measure+"-p99", measure+cpuSuffix)
}

// comparePeers relates ours to all peers.
func (b *bench) comparePeers(measures ...string) {
	for _, measure := range measures {
		for _, peer := range b.peers {
			b.book.Compare(report.Comparison{Measure: measure, Ours: ours, Contender: peer.name})
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
