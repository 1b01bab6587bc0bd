package main

import (
	"context"
	"fmt"

	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

const (
	pickUpSlots = 32
	pickUpP50   = 3  // ms
	pickUpP99   = 15 // ms
)

// pickUp measures from the broker's confirm of a task to the first line of its
// handler, at a rate that keeps a fifth of the slots busy; beside it a consumer by
// hand, which claims nothing and stores nothing.
func (b *bench) pickUp(ctx context.Context) error {
	names, slots := []string{byHand, ours}, []int{0, pickUpSlots}
	err := b.turns("pickup", len(names), func(i int) error {
		if err := b.stack.Clear(ctx, stack.Queue); err != nil {
			return err
		}
		times, err := b.stack.PickUp(ctx, int(b.Rate*b.Length.Seconds()), slots[i], b.Rate)
		if err != nil {
			return fmt.Errorf("%s: %w", names[i], err)
		}
		for _, q := range []string{"p50", "p99", "max"} {
			b.book.Add("pickup-"+q, names[i], "ms", times[q])
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.book.Expect("pickup-p50", ours, report.AtMost(pickUpP50))
	b.book.Expect("pickup-p99", ours, report.AtMost(pickUpP99))
	return nil
}
