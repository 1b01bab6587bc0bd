package delivery

import (
	"cmp"
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// startedAfter is the default of [Options].StartedAfter.
const startedAfter = 20 * time.Millisecond

// announcement is what readers are told of an attempt that runs: that it has
// started, or how far it has come.
type announcement struct {
	processor *Processor
	task      *task

	// turn is held by who speaks: a channel of one place, since a handler that has
	// to stop must not wait for a STARTED that hangs.
	turn chan struct{}
	// told is set once something was said: STARTED comes before or not at all.
	told bool
}

func newAnnouncement(p *Processor, t *task) *announcement {
	return &announcement{processor: p, task: t, turn: make(chan struct{}, 1)}
}

// begin says STARTED in a while, unless stop is called before or the handler has
// said more. When the store is away nobody is told.
func (a *announcement) begin(ctx context.Context) (stop func()) {
	if a.task.IgnoreResult {
		return func() {}
	}
	return after(ctx, cmp.Or(a.processor.opts.StartedAfter, startedAfter), func(ctx context.Context) {
		err := a.say(ctx, a.processor.base(a.task, messages.Started))
		if err != nil && ctx.Err() == nil && !errors.Is(err, messages.ErrLost) {
			a.task.log().Info("start not announced", zap.Error(err))
		}
	})
}

// progress is the [ProgressFunc] of the attempt.
func (a *announcement) progress(ctx context.Context, info messages.ProgressInfo) error {
	if a.task.IgnoreResult {
		return nil
	}
	r := a.processor.base(a.task, messages.Progress)
	r.Progress = &info
	return a.say(ctx, r)
}

func (a *announcement) say(ctx context.Context, r *messages.Result) error {
	select {
	case a.turn <- struct{}{}:
		defer func() { <-a.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if r.State == messages.Started && a.told {
		return nil
	}
	a.told = true
	return a.processor.opts.Store.Progress(ctx, a.task.Attempt(), a.task.token, r)
}
