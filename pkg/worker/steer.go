package worker

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// maxSlots bounds [Options].Concurrency, and what a worker can be told.
const maxSlots = 10_000

// obey does what the worker is told over Redis, one command after the other. A
// notice may be lost, so it also looks from time to time.
func (e *engine) obey(ctx context.Context) error {
	told, stop := e.watcher.WatchCommands(e.worker.Name())
	defer stop()
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-told:
		case <-tick.C:
		}
		e.obeyAll(ctx)
	}
}

func (e *engine) obeyAll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, heartbeatEvery)
	defer cancel()
	commands, err := e.store.TakeCommands(ctx, e.worker.Name())
	if err != nil && ctx.Err() == nil {
		e.log.Debug("commands not read", zap.Error(err))
	}
	for _, c := range commands {
		answer := e.do(ctx, c)
		e.log.Info("told by an operator", zap.String("verb", string(c.Verb)), zap.Int("slots", answer.Slots), zap.String("refused", answer.Refused))
		if err := e.store.AnswerCommand(ctx, c.ID, answer); err != nil {
			e.log.Warn("command not answered", zap.Error(err))
		}
	}
}

// do carries out one command.
func (e *engine) do(ctx context.Context, c messages.WorkerCommand) messages.WorkerAnswer {
	var a messages.WorkerAnswer
	switch c.Verb {
	case messages.VerbSlots:
		if c.Slots < 0 || c.Slots > maxSlots {
			a.Refused = fmt.Sprintf("slots must be from 0 to %d", maxSlots)
		} else {
			e.resize(ctx, c.Slots)
		}
	case messages.VerbStop:
		e.stopOnce.Do(func() { close(e.told) })
	case messages.VerbDump:
		a = dump(c.TaskID)
	default:
		a.Refused = fmt.Sprintf("this version of the worker does not know the command %q", c.Verb)
	}
	a.Slots, a.Busy = e.slots.capacity(), int(e.busy.Load())
	return a
}

// resize changes how many tasks run at a time. While more run than may, nothing is
// fetched, and what was fetched goes back: it would wait here although others could
// run it. It does once nothing more comes, else it came straight here again.
func (e *engine) resize(ctx context.Context, slots int) {
	e.slots.resize(slots)
	e.adjust()
	if !e.slots.overfull() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, pauseTimeout)
	defer cancel()
	e.consumer.Quiet(ctx)
	e.slots.turnAway()
}

// adjust fetches as many tasks as there are slots for.
func (e *engine) adjust() {
	e.adjusting.Lock()
	defer e.adjusting.Unlock()
	size := e.slots.capacity()
	if e.slots.overfull() {
		size = 0
	}
	limits := make(map[string]int, len(e.held))
	for queue := range e.held {
		limits[queue] = e.worker.prefetch(queue, size)
	}
	e.consumer.SetPrefetch(limits)
}
