package tasks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/worker"
)

type sleepIn struct {
	Duration float64 `json:"duration" jsonschema:"minimum=1,maximum=300,description=How long to sleep\\, in seconds."`
}

type sleepOut struct {
	Slept float64 `json:"slept" jsonschema:"description=How long it slept\\, in seconds."`
}

// sleeper is sleep_task.
type sleeper struct{ limit time.Duration }

func newSleeper(c Config) *sleeper { return &sleeper{limit: c.SleepMax} }

func (s *sleeper) run(ctx context.Context, in sleepIn) (sleepOut, error) {
	total := seconds(in.Duration)
	if total > s.limit {
		return sleepOut{}, worker.Permanent(fmt.Errorf(
			"duration: %v is more than the %v that this worker allows (LOVAGE_SLEEP_MAX)", total, s.limit))
	}
	start := time.Now()
	end := time.NewTimer(total)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return sleepOut{}, fmt.Errorf("sleep: %w", ctx.Err())
		case <-end.C:
			_ = report(ctx, total, total) // the outcome follows at once
			return sleepOut{Slept: time.Since(start).Round(time.Millisecond).Seconds()}, nil
		case <-tick.C:
			slept := time.Since(start)
			if slept >= total {
				continue // the end reports itself
			}
			if err := report(ctx, slept, total); err != nil {
				return sleepOut{}, err
			}
		}
	}
}

// report tells how far the sleep is. That Redis is away is no reason to wake
// up, that somebody else sleeps by now is one.
func report(ctx context.Context, slept, total time.Duration) error {
	err := worker.Progress(ctx, slept.Truncate(100*time.Millisecond).Seconds(), total.Seconds(), nil)
	if errors.Is(err, messages.ErrLost) {
		return err
	}
	return nil
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }
