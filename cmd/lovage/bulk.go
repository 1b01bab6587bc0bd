package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/lovage-mq/lovage/pkg/client"
)

// taskBulk says which tasks to work on: some by their ids, or those that a filter
// means.
type taskBulk struct {
	ID []string `arg:"" optional:"" help:"Ids of the tasks; without any, those that the options mean."`

	taskFilter

	All    bool `help:"Mean all of them."`
	Limit  int  `placeholder:"N" help:"At most so many."`
	Rate   int  `placeholder:"N" help:"At most so many a second."`
	DryRun bool `help:"Only count."`
	Detach bool `short:"d" help:"Do not wait for the end. See lovage operations follow."`
}

func (b *taskBulk) bulk() client.TaskBulk {
	f := b.filter()
	f.Limit = b.Limit
	return client.TaskBulk{Filter: f, All: b.All, Rate: b.Rate}
}

// check wants ids, or a filter.
func (b *taskBulk) check() error {
	options := *b
	options.ID = nil
	selective := !reflect.ValueOf(options).IsZero()
	switch {
	case len(b.ID) > 0 && selective:
		return wrong("name tasks by their ids or by options, not both")
	case len(b.ID) == 0 && !selective:
		return wrong("say which tasks are meant: by ids, --name, --queue, --worker, --error, --prefix, --input, --since or --until, or --all")
	}
	return nil
}

// work begins an operation and follows it to its end.
func (b *taskBulk) work(ctx context.Context, a *app, kind client.BulkKind) error {
	all := 0
	m := a.newMeter()
	defer m.clear()
	if b.DryRun || m.bar != nil {
		n, err := a.client.CountBulk(ctx, kind, b.bulk()) // which takes up to 25 s
		if err != nil {
			return err
		}
		if b.DryRun {
			return a.print(n, func(w io.Writer) error {
				text := fmt.Sprintf("%d tasks are meant", n.Matched)
				if n.More {
					text += ", and there are more"
				}
				_, err := fmt.Fprintln(w, text)
				return err
			})
		}
		if all = n.Matched; n.More && b.Limit == 0 {
			all = 0
		}
	}
	o, err := ask(ctx, a, func(ctx context.Context) (*client.TaskOperation, error) {
		return a.client.BeginBulk(ctx, kind, b.bulk())
	})
	if err != nil {
		return err
	}
	if b.Detach {
		return a.print(o, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, o.ID)
			return err
		})
	}
	return a.followTasks(ctx, m, o.ID, all)
}

// followTasks returns how the operation has ended.
func (a *app) followTasks(ctx context.Context, m *meter, id string, all int) error {
	var o *client.TaskOperation
	for next, err := range a.client.FollowTaskOperation(ctx, id) {
		if errors.Is(err, context.Canceled) {
			return &outcome{exitInterrupted, fmt.Sprintf("it goes on: lovage operations follow %s, or lovage operations stop %s", id, id)}
		}
		if err != nil {
			return err
		}
		o = next
		m.tasks(o, all)
	}
	m.clear()
	err := a.print(o, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, toldTasks(o))
		return err
	})
	return errors.Join(err, exitOf(o.State))
}

// toldTasks is what became of the tasks in a sentence.
func toldTasks(o *client.TaskOperation) string {
	text := fmt.Sprintf("%s %s: ", o.Kind, o.State)
	switch o.Kind {
	case client.BulkCancel:
		text += fmt.Sprintf("%d cancelled", o.Cancelled)
	case client.BulkRetry:
		text += fmt.Sprintf("%d sent again", o.Retried)
	case client.BulkDelete:
		text += fmt.Sprintf("%d deleted", o.Deleted)
	}
	if o.Stopping > 0 {
		text += fmt.Sprintf(", %d are told to stop", o.Stopping)
	}
	if o.Left > 0 {
		text += fmt.Sprintf(", %d are left as they are", o.Left)
	}
	if o.More {
		text += "; there are more"
	}
	if o.Error != "" {
		text += "; " + o.Error
	}
	return printable(text)
}

type deleteCmd struct {
	taskBulk

	Yes bool `short:"y" help:"Do not ask."`
}

// Run deletes tasks, after asking.
func (c *deleteCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	if !c.DryRun && !c.Yes {
		if err := c.ask(ctx, a); err != nil {
			return err
		}
	}
	if len(c.ID) > 0 {
		return a.each(ctx, c.ID, func(ctx context.Context, id string) (string, error) { return "gone", a.client.Delete(ctx, id) })
	}
	return c.work(ctx, a, client.BulkDelete)
}

func (c *deleteCmd) ask(ctx context.Context, a *app) error {
	if !onTerminal(a.in) || !onTerminal(a.err) {
		return wrong("what is deleted is gone: say --yes")
	}
	what := fmt.Sprint(len(c.ID))
	if len(c.ID) == 0 {
		n, err := a.client.CountBulk(ctx, client.BulkDelete, c.bulk())
		if err != nil {
			return err
		}
		what = fmt.Sprint(n.Matched)
		if n.More && c.Limit == 0 {
			what = "more than " + what
		}
	}
	yes, err := a.confirm(fmt.Sprintf("Delete %s tasks with their results?", what))
	if err == nil && !yes {
		err = &outcome{exitRevoked, "nothing was deleted"}
	}
	return err
}

type operationsCmd struct {
	List   operationsListCmd   `cmd:"" default:"1" help:"List the operations on tasks, the newest first."`
	Follow operationsFollowCmd `cmd:"" help:"Follow an operation to its end."`
	Stop   operationsStopCmd   `cmd:"" help:"Stop an operation."`
}

type operationsListCmd struct{}

// Run lists operations.
func (c *operationsListCmd) Run(ctx context.Context, a *app) error {
	list, err := ask(ctx, a, a.client.TaskOperations)
	if err != nil {
		return err
	}
	return a.print(list, func(w io.Writer) error {
		var rows [][]string
		for _, o := range list {
			what, _ := json.Marshal(o.Filter) // of texts, times and a number
			rows = append(rows, []string{o.ID, moment(o.Started), toldTasks(&o), short(string(what), 80)})
		}
		return table(w, []string{"ID", "STARTED", "WHAT", "FILTER"}, rows)
	})
}

type operationsFollowCmd struct {
	ID string `arg:"" help:"Id of the operation."`
}

// Run follows an operation.
func (c *operationsFollowCmd) Run(ctx context.Context, a *app) error {
	m := a.newMeter()
	defer m.clear()
	return a.followTasks(ctx, m, c.ID, 0)
}

type operationsStopCmd struct {
	ID string `arg:"" help:"Id of the operation."`
}

// Run stops an operation.
func (c *operationsStopCmd) Run(ctx context.Context, a *app) error {
	o, err := ask(ctx, a, func(ctx context.Context) (*client.TaskOperation, error) {
		return a.client.CancelTaskOperation(ctx, c.ID)
	})
	if err != nil {
		return err
	}
	return a.print(o, func(w io.Writer) error {
		text := toldTasks(o)
		if o.Cancelling {
			text = "it stops within about a second: " + text
		}
		_, err := fmt.Fprintln(w, text)
		return err
	})
}
