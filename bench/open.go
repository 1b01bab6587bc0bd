package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

const (
	// openClients is how many requests of an open loop are under way at most.
	openClients = 128
	// openTimes is how much longer its turns are than those of a closed loop: it
	// takes many requests to tell what the slowest of a thousand takes.
	openTimes = 2
	// openPatience is how long each request may take.
	openPatience = 30 * time.Second
)

// open measures single submissions that come at a rate, whether or not those
// before were answered. The rates are parts of what each contender manages when 64
// clients send as fast as they can.
func (b *bench) open(ctx context.Context) error {
	contenders := slices.Concat([]contender{b.our()}, b.floors(ctx, floorName), b.peers)
	contenders = slices.DeleteFunc(contenders, func(c contender) bool {
		return !b.try(ctx, "open", c.name, func(ctx context.Context) error { return b.known(ctx, c) })
	})
	for _, percent := range b.Loads {
		measure := fmt.Sprintf("open-%d", percent)
		err := b.turns(ctx, measure, b.some(), contenderNames(contenders), func(ctx context.Context, i int) error {
			c := contenders[i]
			rate := b.book.Median(submitMeasure(manyClients), c.name) * float64(percent) / 100
			return b.openTurn(ctx, measure, c, rate)
		})
		if err != nil {
			return err
		}
		for _, suffix := range []string{"-p50", "-p99", "-p999"} {
			b.book.Compare(report.Comparison{Measure: measure + suffix, Ours: ours, Contender: floorName})
			b.comparePeers(measure + suffix)
		}
	}
	return nil
}

// known makes sure that it is known how much a contender manages.
func (b *bench) known(ctx context.Context, c contender) error {
	if len(b.book.Values(submitMeasure(manyClients), c.name)) > 0 {
		return nil
	}
	return b.submitTurn(ctx, c, submitMeasure(manyClients), manyClients)
}

// latencies collects answers.
type latencies struct {
	mu      sync.Mutex
	warm    time.Time // what was due before does not count
	times   *hdrhistogram.Histogram
	failed  int64
	answers int64
	err     error
}

func (l *latencies) add(a load.Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case a.Due.Before(l.warm):
	case a.Status != http.StatusAccepted:
		l.failed++
	default:
		l.answers++
		l.err = errors.Join(l.err, l.times.RecordValue(int64(a.Took)))
	}
}

func (b *bench) openTurn(ctx context.Context, measure string, c contender, rate float64) error {
	if err := c.clear(ctx); err != nil {
		return err
	}
	length := openTimes * b.Length
	got := latencies{warm: time.Now().Add(b.WarmUp), times: hdrhistogram.New(1, int64(time.Hour), 3)}
	err := load.Open{
		Address: c.service.Address, Request: load.Request(c.service.Address, c.path, stack.Input),
		Rate: rate, Length: b.WarmUp + length, Clients: openClients, Patience: openPatience, Answered: got.add,
	}.Run(ctx)
	if err == nil {
		err = errors.Join(got.err, arrived(ctx, c, got.answers))
	}
	if err == nil && got.answers == 0 {
		err = fmt.Errorf("none of %d submissions were accepted", got.failed)
	}
	if err != nil {
		return c.service.Explain(err)
	}
	b.book.Add(measure, c.name, "1/s", float64(got.answers)/length.Seconds())
	for _, q := range []struct {
		suffix string
		of     float64
	}{{"-p50", 50}, {"-p99", 99}, {"-p999", 99.9}} {
		b.add(measure+q.suffix, c, "ms", float64(got.times.ValueAtQuantile(q.of))/1e6)
	}
	b.addFailed(measure, c.name, got.failed)
	return nil
}
