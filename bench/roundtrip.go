package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

// endless is a number of tasks that a worker never gets, and so it does not end.
const endless = math.MaxInt32

// roundTrip measures from the request that submits a task to the answer that
// says that its result is there, in a closed loop.
func (b *bench) roundTrip(ctx context.Context) error {
	return b.roundTrips(ctx, "run", slices.Concat([]contender{b.our()}, b.peers))
}

func (b *bench) roundTrips(ctx context.Context, name string, contenders []contender) error {
	for _, clients := range b.Waiters {
		measure := fmt.Sprintf("%s-%d", name, clients)
		err := b.turns(ctx, measure, b.some(), contenderNames(contenders), func(ctx context.Context, i int) error {
			return b.roundTripTurn(ctx, measure, contenders[i], clients)
		})
		if err != nil {
			return err
		}
		b.comparePeers(measure, measure+"-p50", measure+"-p99", measure+cpuSuffix)
	}
	return nil
}

func (b *bench) roundTripTurn(ctx context.Context, measure string, c contender, clients int) error {
	if err := c.clear(ctx); err != nil {
		return err
	}
	w := stack.Work{Tasks: endless, Kind: runner.Noop}
	v, err := c.pickUpPools()[0].start(ctx, w)
	if err != nil {
		return err
	}
	m := newMeter(b.stack, c.service, v)
	out, err := load.Closed{
		Address: c.service.Address, Request: load.Request(c.service.Address, c.runPath, stack.Input, c.runHeaders...), Status: http.StatusOK,
		Clients: clients, Warm: b.WarmUp, Length: b.Length, Mark: m.mark,
	}.Run(ctx)
	if err := errors.Join(err, m.err); err != nil {
		return v.Explain(c.service.Explain(err))
	}
	b.addLoad(measure, c, out, m)
	return v.End()
}
