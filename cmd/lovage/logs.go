package main

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"slices"
	"time"

	"github.com/lovage-mq/lovage/pkg/client"
)

type logsCmd struct {
	ID     string `arg:"" help:"Id of the task."`
	Follow bool   `short:"f" help:"Go on until the task has ended."`
}

// Run shows what a task has logged.
func (c *logsCmd) Run(ctx context.Context, a *app) error {
	if !c.Follow {
		lines, err := c.read(ctx, a)
		if err != nil {
			return err
		}
		return a.print(lines, func(w io.Writer) error { return showLines(w, lines) })
	}
	if a.Output == outputJSON {
		return wrong("-o json is for all of them at once: leave --follow out")
	}
	look := time.NewTicker(time.Second)
	defer look.Stop()
	var shown []client.LogLine
	for {
		// Whether it has ended first: what it logs at its end is shown then.
		t, err := ask(ctx, a, func(ctx context.Context) (*client.Task, error) { return a.client.Get(ctx, c.ID) })
		if err != nil {
			return err
		}
		lines, err := c.read(ctx, a)
		if err != nil {
			return err
		}
		if err := showLines(a.out, after(lines, shown)); err != nil {
			return err
		}
		if t.State.Final() && reflect.DeepEqual(lines, shown) {
			return nil
		}
		shown = lines
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (c *logsCmd) read(ctx context.Context, a *app) ([]client.LogLine, error) {
	return ask(ctx, a, func(ctx context.Context) ([]client.LogLine, error) { return a.client.Log(ctx, c.ID) })
}

// after returns the lines behind the last one that was shown, or all of them when
// that is gone.
func after(lines, shown []client.LogLine) []client.LogLine {
	if len(shown) == 0 {
		return lines
	}
	for i, line := range slices.Backward(lines) {
		if reflect.DeepEqual(line, shown[len(shown)-1]) {
			return lines[i+1:]
		}
	}
	return lines
}

func showLines(w io.Writer, lines []client.LogLine) error {
	for _, l := range lines {
		fields := compact(l.Fields)
		if fields == "{}" {
			fields = ""
		}
		attempt := ""
		if l.Attempt > 1 {
			attempt = fmt.Sprintf("attempt %d: ", l.Attempt)
		}
		line := fmt.Sprintf("%s  %-5s  %s%s  %s", l.Time.Local().Format("2006-01-02 15:04:05.000"), l.Level, attempt, printable(l.Message), printable(fields))
		if l.Truncated {
			line += "(its fields were too long)"
		}
		if l.Stack != "" {
			line += "\n" + printableLines(l.Stack)
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}
