package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// The kinds of operations on tasks.
const (
	kindCancel = "cancel"
	kindRetry  = "retry"
	kindDelete = "delete"
)

// scopeTasks stands for the queue of operations that are about tasks wherever
// they are. No queue has such a name.
const scopeTasks = "*"

// maxCount is how many tasks a dry run counts.
const maxCount = 100_000

// affected are the states of the tasks that each kind is about.
func affected(kind string) []messages.State {
	switch kind {
	case kindCancel:
		return []messages.State{messages.Pending, messages.Received, messages.Started, messages.Progress, messages.Retry}
	case kindRetry:
		return []messages.State{messages.Failure, messages.Revoked}
	default:
		return []messages.State{messages.Success, messages.Failure, messages.Revoked}
	}
}

// Deleter deletes the records of tasks that have ended.
type Deleter interface {
	// Delete answers false for a task that has not ended. Errors are those of
	// Results.Get.
	Delete(ctx context.Context, id string) (deleted bool, err error)
}

// TaskCounts are what became of tasks.
type TaskCounts struct {
	Matched   int `json:"matched" doc:"Tasks that the filter meant, up to the limit."`
	Cancelled int `json:"cancelled" doc:"Revoked: nobody will run them."`
	Stopping  int `json:"stopping" doc:"Of workers that were told to stop them. They may still end in another state."`
	Retried   int `json:"retried" doc:"Sent again, under the same id and with a run more."`
	Deleted   int `json:"deleted" doc:"Gone for good, with their results."`
	Left      int `json:"left" doc:"Left as they are: something else has become of them meanwhile, they are Celery's, or their record says too little."`
}

// taskSelection is the filter of an operation on tasks.
type taskSelection struct {
	States []messages.State  `json:"states" nullable:"false" doc:"Only tasks in one of these states."`
	Name   *string           `json:"name" doc:"Only tasks of this kind."`
	Queue  *string           `json:"queue" doc:"Only tasks of this queue."`
	Worker *string           `json:"worker" doc:"Only tasks of this worker."`
	Error  *string           `json:"error" doc:"Only tasks that failed with an error that says this."`
	IDs    *string           `json:"id" doc:"Only tasks whose id begins so."`
	Input  map[string]string `json:"input" nullable:"false" doc:"Only tasks with these values in indexed fields of their input."`
	Since  *time.Time        `json:"since" doc:"Only tasks created at or after this time."`
	Until  *time.Time        `json:"until" doc:"Only tasks created before this time."`
	Limit  *int              `json:"limit" doc:"At most this many; null for all."`
}

func newTaskSelection(q *listQuery) taskSelection {
	s := taskSelection{
		States: q.States, Name: text(q.Name), Queue: text(q.Queue), Worker: text(q.Worker), Error: text(q.Error), IDs: text(q.ID),
		Input: q.Input, Since: instant(q.Since), Until: instant(q.Until),
	}
	if s.Input == nil {
		s.Input = map[string]string{}
	}
	if q.limit > 0 {
		s.Limit = &q.limit
	}
	return s
}

func (s *taskSelection) filter() Filter {
	return Filter{
		States: s.States, Name: value(s.Name), Queue: value(s.Queue), Worker: value(s.Worker), Error: value(s.Error), ID: value(s.IDs),
		Input: s.Input, Since: value(s.Since), Until: value(s.Until),
	}
}

// taskOperation is a cancellation, a retry or a deletion of many.
type taskOperation struct {
	ID     string        `json:"id" doc:"Id of the operation."`
	Kind   string        `json:"kind" enum:"cancel,retry,delete"`
	State  string        `json:"state" enum:"running,interrupted,done,cancelled,failed" doc:"Interrupted: its gateway has stopped or died; another one goes on with it."`
	Filter taskSelection `json:"filter" doc:"Which tasks are meant, of those that were there when it started."`
	Rate   *int          `json:"rate" doc:"At most so many a second; null for any number."`
	TaskCounts
	More       bool       `json:"more" doc:"Whether it has left some because of its limit."`
	Cancelling bool       `json:"cancelling" doc:"Whether it was asked to stop and has not yet."`
	Started    time.Time  `json:"started"`
	Updated    time.Time  `json:"updated" doc:"When it last got further."`
	Ended      *time.Time `json:"ended"`
	Error      *string    `json:"error" doc:"Why it has failed, or what keeps it from getting further now."`
}

type taskOperationList struct {
	Operations []taskOperation `json:"operations" nullable:"false" doc:"The newest first."`
}

// bulkRecord is what is kept of an operation on tasks beside what all have.
type bulkRecord struct {
	Filter taskSelection `json:"filter"`
	Counts TaskCounts    `json:"counts"`
	// Cursor is that of the page that is worked on.
	Cursor string `json:"cursor,omitempty"`
	// Begun are the runs of the page that may have begun without a message.
	Begun map[string]int `json:"begun,omitempty"`
}

// tasks is the view of an operation on tasks.
func (o *operationRecord) tasks() taskOperation {
	return taskOperation{
		ID: o.ID, Kind: o.Kind, State: o.State, Filter: o.Bulk.Filter, Rate: o.Rate, TaskCounts: o.Bulk.Counts, More: o.More,
		Cancelling: o.Cancelling, Started: o.Started, Updated: o.Updated, Ended: o.Ended, Error: o.Error,
	}
}

// counted is what a dry run says.
type counted struct {
	Matched int  `json:"matched" doc:"Tasks that are meant."`
	More    bool `json:"more" doc:"Whether there are more, beyond the limit, or beyond what could be counted in time."`
	DryRun  bool `json:"dry_run" doc:"True: nothing was done."`
}

// taskBulkParams is the table of what an operation on tasks can be asked for.
func taskBulkParams() []param[listQuery] {
	type query = listQuery
	return append(filterParams(),
		param[query]{
			name: "all", schema: &huma.Schema{Type: huma.TypeBoolean}, doc: "Mean all of them. Needed when nothing but the state says which.",
			set: func(q *query, s string) string { return setBool(&q.all, s) },
		},
		param[query]{
			name: "limit", doc: "At most this many; all without it.",
			schema: &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0)},
			set:    func(q *query, s string) string { return setInt(&q.limit, s, 1, 1<<31) },
		},
		param[query]{
			name: "rate", schema: &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Maximum: new(float64(maxRate))}, doc: "At most so many a second.",
			set: func(q *query, s string) string { return setInt(&q.rate, s, 1, maxRate) },
		},
		param[query]{
			name: "dry_run", schema: &huma.Schema{Type: huma.TypeBoolean}, doc: "Only count.",
			set: func(q *query, s string) string { return setBool(&q.dryRun, s) },
		})
}

// bulkTasks is POST /v1/bulk/{kind}: an operation on all tasks that the
// query means and that are there now.
func (a *API) bulkTasks(kind string) handler {
	return func(ctx context.Context, c *call) (*reply, error) {
		var q listQuery
		errs := a.parseFilter(taskBulkParams(), c.request.URL.RawQuery, &q)
		if len(errs) == 0 && !q.all && q.Name == "" && q.Queue == "" && q.Worker == "" && q.Error == "" && q.ID == "" && q.Since.IsZero() && q.Until.IsZero() && len(q.Input) == 0 {
			errs = append(errs, atParameter("all", "say which ones are meant by name, queue, worker, error, id, input, since or until, or give all=true"))
		}
		possible := affected(kind)
		for _, s := range q.States {
			if !slices.Contains(possible, s) {
				errs = append(errs, atParameter("state", fmt.Sprintf("tasks in state %s cannot be meant here, only those in %v", s, possible)))
			}
		}
		if len(errs) > 0 {
			return nil, invalid(slugParameters, errs)
		}
		if len(q.States) == 0 {
			q.States = possible
		}
		if now := time.Now(); q.Until.IsZero() || q.Until.After(now) {
			q.Until = now.UTC().Truncate(time.Millisecond).Add(time.Millisecond) // those of this millisecond are there
		}
		if q.dryRun {
			return a.countTasks(ctx, &q)
		}
		return a.beginTasks(ctx, kind, &q)
	}
}

// countTasks answers a dry run.
func (a *API) countTasks(ctx context.Context, q *listQuery) (*reply, error) {
	out, limit := counted{DryRun: true}, maxCount
	if q.limit > 0 {
		limit = min(q.limit, maxCount)
	}
	end := time.Now().Add(a.opts.PassTimeout)
	for cursor := ""; ; {
		page, err := stored(ctx, a, func(ctx context.Context) (Page, error) {
			return a.opts.Results.List(ctx, q.Filter, cursor, taskPage)
		})
		if err != nil {
			return nil, err
		}
		out.Matched += len(page.Results)
		cursor = page.Next
		if out.Matched > limit {
			out.Matched, out.More = limit, true
			break
		}
		if cursor == "" || time.Now().After(end) {
			out.More = cursor != ""
			break
		}
	}
	return jsonReply(http.StatusOK, out)
}

func (a *API) beginTasks(ctx context.Context, kind string, q *listQuery) (*reply, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	o := operationRecord{
		operation: operation{ID: messages.NewID(), Kind: kind, Queue: scopeTasks, State: stateRunning, Started: now, Updated: now},
		Bulk:      &bulkRecord{Filter: newTaskSelection(q)},
	}
	if q.rate > 0 {
		o.Rate = &q.rate
	}
	if err := a.begin(ctx, o); err != nil {
		return nil, err
	}
	a.opts.Log.Info("operation on tasks begun", zap.String("operation", o.ID), zap.String("kind", kind), zap.Any("filter", o.Bulk.Filter), zap.Intp("rate", o.Rate))
	out, err := jsonReply(http.StatusAccepted, o.tasks())
	if err != nil {
		return nil, err
	}
	out.header["Location"] = operationPath(scopeTasks, o.ID)
	return out, nil
}

// listTaskOperations is GET /v1/operations.
func (a *API) listTaskOperations(ctx context.Context, c *call) (*reply, error) {
	list, err := a.taskOperations(ctx, c)
	if err != nil {
		return nil, err
	}
	out := taskOperationList{Operations: make([]taskOperation, len(list))}
	for i := range list {
		out.Operations[i] = list[i].tasks()
	}
	return jsonReply(http.StatusOK, out)
}

func (a *API) taskOperations(ctx context.Context, c *call) ([]operationRecord, error) {
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	list, err := a.operationsIn(ctx, scopeTasks)
	return slices.DeleteFunc(list, func(o operationRecord) bool { return o.Bulk == nil }), err
}

func (a *API) taskOperation(ctx context.Context, c *call) (*taskOperation, error) {
	list, err := a.taskOperations(ctx, c)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(o operationRecord) bool { return o.ID == c.name })
	if i < 0 {
		p := newProblem(slugNoOperation, "there is no operation of this id, or there were too many since")
		p.OperationID = c.name
		return nil, p
	}
	view := list[i].tasks()
	return &view, nil
}

// getTaskOperation is GET /v1/operations/{id}.
func (a *API) getTaskOperation(ctx context.Context, c *call) (*reply, error) {
	o, err := a.taskOperation(ctx, c)
	if err != nil {
		return nil, err
	}
	return jsonReply(http.StatusOK, o)
}

// cancelTaskOperation is POST /v1/operations/{id}/cancel.
func (a *API) cancelTaskOperation(ctx context.Context, c *call) (*reply, error) {
	o, err := a.taskOperation(ctx, c)
	if err != nil {
		return nil, err
	}
	asked, err := a.askToStop(ctx, o.ID, o.State)
	switch {
	case err != nil:
		return nil, err
	case asked:
		o.Cancelling = true
		return jsonReply(http.StatusAccepted, o)
	}
	if o, err = a.taskOperation(ctx, c); err != nil { // it may have ended just now
		return nil, err
	}
	if o.State == stateCancelled {
		return jsonReply(http.StatusOK, o)
	}
	return nil, ended(o.ID, o.State)
}

// deleteTask is DELETE /v1/tasks/{id}.
func (a *API) deleteTask(ctx context.Context, c *call) (*reply, error) {
	exchangeOf(ctx).taskID = c.name
	if err := c.noQuery(); err != nil {
		return nil, err
	}
	if nameRule(c.name, 255) != "" {
		return nil, newProblem(slugTaskNotFound, "no task has such an id")
	}
	deleted, err := stored(ctx, a, func(ctx context.Context) (bool, error) { return a.opts.Deleter.Delete(ctx, c.name) })
	if err != nil {
		return nil, a.missing(c.name, err)
	}
	if !deleted {
		p := newProblem(slugNotEnded, "only a task that has ended is deleted; cancel it first")
		p.TaskID = c.name
		return nil, p
	}
	return &reply{status: http.StatusNoContent}, nil
}

func (a *API) bulkRoutes(h huma.API, d *documenter) {
	tags, str := []string{tagTasks}, &huma.Schema{Type: huma.TypeString}
	task := &huma.Param{Name: "id", In: "path", Required: true, Description: "Id of the task.", Schema: str}
	route(h, huma.Operation{
		OperationID: "delete-task", Method: http.MethodDelete, Path: routeTask, Tags: tags, Summary: "Delete a task that has ended",
		Description: "Its record and its result are gone. A dead letter of it stays.",
		Parameters:  []*huma.Param{task}, DefaultStatus: http.StatusNoContent,
		Responses: d.responses(bare(http.StatusNoContent, "It is gone.")),
	}, nil, a.deleteTask)
	for _, bulk := range []struct{ kind, summary, states string }{
		{kindCancel, "Cancel tasks", "that have not ended"},
		{kindRetry, "Run tasks again", "that have failed or were revoked"},
		{kindDelete, "Delete tasks", "that have ended"},
	} {
		route(h, huma.Operation{
			OperationID: bulk.kind + "-tasks", Method: http.MethodPost, Path: "/v1/bulk/" + bulk.kind, Tags: tags, Summary: bulk.summary,
			Description: "All tasks " + bulk.states + " and that the query means, of those that are there now; input.FIELD=VALUE is for indexed fields of the input. " +
				"It is done beside the requests, as an operation that can be followed and cancelled. There is no body.",
			Parameters: document(taskBulkParams()), DefaultStatus: http.StatusAccepted,
			Responses: d.responses(typed[taskOperation](http.StatusAccepted, "It goes on beside: Location names the operation."),
				typed[counted](http.StatusOK, "How many are meant: the answer to a dry run.")),
		}, nil, a.bulkTasks(bulk.kind))
	}
	route(h, huma.Operation{
		OperationID: "list-task-operations", Method: http.MethodGet, Path: routeTaskOperations, Tags: tags, Summary: "List the operations on tasks",
		Responses: d.responses(typed[taskOperationList](http.StatusOK, "The 20 newest, those that ended less than LOVAGE_RESULT_TTL ago.")),
	}, nil, a.listTaskOperations)
	which := &huma.Param{Name: "id", In: "path", Required: true, Description: "Id of the operation.", Schema: str}
	route(h, huma.Operation{
		OperationID: "get-task-operation", Method: http.MethodGet, Path: routeTaskOperations + "/{id}", Tags: tags, Summary: "See how far an operation on tasks is",
		Parameters: []*huma.Param{which}, Responses: d.responses(typed[taskOperation](http.StatusOK, "The operation.")),
	}, nil, a.getTaskOperation)
	route(h, huma.Operation{
		OperationID: "cancel-task-operation", Method: http.MethodPost, Path: routeTaskOperations + "/{id}/cancel", Tags: tags, Summary: "Cancel an operation on tasks",
		Description: "It stops between two tasks, about a second later. What was done is done. There is no body.",
		Parameters:  []*huma.Param{which}, DefaultStatus: http.StatusAccepted,
		Responses: d.responses(typed[taskOperation](http.StatusAccepted, "It is told to stop."), typed[taskOperation](http.StatusOK, "It is cancelled.")),
	}, nil, a.cancelTaskOperation)
}
