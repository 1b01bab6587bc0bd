package api

import (
	"context"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// drainedAfter is for how long a queue must have been empty to be drained: as
// long as a worker's sign of life holds, so that each has said since then what
// it has taken.
const drainedAfter = 15 * time.Second

// measureTimeout bounds what RabbitMQ is asked about queues beside the store.
const measureTimeout = time.Second

// QueueStats tells what the broker says of queues. It does not wait past the end of
// ctx: what is not known by then is missing.
type QueueStats interface {
	Stats(ctx context.Context, queues []string) (stats map[string]messages.QueueStats, delayed *int)
}

// queue is a work queue.
type queue struct {
	Name    string              `json:"name"`
	State   messages.QueueState `json:"state" enum:"running,paused,draining" doc:"What is done with it. Workers take nothing from a queue that is paused; one that is draining takes no new tasks."`
	Paused  bool                `json:"paused" doc:"Whether its state is paused."`
	Drained bool                `json:"drained" doc:"Whether it is draining, has been empty for 15 s, and no live worker has a task of it. Tasks that are delayed or wait for their next attempt do not count: they come yet."`
	Ready   *int                `json:"ready" doc:"Tasks that wait in it, as of a few seconds ago; null when RabbitMQ does not say."`
	Measures
	Held    *int     `json:"held" doc:"Tasks of it that live workers run or have fetched, as of a few seconds ago; null while Redis does not answer."`
	Foreign bool     `json:"foreign" doc:"Whether Celery serves it, which cannot be steered from here."`
	Tasks   []string `json:"tasks" nullable:"false" doc:"Kinds of tasks that its workers know."`
	Alive   int      `json:"alive" doc:"Live workers."`
}

// Measures are what RabbitMQ says of a queue. All of it is null when it says nothing.
type Measures struct {
	Unacked   *int       `json:"unacked" doc:"Tasks of it that consumers hold, run or fetched; null without the management API."`
	Depth     *int       `json:"depth" doc:"ready and unacked together; null without the management API."`
	Dead      *int       `json:"dead" doc:"Its dead letters."`
	Consumers *int       `json:"consumers" doc:"How many take from it, as RabbitMQ counts them: also those that have stopped, while they hold tasks of it."`
	RateIn    *float64   `json:"rate_in" doc:"Tasks a second that came into it of late, retries included; null without the management API."`
	RateOut   *float64   `json:"rate_out" doc:"Tasks a second that left it of late; null without the management API."`
	OldestAge *float64   `json:"oldest_age" doc:"For how many seconds the first of those that wait has done so, at least: as long as this gateway has seen it. Null without the management API."`
	AsOf      *time.Time `json:"as_of" doc:"When RabbitMQ said so."`
}

type queueList struct {
	Queues  []queue `json:"queues" nullable:"false" doc:"The queues of the catalog and of live workers, and those that are not running, by name."`
	Delayed *int    `json:"delayed" doc:"Tasks of all queues that wait in RabbitMQ for their time or for their next attempt; null without the management API."`
}

// listQueues is GET /v1/queues.
func (a *API) listQueues(ctx context.Context, c *call) (*reply, error) {
	known, err := a.knownQueues(ctx, c)
	if err != nil {
		return nil, err
	}
	out := queueList{Queues: make([]queue, 0, len(known)), Delayed: a.measure(ctx, known)}
	g := access.From(ctx)
	for _, name := range sortedKeys(known) {
		if !g.Queue(name) {
			continue
		}
		out.Queues = append(out.Queues, *known[name])
	}
	return jsonReply(http.StatusOK, out)
}

// getQueue is GET /v1/queues/{queue}.
func (a *API) getQueue(ctx context.Context, c *call) (*reply, error) {
	known, err := a.knownQueues(ctx, c)
	if err != nil {
		return nil, err
	}
	q := known[c.queue]
	if q == nil {
		return nil, newProblem(slugNotFound, "no worker has announced a task of this queue")
	}
	a.measure(ctx, map[string]*queue{c.queue: q})
	return jsonReply(http.StatusOK, q)
}

// knownQueues are all queues by name. It reads the copies of the catalog and of
// the states, and waits only for the workers' signs of life.
func (a *API) knownQueues(ctx context.Context, c *call) (map[string]*queue, error) {
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	s, err := a.catalog.loaded()
	if err != nil {
		return nil, err
	}
	known := map[string]*queue{}
	find := func(name string) *queue {
		if known[name] == nil {
			known[name] = &queue{Name: name, Tasks: []string{}, State: messages.QueueRunning}
		}
		return known[name]
	}
	for _, e := range s.entries {
		q := find(e.Queue)
		q.Foreign = q.Foreign || e.Foreign
		q.Alive = max(q.Alive, e.Alive)
		if !slices.Contains(q.Tasks, e.Name) {
			q.Tasks = append(q.Tasks, e.Name)
		}
	}
	for name, state := range a.states.all() {
		find(name).State = state
	}
	workers, err := stored(ctx, a, a.opts.Catalog.Workers)
	held, alive := taken(workers)
	for name, n := range alive {
		q := find(name)
		q.Alive = max(q.Alive, n)
	}
	for name, q := range known {
		if err == nil {
			q.Held = new(held[name])
		}
		a.count(q)
	}
	return known, nil
}

// measure fills in what RabbitMQ says of queues, as far as it does within a second,
// and returns how many tasks are delayed.
func (a *API) measure(ctx context.Context, known map[string]*queue) (delayed *int) {
	ctx, cancel := context.WithTimeout(ctx, measureTimeout)
	defer cancel()
	stats, delayed := a.opts.QueueStats.Stats(ctx, sortedKeys(known))
	for name, s := range stats {
		q := known[name]
		if q.Ready == nil {
			q.Ready = s.Ready
		}
		q.Measures = Measures{Unacked: s.Unacked, Dead: s.Dead, Consumers: s.Consumers, RateIn: rounded(s.In), RateOut: rounded(s.Out), AsOf: new(s.At.UTC())}
		if s.Ready != nil && s.Unacked != nil {
			q.Depth = new(*s.Ready + *s.Unacked)
		}
		if s.Oldest != nil {
			q.OldestAge = rounded(new(s.Oldest.Seconds()))
		}
	}
	return delayed
}

// rounded has as many digits as anybody reads.
func rounded(n *float64) *float64 {
	if n == nil {
		return nil
	}
	return new(math.Round(*n*100) / 100)
}

// taken counts by queue what live workers have of it, and the workers.
func taken(workers []messages.WorkerInfo) (held, alive map[string]int) {
	held, alive = map[string]int{}, map[string]int{}
	for _, w := range workers {
		for _, name := range w.Queues {
			alive[name]++
		}
		for name, n := range w.Held {
			held[name] += n
		}
	}
	return held, alive
}

// count fills in what follows from the rest.
func (a *API) count(q *queue) {
	q.Paused = q.State == messages.QueuePaused
	n, empty, known := a.opts.Depths.Ready(q.Name)
	if known {
		q.Ready = &n
	}
	q.Drained = q.State == messages.QueueDraining && known && empty >= drainedAfter && q.Held != nil && *q.Held == 0
}
