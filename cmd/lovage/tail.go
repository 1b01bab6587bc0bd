package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/lovage-mq/lovage/pkg/client"
)

type tailCmd struct {
	State []client.State `placeholder:"STATE" complete:"states" help:"Only changes to one of these states."`
	Name  string         `placeholder:"NAME" complete:"tasks" help:"Only tasks of this kind."`
	Queue string         `placeholder:"QUEUE" complete:"queues" help:"Only tasks of this queue."`
}

// Run shows what becomes of tasks, from now on and until it is told to end.
func (c *tailCmd) Run(ctx context.Context, a *app) error {
	a.invite(ctx)
	for e, err := range a.client.Events(ctx, client.EventFilter{States: c.State, Name: c.Name, Queue: c.Queue}) {
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case e.Gap:
			a.say("some changes are missing here: see lovage list")
			continue
		}
		if err := a.event(e); err != nil {
			return err
		}
	}
	return nil
}

// invite says on a terminal that there is something to wait for.
func (a *app) invite(ctx context.Context) {
	if ctx.Err() == nil && a.Output != outputJSON && onTerminal(a.err) {
		a.say("what becomes of tasks, until Ctrl-C")
	}
}

// event writes one line: programs read JSON by lines.
func (a *app) event(e *client.Event) error {
	if a.Output == outputJSON {
		return json.NewEncoder(a.out).Encode(e)
	}
	_, err := fmt.Fprintf(a.out, "%s  %-8s  %s  %s  %s\n", e.Time.In(time.Local).Format("15:04:05.000"), printable(string(e.State)),
		printable(e.TaskID), dash(printable(e.Name)), dash(printable(e.Queue)))
	return err
}
