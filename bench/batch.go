package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

// sender sends n messages to the queue and returns when it knows of all whether
// they have arrived.
type sender struct {
	contender
	send func(ctx context.Context, n int) (accepted int, err error)
}

// windows are the ways of a loop to wait for its confirms: so many channels of
// one connection, and so many unconfirmed messages of each.
func windows() []stack.FloorOptions {
	return []stack.FloorOptions{
		{Channels: 1, Window: 1000},
		{Channels: 8, Window: 100},
		{Channels: 4, Window: 256},
	}
}

// batch measures many tasks in one request against a loop that publishes.
func (b *bench) batch(ctx context.Context) error {
	var peers []sender
	for _, c := range b.peers {
		if c.publish {
			peers = append(peers, sender{c, publishBy(c.service)})
		}
	}
	return b.many(ctx, bulk{measure: "batch", queue: stack.Queue, rounds: b.Rounds}, peers)
}

// delayed measures the same with tasks that are due later, against a loop that
// publishes to the same level of the delays.
func (b *bench) delayed(ctx context.Context) error {
	err := b.stack.DeclareDelays(ctx, b.gateway)
	if err != nil {
		return err
	}
	return b.many(ctx, bulk{measure: "delayed", queue: stack.DelayQueue(), delay: stack.Delay, rounds: b.some()}, nil)
}

// bulk is a measure of many messages at once.
type bulk struct {
	measure string
	// queue is where they lie at the end.
	queue  string
	delay  time.Duration
	rounds int
}

func (b *bench) many(ctx context.Context, of bulk, peers []sender) error {
	to := func(name string, v *stack.Service) contender {
		c := b.built(name, v, b.stack.This())
		c.clear = func(ctx context.Context) error { return b.stack.Clear(ctx, of.queue) }
		c.waiting = func(context.Context) (int, error) { return b.stack.Depth(of.queue) }
		return c
	}
	senders := []sender{{to(ours, b.gateway), batchTo(b.gateway, of.delay)}}
	for _, o := range windows() {
		o.Delay = of.delay
		name := fmt.Sprintf("raw-%dx%d", o.Channels, o.Window)
		b.try(ctx, of.measure, name, func(ctx context.Context) error {
			v, err := b.startFloor(ctx, o)
			if err == nil {
				senders = append(senders, sender{to(name, v), publishBy(v)})
			}
			return err
		})
	}
	loops := senders[1:]
	senders = slices.Concat(senders, peers)
	if err := b.sendTurns(ctx, of, senders); err != nil {
		return err
	}
	b.compareBatch(of, loops)
	b.comparePeers(of.measure, of.measure+cpuSuffix)
	return nil
}

func (b *bench) sendTurns(ctx context.Context, of bulk, senders []sender) error {
	var names []string
	for _, s := range senders {
		names = append(names, s.name)
	}
	return b.turns(ctx, of.measure, of.rounds, names, func(ctx context.Context, i int) error { return b.batchTurn(ctx, of, senders[i]) })
}

func batchTo(v *stack.Service, delay time.Duration) func(context.Context, int) (int, error) {
	options := `{"queue":"` + stack.Queue + `"}`
	if delay > 0 {
		options = fmt.Sprintf(`{"queue":"%s","countdown":%v}`, stack.Queue, delay.Seconds())
	}
	item := `{"task":"` + stack.Task + `","kwargs":` + stack.Input + `,"options":` + options + `}`
	return func(ctx context.Context, n int) (int, error) {
		return load.Batch(ctx, "http://"+v.Address+"/v1/batches", item, `"status":202`, n)
	}
}

func publishBy(v *stack.Service) func(context.Context, int) (int, error) {
	return func(ctx context.Context, n int) (int, error) {
		return n, load.Post(ctx, fmt.Sprintf("http://%s/publish?messages=%d", v.Address, n), "{}", http.StatusOK)
	}
}

// batchTurn sends a tenth of the items to warm up, and then all of them.
func (b *bench) batchTurn(ctx context.Context, of bulk, s sender) error {
	if err := s.clear(ctx); err != nil {
		return err
	}
	m := newMeter(b.stack, s.service)
	accepted, took, err := b.sendAll(ctx, s, m)
	if err == nil {
		err = errors.Join(m.err, arrived(ctx, s.contender, int64(accepted)))
	}
	if err != nil {
		return s.service.Explain(fmt.Errorf("%s: %w", s.name, err))
	}
	b.add(of.measure, s.contender, "1/s", float64(accepted)/took.Seconds())
	b.addFailed(of.measure, s.name, int64(b.Items-accepted))
	m.add(b.book, of.measure, s.name, int64(accepted))
	return nil
}

func (b *bench) sendAll(ctx context.Context, s sender, m *meter) (accepted int, took time.Duration, err error) {
	if _, err := s.send(ctx, b.Items/10); err != nil {
		return 0, 0, err
	}
	m.mark()
	begun := time.Now()
	accepted, err = s.send(ctx, b.Items)
	took = time.Since(begun)
	m.mark()
	return accepted, took, err
}

// compareBatch relates ours to every loop. The best one is the floor.
func (b *bench) compareBatch(of bulk, loops []sender) {
	if len(loops) == 0 {
		return
	}
	best := loops[0].name
	for _, s := range loops {
		if b.book.Median(of.measure, s.name) > b.book.Median(of.measure, best) {
			best = s.name
		}
	}
	b.book.Copy(of.measure, best, floorName)
	for _, s := range loops {
		b.book.Compare(report.Comparison{Measure: of.measure, Ours: ours, Contender: s.name})
		b.book.Compare(report.Comparison{Measure: of.measure + cpuSuffix, Ours: ours, Contender: s.name})
	}
}
