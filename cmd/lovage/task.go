package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/lovage-mq/lovage/pkg/client"
)

type getCmd struct {
	ID string `arg:"" help:"Id of the task."`
}

// Run shows a task.
func (c *getCmd) Run(ctx context.Context, a *app) error {
	t, err := ask(ctx, a, func(ctx context.Context) (*client.Task, error) { return a.client.Get(ctx, c.ID) })
	if err != nil {
		return err
	}
	return a.print(t, func(w io.Writer) error { return showTask(w, t) })
}

func showTask(w io.Writer, t *client.Task) error {
	progress, failure, trace := "", "", ""
	if p := t.Progress; p != nil {
		progress = fmt.Sprintf("%s of %s (%s %%)", number(p.Current), number(p.Total), number(p.Percent))
	}
	if t.Error != nil {
		failure, trace = t.Error.Type+": "+t.Error.Message, t.Error.Traceback
	}
	err := fields(w, "id", t.TaskID, "name", t.Name, "state", string(t.State), "progress", progress, "queue", t.Queue, "worker", t.Worker,
		"retries", strconv.Itoa(t.Retries), "run", strconv.Itoa(t.Run), "created", moment(t.DateCreated), "eta", moment(t.ETA),
		"expires", moment(t.Expires), "started", moment(t.DateStarted), "next attempt", moment(t.NextAttempt), "done", moment(t.DateDone),
		"took", took(t), "error", failure, "result", compact(t.Result), "parent", t.ParentID, "root", t.RootID, "group", t.GroupID)
	if trace != "" {
		_, also := fmt.Fprintf(w, "\n%s\n", printableLines(trace))
		err = errors.Join(err, also)
	}
	return err
}

// took is how long the last attempt of a task took.
func took(t *client.Task) string {
	if t.DateDone.IsZero() || t.DateStarted.IsZero() {
		return ""
	}
	return t.DateDone.Sub(t.DateStarted).Round(time.Millisecond).String()
}

type waitCmd struct {
	ID  string        `arg:"" help:"Id of the task."`
	For time.Duration `placeholder:"DURATION" help:"Wait no longer than this; without it, for as long as the task takes."`
}

// Help is for those who ask for that of this command.
func (*waitCmd) Help() string {
	return "The gateway answers when the task has changed, or after 20 s, and is asked again, " +
		"also while it is being replaced, for up to 30 s. --timeout does not bound the wait, --for does."
}

// Run waits for a task.
func (c *waitCmd) Run(ctx context.Context, a *app) error { return a.await(ctx, c.ID, c.For) }

// taskFilter says which tasks are meant.
type taskFilter struct {
	State   []client.State    `placeholder:"STATE" complete:"states" help:"Only tasks in one of these states."`
	Name    string            `placeholder:"NAME" complete:"tasks" help:"Only tasks of this kind."`
	Queue   string            `placeholder:"QUEUE" complete:"queues" help:"Only tasks of this queue."`
	Worker  string            `placeholder:"NAME" help:"Only tasks of this worker."`
	Error   string            `placeholder:"TEXT" help:"Only tasks that failed with an error that says this."`
	Prefix  string            `placeholder:"PREFIX" help:"Only tasks whose id begins so."`
	InputIs map[string]string `name:"input" placeholder:"FIELD=VALUE" mapsep:"none" help:"Only tasks with this value in a field of the input that is indexed: see lovage catalog NAME."`
	Since   past              `placeholder:"TIME" help:"Only those created at or after this time, or no longer ago than this duration."`
	Until   past              `placeholder:"TIME" help:"Only those created before this time, or longer ago than this duration."`
}

func (f *taskFilter) filter() client.Filter {
	return client.Filter{
		States: f.State, Name: f.Name, Queue: f.Queue, Worker: f.Worker, Error: f.Error, ID: f.Prefix, Input: f.InputIs,
		Since: f.Since.Time, Until: f.Until.Time,
	}
}

type listCmd struct {
	taskFilter

	Limit int `short:"n" default:"50" help:"At most so many; 0 for all that the gateway knows."`
}

// Run lists tasks.
func (c *listCmd) Run(ctx context.Context, a *app) error {
	f := c.filter()
	tasks, err := pages(c.Limit, func(limit int, cursor string) ([]client.Task, string, error) {
		f.Limit, f.Cursor = limit, cursor
		p, err := ask(ctx, a, func(ctx context.Context) (*client.Page, error) { return a.client.List(ctx, f) })
		if err != nil {
			return nil, "", err
		}
		return p.Tasks, p.NextCursor, nil
	})
	if err != nil {
		return err
	}
	return a.print(tasks, func(w io.Writer) error {
		var rows [][]string
		for _, t := range tasks {
			rows = append(rows, []string{t.TaskID, dash(t.Name), string(t.State), dash(t.Queue), dash(moment(t.DateCreated)), dash(took(&t)), strconv.Itoa(t.Retries)})
		}
		return table(w, []string{"ID", "NAME", "STATE", "QUEUE", "CREATED", "TOOK", "RETRIES"}, rows)
	})
}

// pages gathers up to limit items, or all when it is 0. The result is never nil.
func pages[T any](limit int, page func(limit int, cursor string) ([]T, string, error)) ([]T, error) {
	const longest = 200
	all := []T{}
	for cursor := ""; ; {
		items, next, err := page(min(cmp.Or(limit, len(all)+longest)-len(all), longest), cursor)
		if err != nil {
			return nil, err
		}
		all = append(all, items...)
		if next == "" || len(all) == limit {
			return all, nil
		}
		cursor = next
	}
}

type cancelCmd struct{ taskBulk }

// Run cancels tasks.
func (c *cancelCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	if len(c.ID) == 0 {
		return c.work(ctx, a, client.BulkCancel)
	}
	return a.each(ctx, c.ID, func(ctx context.Context, id string) (string, error) {
		t, err := a.client.Cancel(ctx, id)
		if err != nil {
			return "", err
		}
		if !t.State.Final() {
			return "its worker is told to stop", nil
		}
		return string(t.State), nil
	})
}

type retryCmd struct{ taskBulk }

// Run runs tasks again.
func (c *retryCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	if len(c.ID) == 0 {
		return c.work(ctx, a, client.BulkRetry)
	}
	return a.each(ctx, c.ID, func(ctx context.Context, id string) (string, error) {
		return string(client.Pending), a.client.Retry(ctx, id)
	})
}

// done is what became of one of many.
type done struct {
	ID      string `json:"id"`
	Done    string `json:"done,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// each does something with every id, also after one of them has failed. With
// one id its error is that of the command.
func (a *app) each(ctx context.Context, ids []string, do func(context.Context, string) (string, error)) error {
	var list []done
	var last error
	for _, id := range ids {
		text, err := ask(ctx, a, func(ctx context.Context) (string, error) { return do(ctx, id) })
		d := done{ID: id, Done: text}
		if err != nil {
			last, d = err, done{ID: id, Problem: err.Error()}
			if _, refused := errors.AsType[*client.Problem](err); !refused || len(ids) == 1 {
				return err
			}
		}
		list = append(list, d)
	}
	err := a.print(list, func(w io.Writer) error {
		var rows [][]string
		for _, d := range list {
			rows = append(rows, []string{d.ID, cmp.Or(d.Done, d.Problem)})
		}
		return table(w, []string{"ID", "OUTCOME"}, rows)
	})
	if last != nil {
		return errors.Join(err, &outcome{code: exitGateway})
	}
	return err
}
