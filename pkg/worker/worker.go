package worker

import (
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Worker runs tasks. Make one with [New], give it handlers with [Handle], then
// call [Worker.Run]. Registering handlers is not safe for concurrent use.
type Worker struct {
	opts     Options
	log      *zap.Logger
	handlers map[string]*handler
	sealed   atomic.Bool
	// engine is what Run works with, nil before it.
	engine atomic.Pointer[engine]
	// abandoned counts handlers that ignored the end of their context and
	// whose slot was given back while they still run.
	abandoned atomic.Int64
}

// New returns a worker without handlers. It starts nothing and never fails:
// wrong options are reported by [Options.Validate], which [Worker.Run] calls.
func New(o Options) *Worker {
	o = o.withDefaults()
	return &Worker{opts: o, log: o.Log, handlers: make(map[string]*handler)}
}

// Name returns the name under which the worker is known to others.
func (w *Worker) Name() string { return w.opts.Name }

// Queues returns the queues that the worker takes from, each once: those of all
// handlers, sorted, or those of [Options].StrictOrder, in that order.
func (w *Worker) Queues() []string {
	if len(w.opts.StrictOrder) > 0 {
		return slices.Clone(w.opts.StrictOrder)
	}
	queues := make(map[string]struct{})
	for _, h := range w.handlers {
		queues[h.queue] = struct{}{}
	}
	return slices.Sorted(maps.Keys(queues))
}

// rank is the place of a queue in the strict order, 0 where there is none.
func (w *Worker) rank(queue string) int { return max(slices.Index(w.opts.StrictOrder, queue), 0) }

// checkOrder wants the strict order, where there is one, to name the queue of
// every task.
func (w *Worker) checkOrder() error {
	for _, name := range w.Tasks() {
		if queue := w.handlers[name].queue; !slices.Contains(w.Queues(), queue) {
			return fmt.Errorf("worker options: StrictOrder: lacks %s, which is the queue of %s", queue, name)
		}
	}
	return nil
}

// Tasks returns the names of all handlers, sorted.
func (w *Worker) Tasks() []string { return slices.Sorted(maps.Keys(w.handlers)) }

// Catalog returns what the worker announces about its tasks, sorted by name:
// the JSON of it is what a gateway can be given as a file.
func (w *Worker) Catalog() []messages.CatalogEntry { return w.entries() }

// Abandoned returns how many handlers still run although their slot was given
// back, because they ignored the end of their context.
func (w *Worker) Abandoned() int64 { return w.abandoned.Load() }

func (w *Worker) entries() []messages.CatalogEntry {
	now := time.Now().UTC()
	entries := make([]messages.CatalogEntry, 0, len(w.handlers))
	for _, name := range w.Tasks() {
		entry := w.handlers[name].entry()
		entry.AnnouncedAt = now
		entries = append(entries, entry)
	}
	return entries
}

// seal makes a later registration a panic: the catalog has been announced and
// the handlers are read without a lock from now on.
func (w *Worker) seal() { w.sealed.Store(true) }

func (w *Worker) add(h *handler) error {
	if w.sealed.Load() {
		return fmt.Errorf("the worker runs already: register every task before Run")
	}
	if _, taken := w.handlers[h.name]; taken {
		return fmt.Errorf("a task of this name is registered already")
	}
	w.handlers[h.name] = h
	return nil
}
