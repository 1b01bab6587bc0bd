package main

import (
	"context"
	"io"
	"strconv"

	"github.com/lovage-mq/lovage/pkg/client"
)

type deadCmd struct {
	List       deadListCmd       `cmd:"" help:"List the dead letters of a queue, the oldest first."`
	Groups     deadGroupsCmd     `cmd:"" help:"Count the dead letters of a queue by task, reason and error."`
	Show       deadShowCmd       `cmd:"" help:"Show a dead letter with its input."`
	Redrive    deadRedriveCmd    `cmd:"" help:"Send dead letters again."`
	Discard    deadDiscardCmd    `cmd:"" help:"Throw dead letters away."`
	Operations deadOperationsCmd `cmd:"" help:"List the redrives and discards of a queue."`
	Follow     deadFollowCmd     `cmd:"" help:"Follow a redrive or discard to its end."`
	Stop       deadStopCmd       `cmd:"" help:"Stop a redrive or discard."`
}

// deadFilter selects dead letters.
type deadFilter struct {
	Name   string `placeholder:"NAME" complete:"tasks" help:"Only tasks of this kind."`
	Reason string `placeholder:"REASON" help:"Only those that are dead for this reason."`
	Group  string `placeholder:"GROUP" help:"Only those of this group, see lovage dead groups."`
	Since  past   `placeholder:"TIME" help:"Only those that came at or after this time, or no longer ago than this duration."`
	Until  past   `placeholder:"TIME" help:"Only those that came before this time, or longer ago than this duration."`
}

func (f *deadFilter) filter() client.DeadFilter {
	return client.DeadFilter{Name: f.Name, Reason: f.Reason, Group: f.Group, Since: f.Since.Time, Until: f.Until.Time}
}

type deadListCmd struct {
	Queue string `arg:"" complete:"queues" help:"Work queue."`

	deadFilter

	Limit int `short:"n" default:"50" help:"At most so many; 0 for all."`
}

// Run lists dead letters.
func (c *deadListCmd) Run(ctx context.Context, a *app) error {
	letters, err := pages(c.Limit, func(limit int, cursor string) ([]client.DeadLetter, string, error) {
		p, err := ask(ctx, a, func(ctx context.Context) (*client.DeadPage, error) {
			return a.client.Dead(ctx, c.Queue, c.filter(), limit, cursor)
		})
		if err != nil {
			return nil, "", err
		}
		return p.DeadLetters, p.NextCursor, nil
	})
	if err != nil {
		return err
	}
	return a.print(letters, func(w io.Writer) error {
		var rows [][]string
		for _, l := range letters {
			rows = append(rows, []string{dash(l.TaskID), dash(l.Name), l.Reason, strconv.Itoa(l.Attempts), strconv.Itoa(l.Run), dash(moment(l.DateDead)), dash(short(l.Error, 60))})
		}
		return table(w, []string{"ID", "NAME", "REASON", "ATTEMPTS", "RUN", "DEAD SINCE", "ERROR"}, rows)
	})
}

type deadGroupsCmd struct {
	Queue string `arg:"" complete:"queues" help:"Work queue."`

	deadFilter
}

// Run counts dead letters.
func (c *deadGroupsCmd) Run(ctx context.Context, a *app) error {
	groups, err := ask(ctx, a, func(ctx context.Context) ([]client.DeadGroup, error) {
		return a.client.DeadGroups(ctx, c.Queue, c.filter())
	})
	if err != nil {
		return err
	}
	return a.print(groups, func(w io.Writer) error {
		var rows [][]string
		for _, g := range groups {
			rows = append(rows, []string{g.Group, strconv.Itoa(g.Count), dash(g.Name), g.Reason, dash(moment(g.First)), dash(moment(g.Last)), dash(short(g.Error, 60))})
		}
		return table(w, []string{"GROUP", "COUNT", "NAME", "REASON", "FIRST", "LAST", "ERROR"}, rows)
	})
}

type deadShowCmd struct {
	Queue string `arg:"" complete:"queues" help:"Work queue."`
	ID    string `arg:"" help:"Id of the task."`
}

// Run shows a dead letter.
func (c *deadShowCmd) Run(ctx context.Context, a *app) error {
	l, err := ask(ctx, a, func(ctx context.Context) (*client.DeadLetterWhole, error) {
		return a.client.DeadLetter(ctx, c.Queue, c.ID)
	})
	if err != nil {
		return err
	}
	return a.print(l, func(w io.Writer) error {
		return fields(w, "id", l.TaskID, "name", l.Name, "reason", l.Reason, "error", l.Error, "group", l.Group,
			"attempts", strconv.Itoa(l.Attempts), "run", strconv.Itoa(l.Run), "worker", l.Worker, "created", moment(l.DateCreated),
			"dead since", moment(l.DateDead), "args", compact(l.Args), "input", compact(l.Kwargs), "stack", l.Stack)
	})
}
