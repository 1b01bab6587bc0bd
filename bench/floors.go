package main

import (
	"context"
	"fmt"

	"github.com/lovage-mq/lovage/bench/internal/stack"
)

const (
	// manyClients is what the floors are made for, and what the targets are about.
	manyClients   = 64
	channelRounds = 3
)

// channels are the numbers of channels that a floor may use. Which one serves
// best depends on the machine.
func channels() []int { return []int{1, 2, 4, 8} }

// bestFloor tries all numbers of channels in turn and returns the fastest floor.
func (b *bench) bestFloor(ctx context.Context, name string) (contender, error) {
	var candidates []contender
	for _, n := range channels() {
		v, err := b.startFloor(ctx, stack.FloorOptions{TwoHeaders: name == twoHeaders, Channels: n})
		if err != nil {
			return contender{}, err
		}
		candidates = append(candidates, contender{fmt.Sprintf("%s-%d", name, n), v, "/submit"})
	}
	const measure = "channels"
	for round := range channelRounds {
		progress("%s: finding the best number of channels, round %d of %d", name, round+1, channelRounds)
		for i := range candidates {
			c := candidates[(round+i)%len(candidates)]
			out, _, err := b.turn(ctx, c, manyClients)
			if err != nil {
				return contender{}, err
			}
			b.book.Add(measure, c.name, "1/s", out.PerSecond())
		}
	}
	best := candidates[0]
	for _, c := range candidates[1:] {
		if b.book.Median(measure, c.name) > b.book.Median(measure, best.name) {
			best = c
		}
	}
	progress("%s: the best is %s", name, best.name)
	for _, c := range candidates {
		if c == best {
			continue
		}
		if err := c.service.End(); err != nil {
			return contender{}, err
		}
	}
	best.name = name
	return best, nil
}

func (b *bench) startFloor(ctx context.Context, o stack.FloorOptions) (*stack.Service, error) {
	if err := b.stack.Clear(ctx); err != nil {
		return nil, err
	}
	return b.stack.Floor(ctx, b.gateway, o)
}
