package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lovage-mq/lovage/pkg/client"
)

type doctorCmd struct{}

// The findings of a check, the worst last.
const (
	well   = "ok"
	warned = "warning"
	ill    = "failed"
)

// check is one thing that was looked at.
type check struct {
	Name    string `json:"check"`
	Finding string `json:"finding"`
	Detail  string `json:"detail"`
	// Todo is what to do about it.
	Todo string `json:"todo,omitempty"`
}

// skew is a difference of clocks that does not matter yet.
const skew = 2 * time.Second

// Run checks what can be seen from here.
func (*doctorCmd) Run(ctx context.Context, a *app) error {
	asked := time.Now()
	h, err := ask(ctx, a, a.client.Ready)
	answered := time.Now()
	if errors.Is(err, context.Canceled) {
		return err
	}
	if err != nil {
		return errors.Join(a.report([]check{a.unreachable(err)}), &outcome{code: exitGateway})
	}
	checks := []check{
		{"gateway", well, fmt.Sprintf("%s has answered in %v", a.client.BaseURL, answered.Sub(asked).Round(time.Millisecond)), ""},
		clock(h.Time, asked, answered), broker(h), store(h), tasks(h),
	}
	if h.Status != "ok" {
		checks[0] = check{"gateway", warned, a.client.BaseURL + " is " + h.Status, "It is about to stop: ask another one, or wait until it is back."}
	}
	checks = append(checks, a.fleet(ctx)...)
	err = a.report(checks)
	for _, c := range checks {
		if c.Finding == ill {
			return errors.Join(err, &outcome{code: exitFailure})
		}
	}
	return err
}

func (a *app) report(checks []check) error {
	return a.print(checks, func(w io.Writer) error {
		var rows [][]string
		for _, c := range checks {
			rows = append(rows, []string{c.Name, c.Finding, c.Detail})
		}
		err := table(w, []string{"CHECK", "FINDING", "WHAT WAS SEEN"}, rows)
		for _, c := range checks {
			if c.Todo != "" {
				_, also := fmt.Fprintf(w, "\n%s: %s\n", c.Name, printable(c.Todo))
				err = errors.Join(err, also)
			}
		}
		return err
	})
}

func (a *app) unreachable(err error) check {
	c := check{Name: "gateway", Finding: ill, Detail: err.Error(), Todo: "Is it running, and is " + a.client.BaseURL +
		" its address? Name it by --gateway, LOVAGE_GATEWAY or a profile; make run starts one of your own."}
	p, ok := errors.AsType[*client.Problem](err)
	switch {
	case ok && p.Slug() == "host-not-allowed":
		c.Todo = "The gateway does not answer to this host name: add it to LOVAGE_ALLOWED_HOSTS of the gateway."
	case ok && p.Slug() == "":
		c.Todo = "What answers at " + a.client.BaseURL + " is no gateway, or something in between has none behind it."
	}
	return c
}

// clock compares this clock with that of the gateway, which says whole seconds.
func clock(theirs, asked, answered time.Time) check {
	if theirs.IsZero() {
		return check{"clock", warned, "the gateway does not say what time it is", "Something in between takes the header Date away."}
	}
	off := time.Duration(0)
	switch {
	case theirs.Add(time.Second).Before(asked):
		off = theirs.Add(time.Second).Sub(asked)
	case theirs.After(answered):
		off = theirs.Sub(answered)
	}
	off = off.Round(100 * time.Millisecond)
	switch {
	case off > skew:
		return check{"clock", warned, fmt.Sprintf("the gateway's is %v ahead of this one", off), "Start a time service (NTP) on both machines: an --eta or --expires of yours comes too early."}
	case off < -skew:
		return check{"clock", warned, fmt.Sprintf("the gateway's is %v behind this one", -off), "Start a time service (NTP) on both machines: an --eta or --expires of yours comes too late."}
	}
	return check{"clock", well, "no difference that matters", ""}
}

func broker(h *client.Health) check {
	c := check{"rabbitmq", ill, h.RabbitMQ, "The gateway does not reach RabbitMQ and refuses submissions: check that it runs, and LOVAGE_AMQP_URL of the gateway, whose log says more."}
	switch h.RabbitMQ {
	case "up":
		return check{"rabbitmq", well, h.RabbitMQ, ""}
	case "blocked":
		c.Todo = "RabbitMQ takes no messages because memory or disk is short (an alarm): rabbitmqctl status says which. Submissions are refused until it is over."
	}
	return c
}

func store(h *client.Health) check {
	if h.Redis == "up" {
		return check{"redis", well, h.Redis, ""}
	}
	c := check{"redis", ill, h.Redis, "The gateway does not reach Redis. Submitting works, states and results do not: check that it runs, and LOVAGE_REDIS_URL of the gateway."}
	if h.Redis == "unknown" {
		c.Finding, c.Todo = warned, "The gateway has just started: ask again in a few seconds."
	}
	return c
}

func tasks(h *client.Health) check {
	switch {
	case h.Catalog != "loaded":
		return check{"catalog", warned, cmp.Or(h.Catalog, "missing"), "The gateway has not read the catalog since it started: it needs Redis for that."}
	case h.Tasks == 0:
		return check{"catalog", warned, "no tasks", "No worker has ever announced a task: start one with the same Redis."}
	}
	return check{"catalog", well, fmt.Sprintf("%d tasks", h.Tasks), ""}
}

// fleet looks at workers and queues, as far as the gateway knows them.
func (a *app) fleet(ctx context.Context) []check {
	var checks []check
	if workers, err := ask(ctx, a, a.client.Workers); err != nil {
		checks = append(checks, check{"workers", warned, err.Error(), ""})
	} else {
		checks = append(checks, fleetOf(workers))
	}
	queues, err := ask(ctx, a, a.client.Queues)
	if err != nil {
		return append(checks, check{"queues", warned, err.Error(), ""})
	}
	good := len(checks)
	for _, q := range queues {
		name := "queue " + q.Name
		switch {
		case q.State == client.QueuePaused:
			checks = append(checks, check{name, warned, "paused", "Its workers take nothing from it: lovage queues resume " + q.Name})
		case q.State == client.QueueDraining:
			checks = append(checks, check{name, warned, "draining", "It takes no new tasks: lovage queues resume " + q.Name})
		case q.Alive == 0 && !q.Foreign:
			checks = append(checks, check{name, warned, "no live worker", "What is submitted to it waits: start a worker of it."})
		}
	}
	if len(checks) == good {
		checks = append(checks, check{"queues", well, fmt.Sprintf("%d, all running with workers", len(queues)), ""})
	}
	return checks
}

func fleetOf(workers []client.Worker) check {
	if len(workers) == 0 {
		return check{"workers", warned, "none alive", "Nothing that is submitted runs: start a worker, and look at its log."}
	}
	busy, slots := 0, 0
	for _, w := range workers {
		busy += w.Busy
		slots += w.Slots
	}
	c := check{"workers", well, fmt.Sprintf("%d alive, %d of %d slots busy", len(workers), busy, slots), ""}
	if slots > 0 && busy >= slots {
		c.Finding, c.Todo = warned, "All slots are busy: more workers, or more slots, would take more tasks at a time."
	}
	return c
}
