package main

import (
	"context"
	"errors"
	"slices"

	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

// farMeasure begins the names of what is measured with a network that takes its
// time.
const farMeasure = "latency-"

// latency measures single submissions, batches, working off a queue and round
// trips once more, with a network in which all that is sent takes its time: from
// the clients to the services, and from services and workers to RabbitMQ, Redis
// and PostgreSQL.
func (b *bench) latency(ctx context.Context) (err error) {
	near := slices.Concat([]contender{b.our()}, b.floors(ctx, floorName), b.peers)
	started := b.stack.Started()
	if err := b.stack.GoFar(ctx, b.Latency); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stack.EndSince(started), b.stack.Near()) }()
	var all, peers []contender
	for _, c := range near {
		b.try(ctx, farMeasure+"start", c.name, func(ctx context.Context) error {
			service, err := c.serve(ctx)
			if err != nil {
				return err
			}
			if c.service, err = b.stack.FarFrom(ctx, service); err != nil {
				return err
			}
			all = append(all, c)
			if c.name != floorName {
				peers = append(peers, c)
			}
			return nil
		})
	}
	if err := b.farSubmit(ctx, all); err != nil {
		return err
	}
	if err := b.farBatch(ctx, all); err != nil {
		return err
	}
	noop := farMeasure + drainMeasure(runner.Noop)
	if err := b.drainTurns(ctx, noop, b.some(), b.entries(ctx, noop, runner.Noop, peers)); err != nil {
		return err
	}
	return b.roundTrips(ctx, farMeasure+"run", peers)
}

func (b *bench) farSubmit(ctx context.Context, contenders []contender) error {
	measure := farMeasure + submitMeasure(manyClients)
	err := b.turns(ctx, measure, b.some(), contenderNames(contenders), func(ctx context.Context, i int) error {
		return b.submitTurn(ctx, contenders[i], measure, manyClients)
	})
	if err != nil {
		return err
	}
	for _, suffix := range []string{"", "-p50", "-p99"} {
		b.book.Compare(report.Comparison{Measure: measure + suffix, Ours: ours, Contender: floorName})
		b.comparePeers(measure + suffix)
	}
	return nil
}

// farBatch measures batches of ours, and the same by a loop and by those that take
// many tasks at once.
func (b *bench) farBatch(ctx context.Context, contenders []contender) error {
	of := bulk{measure: farMeasure + "batch", queue: stack.Queue, rounds: b.some()}
	var senders []sender
	for _, c := range contenders {
		switch {
		case c.name == ours:
			senders = append(senders, sender{c, batchTo(c.service, 0)})
		case c.publish || c.name == floorName:
			senders = append(senders, sender{c, publishBy(c.service)})
		}
	}
	if err := b.sendTurns(ctx, of, senders); err != nil {
		return err
	}
	b.book.Compare(report.Comparison{Measure: of.measure, Ours: ours, Contender: floorName})
	b.comparePeers(of.measure)
	return nil
}
