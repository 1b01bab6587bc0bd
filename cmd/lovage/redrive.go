package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/lovage-mq/lovage/pkg/client"
)

// deadBulk says which dead letters to work on: some by their ids, or those that
// a filter means.
type deadBulk struct {
	Queue string   `arg:"" complete:"queues" help:"Work queue."`
	ID    []string `arg:"" optional:"" help:"Ids of tasks; without any, those that the options mean."`

	deadFilter

	All    bool `help:"Mean all of them."`
	Limit  int  `placeholder:"N" help:"At most so many."`
	Rate   int  `placeholder:"N" help:"At most so many a second."`
	DryRun bool `help:"Only count."`
	Detach bool `short:"d" help:"Do not wait for the end. See lovage dead follow."`
}

func (b *deadBulk) bulk() client.Bulk {
	return client.Bulk{DeadFilter: b.filter(), All: b.All, Limit: b.Limit, Rate: b.Rate}
}

// check wants ids, or a filter.
func (b *deadBulk) check() error {
	selective := b.filter() != client.DeadFilter{} || b.All
	switch {
	case len(b.ID) > 0 && (selective || b.DryRun || b.Detach || b.Limit > 0 || b.Rate > 0):
		return wrong("name tasks by their ids or by options, not both")
	case len(b.ID) == 0 && !selective:
		return wrong("say which dead letters are meant: by ids, --name, --reason, --group, --since or --until, or --all")
	}
	return nil
}

type deadRedriveCmd struct {
	deadBulk

	Input string `placeholder:"JSON" help:"With one id: the input to run it with instead of its own; @FILE, or - for standard input."`
}

// Run sends dead letters again.
func (c *deadRedriveCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	var input any
	if c.Input != "" {
		if len(c.ID) != 1 {
			return wrong("--input is for one id")
		}
		raw, err := a.readJSON("--input", c.Input)
		if err != nil {
			return err
		}
		input = raw
	}
	if len(c.ID) > 0 {
		return a.each(ctx, c.ID, func(ctx context.Context, id string) (string, error) {
			return string(client.Pending), a.client.RedriveOne(ctx, c.Queue, id, input)
		})
	}
	return c.work(ctx, a, a.client.BeginRedrive)
}

type deadDiscardCmd struct {
	deadBulk

	Yes bool `short:"y" help:"Do not ask."`
}

// Run throws dead letters away, after asking.
func (c *deadDiscardCmd) Run(ctx context.Context, a *app) error {
	if err := c.check(); err != nil {
		return err
	}
	if !c.DryRun && !c.Yes {
		if err := c.ask(ctx, a); err != nil {
			return err
		}
	}
	if len(c.ID) > 0 {
		return a.each(ctx, c.ID, func(ctx context.Context, id string) (string, error) {
			return "gone", a.client.DiscardOne(ctx, c.Queue, id)
		})
	}
	return c.work(ctx, a, a.client.BeginDiscard)
}

func (c *deadDiscardCmd) ask(ctx context.Context, a *app) error {
	if !onTerminal(a.in) || !onTerminal(a.err) {
		return wrong("what is discarded is gone: say --yes")
	}
	n := len(c.ID)
	if n == 0 {
		counted, err := c.count(ctx, a)
		if err != nil {
			return err
		}
		n = counted.Matched
	}
	yes, err := a.confirm(fmt.Sprintf("Throw %d dead letters of queue %s away?", n, printable(c.Queue)))
	if err == nil && !yes {
		err = &outcome{exitRevoked, "nothing was discarded"}
	}
	return err
}

// most is how many dead letters the gateway counts in one call.
const most = 100_000

// count tells how many there are, up to what the gateway counts.
func (b *deadBulk) count(ctx context.Context, a *app) (*client.Dealt, error) {
	bulk := b.bulk()
	if bulk.Limit == 0 {
		bulk.Limit = most
	}
	return a.client.Count(ctx, b.Queue, bulk) // which takes up to 25 s
}

// work begins an operation and follows it to its end.
func (b *deadBulk) work(ctx context.Context, a *app, begin func(context.Context, string, client.Bulk) (*client.Operation, error)) error {
	all := 0
	m := a.newMeter()
	defer m.clear()
	if b.DryRun || m.bar != nil {
		d, err := b.count(ctx, a)
		if err != nil {
			return err
		}
		if b.DryRun {
			return a.print(d, func(w io.Writer) error {
				text := fmt.Sprintf("%d dead letters are meant", d.Matched)
				if d.More {
					text += ", and there are more"
				}
				_, err := fmt.Fprintln(w, text)
				return err
			})
		}
		if all = d.Matched; d.More && b.Limit == 0 {
			all = 0
		}
	}
	o, err := ask(ctx, a, func(ctx context.Context) (*client.Operation, error) { return begin(ctx, b.Queue, b.bulk()) })
	if err != nil {
		return err
	}
	if b.Detach {
		return a.print(o, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, o.ID)
			return err
		})
	}
	return a.followOperation(ctx, m, o, all)
}

// followOperation returns how the operation has ended.
func (a *app) followOperation(ctx context.Context, m *meter, o *client.Operation, all int) error {
	queue, id := o.Queue, o.ID
	for next, err := range a.client.FollowOperation(ctx, queue, id) {
		if errors.Is(err, context.Canceled) {
			return &outcome{exitInterrupted, fmt.Sprintf("it goes on: lovage dead follow %s %s, or lovage dead stop %s %s", queue, id, queue, id)}
		}
		if err != nil {
			return err
		}
		o = next
		m.operation(o, all)
	}
	m.clear()
	err := a.print(o, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, told(o))
		return err
	})
	return errors.Join(err, exitOf(o.State))
}

// exitOf is the exit code of an operation that has ended, nil for a good one.
func exitOf(state client.OperationState) error {
	switch state {
	case client.OperationDone:
		return nil
	case client.OperationCancelled:
		return &outcome{code: exitRevoked}
	default:
		return &outcome{code: exitFailure}
	}
}

// told is what became of the dead letters in a sentence.
func told(o *client.Operation) string {
	text := fmt.Sprintf("%s %s: %d sent again", o.Kind, o.State, o.Redriven)
	if o.Kind == "discard" {
		text = fmt.Sprintf("%s %s: %d discarded", o.Kind, o.State, o.Discarded)
	}
	for _, part := range []struct {
		n    int
		what string
	}{{o.Superseded, "were sent again before"}, {o.Undecodable, "cannot be read and stay"}, {o.Running, "are running and stay"}} {
		if part.n > 0 {
			text += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	if o.More {
		text += "; there are more"
	}
	if o.Error != "" {
		text += "; " + o.Error
	}
	return printable(text)
}

type deadOperationsCmd struct {
	Queue string `arg:"" complete:"queues" help:"Work queue."`
}

// Run lists operations.
func (c *deadOperationsCmd) Run(ctx context.Context, a *app) error {
	list, err := ask(ctx, a, func(ctx context.Context) ([]client.Operation, error) { return a.client.Operations(ctx, c.Queue) })
	if err != nil {
		return err
	}
	return a.print(list, func(w io.Writer) error {
		var rows [][]string
		for _, o := range list {
			what, _ := json.Marshal(o.Filter) // of texts, times and a number
			rows = append(rows, []string{o.ID, moment(o.Started), told(&o), short(string(what), 80)})
		}
		return table(w, []string{"ID", "STARTED", "WHAT", "FILTER"}, rows)
	})
}

type deadFollowCmd struct {
	Queue string `arg:"" complete:"queues" help:"Work queue."`
	ID    string `arg:"" help:"Id of the operation."`
}

// Run follows an operation.
func (c *deadFollowCmd) Run(ctx context.Context, a *app) error {
	m := a.newMeter()
	defer m.clear()
	return a.followOperation(ctx, m, &client.Operation{Queue: c.Queue, ID: c.ID}, 0)
}

type deadStopCmd struct {
	Queue string `arg:"" complete:"queues" help:"Work queue."`
	ID    string `arg:"" help:"Id of the operation."`
}

// Run stops an operation.
func (c *deadStopCmd) Run(ctx context.Context, a *app) error {
	o, err := ask(ctx, a, func(ctx context.Context) (*client.Operation, error) {
		return a.client.CancelOperation(ctx, c.Queue, c.ID)
	})
	if err != nil {
		return err
	}
	return a.print(o, func(w io.Writer) error {
		text := told(o)
		if o.Cancelling {
			text = "it stops within about a second: " + text
		}
		_, err := fmt.Fprintln(w, text)
		return err
	})
}
