package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/lovage-mq/lovage/bench/internal/stack"
)

const (
	channelRounds   = 3
	channelsMeasure = "channels"
)

// floors are those of these names that can take part, with the best number of
// channels: none beside another revision of ours.
func (b *bench) floors(ctx context.Context, names ...string) (list []contender) {
	for _, name := range names {
		if b.Base != "" {
			continue
		}
		c, found := b.best[name]
		if !found && !b.try(ctx, channelsMeasure, name, func(ctx context.Context) (err error) {
			c, err = b.bestFloor(ctx, name)
			return err
		}) {
			continue
		}
		b.best[name] = c
		list = append(list, c)
	}
	return list
}

// bestFloor tries all numbers of channels in turn and returns the fastest floor.
func (b *bench) bestFloor(ctx context.Context, name string) (contender, error) {
	var candidates []contender
	for _, n := range b.Channels {
		o := stack.FloorOptions{TwoHeaders: name == twoHeaders, Channels: n}
		v, err := b.startFloor(ctx, o)
		if err != nil {
			return contender{}, err
		}
		candidates = append(candidates, b.floor(fmt.Sprintf("%s-%d", name, n), o, v))
	}
	// Of one there is nothing to find out.
	for round := range channelRounds * min(len(candidates)-1, 1) {
		progress("%s: finding the best number of channels, round %d of %d", name, round+1, channelRounds)
		for i := range candidates {
			c := candidates[(round+i)%len(candidates)]
			out, used, err := b.turn(ctx, c, manyClients)
			if err != nil {
				return contender{}, err
			}
			b.book.Add(channelsMeasure, c.name, "1/s", out.PerSecond())
			used.addAll(b.book, channelsMeasure, c.name, out.Answers)
		}
	}
	best := slices.MaxFunc(candidates, b.better)
	progress("%s: the best is %s", name, best.name)
	for _, c := range candidates {
		if c.service == best.service {
			continue
		}
		if err := c.service.End(); err != nil {
			return contender{}, err
		}
	}
	best.name = name
	return best, nil
}

// better compares floors by their rates. When others had a share of the machine
// rates say more about them, and the one that costs less is the better one.
func (b *bench) better(x, y contender) int {
	disturbed := max(b.book.Median(channelsMeasure+othersSuffix, x.name), b.book.Median(channelsMeasure+othersSuffix, y.name)) > tolerable
	if disturbed {
		return cmp.Compare(b.book.Median(channelsMeasure+cpuSuffix, y.name), b.book.Median(channelsMeasure+cpuSuffix, x.name))
	}
	return cmp.Compare(b.book.Median(channelsMeasure, x.name), b.book.Median(channelsMeasure, y.name))
}

func (b *bench) startFloor(ctx context.Context, o stack.FloorOptions) (*stack.Service, error) {
	if err := b.stack.Clear(ctx, stack.Queue); err != nil {
		return nil, err
	}
	return b.stack.Floor(ctx, b.gateway, o)
}
