package main

import (
	"context"
	"fmt"
	"time"
)

// someRounds are enough where there is no target.
const someRounds = 3

// some is how many rounds a measure without a target has.
func (b *bench) some() int { return min(b.Rounds, someRounds) }

// late reports whether the run has taken so long that what is left must be short.
func (b *bench) late() bool { return time.Since(b.begun) > b.Within }

// turns gives each contender its turn in every round, each round beginning with
// another one. One whose turn fails is out of the measure, which goes on without
// it. The error is that of a ctx that has ended.
func (b *bench) turns(ctx context.Context, measure string, rounds int, contenders []string, turn func(ctx context.Context, i int) error) error {
	out := make([]bool, len(contenders))
	for round := range rounds {
		if round > 0 && b.late() {
			progress("%s: %d rounds, since time is short", measure, round)
			break
		}
		progress("%s: round %d of %d", measure, round+1, rounds)
		for i := range contenders {
			i := (round + i) % len(contenders)
			if out[i] {
				continue
			}
			out[i] = !b.try(ctx, measure, contenders[i], func(ctx context.Context) error { return turn(ctx, i) })
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
		}
	}
	return nil
}

// try reports whether a contender has done what it should, in the time of a turn.
// Otherwise that is taken down, and what it has started meanwhile is ended.
func (b *bench) try(ctx context.Context, measure, contender string, do func(ctx context.Context) error) bool {
	started := b.stack.Started()
	limited, cancel := context.WithTimeoutCause(ctx, b.Limit, fmt.Errorf("it took more than %v", b.Limit))
	defer cancel()
	err := do(limited)
	if err == nil {
		return true
	}
	if ctx.Err() == nil {
		progress("%s: %s has failed: %v", measure, contender, err)
		b.book.Fail(measure, contender, err)
	}
	if err := b.stack.EndSince(started); err != nil {
		progress("%s: %v", measure, err)
	}
	return false
}

// revive starts services again that have ended, so that one measure does not
// suffer for another.
func (b *bench) revive(ctx context.Context) (err error) {
	if !b.gateway.Alive() {
		if b.gateway, err = b.stack.Gateway(ctx); err != nil {
			return err
		}
	}
	for i, c := range b.peers {
		if c.service.Alive() {
			continue
		}
		progress("starting %s again", c.name)
		v, err := c.serve(ctx)
		if err != nil {
			progress("%s: %v", c.name, err) // its turns will fail
			continue
		}
		b.peers[i].service = v
	}
	for name, c := range b.best {
		if !c.service.Alive() {
			delete(b.best, name)
		}
	}
	return nil
}

// contenderNames are those of contenders.
func contenderNames(all []contender) (list []string) {
	for _, c := range all {
		list = append(list, c.name)
	}
	return list
}
