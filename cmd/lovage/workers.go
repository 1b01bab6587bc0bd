package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/pkg/client"
)

type workersCmd struct {
	List  workersListCmd  `cmd:"" default:"1" help:"List the workers that are alive (the default)."`
	Show  workersShowCmd  `cmd:"" help:"Show a worker and what it runs."`
	Slots workersSlotsCmd `cmd:"" help:"Change how many tasks a worker runs at a time, until its process ends."`
	Stop  workersStopCmd  `cmd:"" help:"Let a worker finish what it runs and end."`
	Dump  workersDumpCmd  `cmd:"" help:"Show what the goroutines of a running task are doing."`
}

type workersListCmd struct{}

// Run lists the workers.
func (*workersListCmd) Run(ctx context.Context, a *app) error {
	workers, err := ask(ctx, a, a.client.Workers)
	if err != nil {
		return err
	}
	return a.print(workers, func(w io.Writer) error {
		var rows [][]string
		for _, one := range workers {
			rows = append(rows, []string{
				one.Name, fmt.Sprintf("%d/%d", one.Busy, one.Slots), longest(&one), size(one.Memory.RSS), strings.Join(one.Queues, " "),
				moment(one.Started), one.Version,
			})
		}
		return table(w, []string{"WORKER", "BUSY", "LONGEST", "MEMORY", "QUEUES", "STARTED", "VERSION"}, rows)
	})
}

// longest is the task that a worker has run for longest.
func longest(w *client.Worker) string {
	if len(w.Running) == 0 {
		return "-"
	}
	return w.Running[0].Name + " " + lasted(w.Running[0].Seconds)
}

func lasted(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// size writes bytes in MiB, as far as they are known.
func size(bytes int64) string {
	if bytes == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
}

type workersShowCmd struct {
	Worker string `arg:"" complete:"workers" help:"Name of the worker."`
}

// Run shows a worker.
func (c *workersShowCmd) Run(ctx context.Context, a *app) error {
	worker, err := ask(ctx, a, func(ctx context.Context) (*client.Worker, error) { return a.client.Worker(ctx, c.Worker) })
	if err != nil {
		return err
	}
	return a.print(worker, func(w io.Writer) error { return showWorker(w, worker) })
}

func showWorker(w io.Writer, one *client.Worker) error {
	state, abandoned := "running", ""
	if one.Stopping {
		state = "stopping"
	}
	if one.Abandoned > 0 {
		abandoned = fmt.Sprint(one.Abandoned)
	}
	err := fields(w, "worker", one.Name, "state", state, "host", one.Host, "pid", fmt.Sprint(one.PID), "version", one.Version,
		"busy", fmt.Sprintf("%d of %d slots", one.Busy, one.Slots), "left behind", abandoned,
		"memory", size(one.Memory.RSS), "heap", size(one.Memory.Heap), "goroutines", fmt.Sprint(one.Goroutines),
		"queues", strings.Join(one.Queues, " "), "tasks", strings.Join(one.Tasks, " "), "started", moment(one.Started), "last seen", moment(one.LastSeen))
	if err != nil || len(one.Running) == 0 {
		return err
	}
	var rows [][]string
	for _, t := range one.Running {
		rows = append(rows, []string{t.TaskID, t.Name, t.Queue, fmt.Sprint(t.Attempt), lasted(t.Seconds)})
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if err := table(w, []string{"ID", "NAME", "QUEUE", "ATTEMPT", "RUNS FOR"}, rows); err != nil || one.Busy <= len(rows) {
		return err
	}
	_, err = fmt.Fprintf(w, "and %d more\n", one.Busy-len(rows))
	return err
}

type workersSlotsCmd struct {
	Worker string `arg:"" complete:"workers" help:"Name of the worker."`
	Slots  int    `arg:"" help:"How many tasks, from 0 to 10000."`
}

// Run changes how many tasks a worker runs.
func (c *workersSlotsCmd) Run(ctx context.Context, a *app) error {
	return a.tellWorker(ctx, func(ctx context.Context) (*client.Steered, error) { return a.client.SetSlots(ctx, c.Worker, c.Slots) })
}

type workersStopCmd struct {
	Worker string `arg:"" complete:"workers" help:"Name of the worker."`
}

// Run stops a worker.
func (c *workersStopCmd) Run(ctx context.Context, a *app) error {
	return a.tellWorker(ctx, func(ctx context.Context) (*client.Steered, error) { return a.client.StopWorker(ctx, c.Worker) })
}

func (a *app) tellWorker(ctx context.Context, do func(context.Context) (*client.Steered, error)) error {
	s, err := ask(ctx, a, do)
	if err != nil {
		return err
	}
	return a.print(s, func(w io.Writer) error {
		return fields(w, "worker", s.Worker, "status", s.Status, "busy", fmt.Sprintf("%d of %d slots", s.Busy, s.Slots))
	})
}

type workersDumpCmd struct {
	ID     string `arg:"" help:"Id of a task that runs."`
	Worker string `placeholder:"NAME" complete:"workers" help:"Worker that runs it; without it, the one that the task names."`
}

// Run shows the goroutines of a task.
func (c *workersDumpCmd) Run(ctx context.Context, a *app) error {
	worker := c.Worker
	if worker == "" {
		t, err := ask(ctx, a, func(ctx context.Context) (*client.Task, error) { return a.client.Get(ctx, c.ID) })
		if err != nil {
			return err
		}
		if worker = t.Worker; worker == "" || t.State.Final() {
			return &outcome{exitGateway, fmt.Sprintf("task %s is %s: no worker runs it", c.ID, t.State)}
		}
	}
	d, err := ask(ctx, a, func(ctx context.Context) (*client.Dump, error) { return a.client.Dump(ctx, worker, c.ID) })
	if err != nil {
		return err
	}
	return a.print(d, func(w io.Writer) error {
		if d.Truncated {
			a.say("the dump is cut off at 64 KiB")
		}
		_, err := io.WriteString(w, printableLines(d.Dump)+"\n")
		return err
	})
}
