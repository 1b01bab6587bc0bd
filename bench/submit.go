package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

// submit measures single submissions in a closed loop.
func (b *bench) submit(ctx context.Context) error {
	contenders := slices.Concat([]contender{b.our()}, b.floors(ctx, floorName, twoHeaders), b.peers)
	for _, clients := range b.Clients {
		measure := submitMeasure(clients)
		rounds := b.some()
		if clients == manyClients {
			rounds = b.Rounds
		}
		err := b.turns(ctx, measure, rounds, contenderNames(contenders), func(ctx context.Context, i int) error {
			return b.submitTurn(ctx, contenders[i], measure, clients)
		})
		if err != nil {
			return err
		}
		b.compareSubmit(measure)
	}
	b.addScaling(contenders)
	return nil
}

func submitMeasure(clients int) string { return fmt.Sprintf("submit-%d", clients) }

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
func (b *bench) compareSubmit(measure string) {
	for _, floor := range []string{floorName, twoHeaders} {
		for _, suffix := range []string{"", "-p50", "-p99", "-cpu", "-cpu-service", "-cpu-rabbitmq", "-cpu-load"} {
			b.book.Compare(report.Comparison{Measure: measure + suffix, Ours: ours, Contender: floor})
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
		for _, times := range b.book.Ratios(submitMeasure(manyClients), c.name, submitMeasure(1), c.name) {
			b.book.Add("submit-64-per-1", c.name, "×", times)
		}
	}
}
