package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// maxSlots is the most that a worker can be told, as with its own option.
	maxSlots = 10_000

	routeWorkers = "/v1/workers"
	routeWorker  = "/v1/workers/{worker}"
)

// Workers knows and steers single workers. Errors are [messages.ErrNotFound] and
// [messages.ErrStoreUnavailable].
type Workers interface {
	Worker(ctx context.Context, name string) (messages.WorkerInfo, error)
	// Tell waits for the worker's answer until ctx ends, and says then whether the
	// worker may yet do it.
	Tell(ctx context.Context, worker string, c messages.WorkerCommand) (messages.WorkerAnswer, messages.Delivery, error)
}

type workerList struct {
	Workers []messages.WorkerInfo `json:"workers" nullable:"false" doc:"The workers that are alive, each with the 5 tasks that it has run for longest."`
}

// getWorkers is GET /v1/workers.
func (a *API) getWorkers(ctx context.Context, c *call) (*reply, error) {
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	workers, err := stored(ctx, a, a.opts.Catalog.Workers)
	if err != nil {
		return nil, err
	}
	out := workerList{Workers: make([]messages.WorkerInfo, 0, len(workers))}
	for _, w := range workers {
		out.Workers = append(out.Workers, complete(w))
	}
	return jsonReply(http.StatusOK, out)
}

// getWorker is GET /v1/workers/{worker}.
func (a *API) getWorker(ctx context.Context, c *call) (*reply, error) {
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	w, err := stored(ctx, a, func(ctx context.Context) (messages.WorkerInfo, error) { return a.opts.Workers.Worker(ctx, c.name) })
	if err != nil {
		return nil, noWorker(err)
	}
	return jsonReply(http.StatusOK, complete(w))
}

// complete fills in what an older worker does not say.
func complete(w messages.WorkerInfo) messages.WorkerInfo {
	if w.Held == nil {
		w.Held = map[string]int{}
	}
	if w.Running == nil {
		w.Running = []messages.RunningTask{}
	}
	return w
}

func noWorker(err error) error {
	if errors.Is(err, messages.ErrNotFound) {
		return newProblem(slugNoWorker, "no live worker has this name: see "+routeWorkers)
	}
	return err
}

// slotsQuery and dumpQuery are what commands take.
type slotsQuery struct{ slots *int }

func slotsParams() []param[slotsQuery] {
	return []param[slotsQuery]{{
		name: "slots", schema: &huma.Schema{Type: huma.TypeInteger, Minimum: new(0.0), Maximum: new(float64(maxSlots))},
		doc: "How many tasks it may run at a time, until its process ends; 0 for none.",
		set: func(q *slotsQuery, s string) string { q.slots = new(int); return setInt(q.slots, s, 0, maxSlots) },
	}}
}

type dumpQuery struct{ taskID string }

func dumpParams() []param[dumpQuery] {
	return []param[dumpQuery]{{
		name: "task_id", schema: &huma.Schema{Type: huma.TypeString}, doc: "Id of a task that it runs.",
		set: func(q *dumpQuery, s string) string { q.taskID = s; return nameRule(s, 255) },
	}}
}

// ToldWorker is the answer to a command that a worker has carried out.
type ToldWorker struct {
	Worker string `json:"worker"`
	Status string `json:"status" enum:"delivered" doc:"The worker has done it."`
	Slots  int    `json:"slots" doc:"How many tasks it may run at a time now."`
	Busy   int    `json:"busy" doc:"How many it runs."`
}

// taskDump is what the goroutines of a task are doing.
type taskDump struct {
	ToldWorker
	TaskID     string `json:"task_id"`
	Goroutines int    `json:"goroutines" doc:"How many there are."`
	Truncated  bool   `json:"truncated" doc:"Whether stacks are left out, beyond 64 KiB."`
	Dump       string `json:"dump" doc:"Their stacks, each once with the number of goroutines that stand there, as Go's goroutine profile prints them."`
}

// setSlots is POST /v1/workers/{worker}/slots.
func (a *API) setSlots(ctx context.Context, c *call) (*reply, error) {
	var q slotsQuery
	errs := parseQuery(slotsParams(), c.request.URL.RawQuery, &q)
	if len(errs) == 0 && q.slots == nil {
		errs = append(errs, atParameter("slots", "is required"))
	}
	if len(errs) > 0 {
		return nil, invalid(slugParameters, errs)
	}
	told, _, err := a.tell(ctx, c.name, messages.WorkerCommand{Verb: messages.VerbSlots, Slots: *q.slots})
	if err != nil {
		return nil, err
	}
	return jsonReply(http.StatusOK, told)
}

// stopWorker is POST /v1/workers/{worker}/stop.
func (a *API) stopWorker(ctx context.Context, c *call) (*reply, error) {
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	told, _, err := a.tell(ctx, c.name, messages.WorkerCommand{Verb: messages.VerbStop})
	if err != nil {
		return nil, err
	}
	return jsonReply(http.StatusAccepted, told)
}

// dumpTask is POST /v1/workers/{worker}/dump.
func (a *API) dumpTask(ctx context.Context, c *call) (*reply, error) {
	var q dumpQuery
	errs := parseQuery(dumpParams(), c.request.URL.RawQuery, &q)
	if len(errs) == 0 && q.taskID == "" {
		errs = append(errs, atParameter("task_id", "is required"))
	}
	if len(errs) > 0 {
		return nil, invalid(slugParameters, errs)
	}
	exchangeOf(ctx).taskID = q.taskID
	told, answer, err := a.tell(ctx, c.name, messages.WorkerCommand{Verb: messages.VerbDump, TaskID: q.taskID})
	if err != nil {
		return nil, err
	}
	return jsonReply(http.StatusOK, taskDump{
		ToldWorker: told, TaskID: q.taskID, Goroutines: answer.Goroutines, Truncated: answer.Truncated, Dump: answer.Dump,
	})
}

// tell waits for the answer no longer than SteerTimeout.
func (a *API) tell(ctx context.Context, worker string, command messages.WorkerCommand) (ToldWorker, messages.WorkerAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, a.opts.SteerTimeout)
	defer cancel()
	answer, became, err := a.opts.Workers.Tell(ctx, worker, command)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		err = errors.Join(messages.ErrStoreUnavailable, err)
	case err != nil:
		err = noWorker(err)
	case became == messages.Undelivered:
		err = newProblem(slugWorkerTimeout, fmt.Sprintf("it has not heard the command within %v, and will not: the command was taken back", a.opts.SteerTimeout))
	case became == messages.Taken:
		err = newProblem(slugWorkerTimeout, fmt.Sprintf("it has heard the command and has not answered within %v: it may have done it (see %s/%s)", a.opts.SteerTimeout, routeWorkers, worker))
	case answer.Refused != "":
		err = newProblem(slugWorkerRefused, answer.Refused)
	}
	return ToldWorker{Worker: worker, Status: "delivered", Slots: answer.Slots, Busy: answer.Busy}, answer, err
}

func (a *API) workerRoutes(h huma.API, d *documenter) {
	name := &huma.Param{Name: "worker", In: "path", Required: true, Description: "Name of the worker.", Schema: &huma.Schema{Type: huma.TypeString}}
	tags := []string{tagFleet}
	route(h, huma.Operation{
		OperationID: "get-workers", Method: http.MethodGet, Path: routeWorkers, Tags: tags, Summary: "Who is alive",
		Responses: d.responses(typed[workerList](http.StatusOK, "The workers.")),
	}, nil, a.getWorkers)
	route(h, huma.Operation{
		OperationID: "get-worker", Method: http.MethodGet, Path: routeWorker, Tags: tags, Summary: "Read a worker",
		Description: "With up to 100 of the tasks that it runs, those that have run for longest.",
		Parameters:  []*huma.Param{name}, Responses: d.responses(typed[messages.WorkerInfo](http.StatusOK, "The worker.")),
	}, nil, a.getWorker)
	route(h, huma.Operation{
		OperationID: "set-slots", Method: http.MethodPost, Path: routeWorker + "/slots", Tags: tags, Summary: "Change how many tasks a worker runs",
		Description: "For as long as its process lives. Tasks that run go on: with fewer slots than those, new ones start when enough have ended. There is no body.",
		Parameters:  append([]*huma.Param{name}, document(slotsParams())...),
		Responses:   d.responses(typed[ToldWorker](http.StatusOK, "It is so.")),
	}, nil, a.setSlots)
	route(h, huma.Operation{
		OperationID: "stop-worker", Method: http.MethodPost, Path: routeWorker + "/stop", Tags: tags, Summary: "Stop a worker",
		Description: "As SIGTERM does: it takes nothing more, finishes what it runs within its drain time, and ends. What started it may start it again. There is no body.",
		Parameters:  []*huma.Param{name}, DefaultStatus: http.StatusAccepted,
		Responses: d.responses(typed[ToldWorker](http.StatusAccepted, "It stops.")),
	}, nil, a.stopWorker)
	route(h, huma.Operation{
		OperationID: "dump-task", Method: http.MethodPost, Path: routeWorker + "/dump", Tags: tags, Summary: "See what a running task is doing",
		Description: "The stacks of its goroutines: of its handler and of those that this has started. There is no body.",
		Parameters:  append([]*huma.Param{name}, document(dumpParams())...),
		Responses:   d.responses(typed[taskDump](http.StatusOK, "The stacks.")),
	}, nil, a.dumpTask)
}
