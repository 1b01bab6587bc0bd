package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/pkg/client"
)

type queuesCmd struct {
	List   queuesListCmd   `cmd:"" default:"1" help:"List the queues (the default)."`
	Pause  queuesPauseCmd  `cmd:"" help:"Let no worker take anything from a queue."`
	Resume queuesResumeCmd `cmd:"" help:"End a pause or a drain."`
	Drain  queuesDrainCmd  `cmd:"" help:"Let a queue take no new tasks, while its workers go on."`
	Purge  queuesPurgeCmd  `cmd:"" help:"Revoke all tasks that wait in a queue, after asking."`
}

type queuesListCmd struct{}

// Run lists the queues.
func (*queuesListCmd) Run(ctx context.Context, a *app) error {
	queues, err := ask(ctx, a, a.client.Queues)
	if err != nil {
		return err
	}
	return a.print(queues, func(w io.Writer) error {
		var rows [][]string
		for _, q := range queues {
			rows = append(rows, []string{
				q.Name, queueState(&q), count(q.Ready), count(q.Held), count(q.Dead), perSecond(q.RateIn), perSecond(q.RateOut), age(q.OldestAge),
				strconv.Itoa(q.Alive), short(strings.Join(q.Tasks, " "), 60),
			})
		}
		return table(w, []string{"QUEUE", "STATE", "READY", "HELD", "DEAD", "IN/S", "OUT/S", "OLDEST", "WORKERS", "TASKS"}, rows)
	})
}

func perSecond(rate *float64) string {
	if rate == nil {
		return "?"
	}
	return strconv.FormatFloat(*rate, 'f', 1, 64)
}

// age is that of the first task that waits.
func age(seconds *float64) string {
	switch {
	case seconds == nil:
		return "?"
	case *seconds == 0:
		return "-"
	}
	return (time.Duration(*seconds) * time.Second).String()
}

func queueState(q *client.Queue) string {
	switch {
	case q.Foreign:
		return "Celery's"
	case q.Drained:
		return "drained"
	}
	return string(q.State)
}

type queuesPauseCmd struct {
	Queue string `arg:"" complete:"queues" help:"Work queue."`
}

// Run pauses a queue.
func (c *queuesPauseCmd) Run(ctx context.Context, a *app) error {
	return a.steer(ctx, c.Queue, a.client.Pause)
}

type queuesResumeCmd struct {
	Queue string `arg:"" complete:"queues" help:"Work queue."`
}

// Run resumes a queue.
func (c *queuesResumeCmd) Run(ctx context.Context, a *app) error {
	return a.steer(ctx, c.Queue, a.client.Resume)
}

type queuesDrainCmd struct {
	Queue string        `arg:"" complete:"queues" help:"Work queue."`
	Wait  bool          `short:"w" help:"Wait until nothing is left in it."`
	For   time.Duration `placeholder:"DURATION" help:"With --wait, wait no longer than this."`
}

// Run drains a queue.
func (c *queuesDrainCmd) Run(ctx context.Context, a *app) error {
	if !c.Wait {
		return a.steer(ctx, c.Queue, a.client.Drain)
	}
	if err := tell(ctx, a, func(ctx context.Context) error { return a.client.Drain(ctx, c.Queue) }); err != nil {
		return err
	}
	bounded := ctx
	if c.For > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeoutCause(ctx, c.For, errLongest)
		defer cancel()
	}
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		q, err := ask(ctx, a, func(ctx context.Context) (*client.Queue, error) { return a.client.Queue(ctx, c.Queue) })
		if err != nil || q.Drained {
			return errors.Join(err, a.printQueue(q))
		}
		select {
		case <-look.C:
		case <-bounded.Done():
			if ctx.Err() != nil {
				return &outcome{exitInterrupted, "the queue goes on to drain: lovage queues resume " + c.Queue + " ends it"}
			}
			return errors.Join(a.printQueue(q), &outcome{exitUnfinished, "something is left in the queue, which goes on to drain"})
		}
	}
}

type queuesPurgeCmd struct {
	Queue  string `arg:"" complete:"queues" help:"Work queue."`
	Limit  int    `placeholder:"N" help:"At most so many, the first ones."`
	DryRun bool   `help:"Only count."`
	Yes    bool   `short:"y" help:"Do not ask."`
}

// Run revokes what waits in a queue.
func (c *queuesPurgeCmd) Run(ctx context.Context, a *app) error {
	if c.Limit < 0 {
		return wrong("--limit must not be negative")
	}
	waiting, err := ask(ctx, a, func(ctx context.Context) (int, error) { return a.client.CountWaiting(ctx, c.Queue) })
	if err != nil {
		return err
	}
	done := client.Purged{Name: c.Queue, Ready: waiting, DryRun: c.DryRun}
	if c.DryRun {
		return c.print(a, &done)
	}
	all := waiting
	if c.Limit > 0 {
		all = min(all, c.Limit)
	}
	if err := c.confirm(a, all); err != nil {
		return err
	}
	m := a.newMeter()
	defer m.clear()
	for more := all > 0; more; {
		p, err := a.client.Purge(ctx, c.Queue, min(all-done.Purged, most)) // which takes up to 25 s
		if err != nil {
			return err
		}
		done.Purged += p.Purged
		// What comes meanwhile is not meant.
		more = p.More && done.Purged < all
		m.show(float64(done.Purged)/float64(all), fmt.Sprintf("purge %s %d/%d", c.Queue, done.Purged, all))
	}
	m.clear()
	return c.print(a, &done)
}

func (c *queuesPurgeCmd) confirm(a *app, n int) error {
	if c.Yes || n == 0 {
		return nil
	}
	if !onTerminal(a.in) || !onTerminal(a.err) {
		return wrong("what is purged does not run: say --yes")
	}
	yes, err := a.confirm(fmt.Sprintf("Revoke %d tasks that wait in queue %s?", n, printable(c.Queue)))
	if err == nil && !yes {
		err = &outcome{exitRevoked, "nothing was purged"}
	}
	return err
}

func (c *queuesPurgeCmd) print(a *app, p *client.Purged) error {
	return a.print(p, func(w io.Writer) error {
		if p.DryRun {
			_, err := fmt.Fprintf(w, "%d tasks wait\n", p.Ready)
			return err
		}
		_, err := fmt.Fprintf(w, "%d of %d tasks revoked\n", p.Purged, p.Ready)
		return err
	})
}

func (a *app) steer(ctx context.Context, queue string, do func(context.Context, string) error) error {
	q, err := ask(ctx, a, func(ctx context.Context) (*client.Queue, error) {
		if err := do(ctx, queue); err != nil {
			return nil, err
		}
		return a.client.Queue(ctx, queue)
	})
	if p, ok := errors.AsType[*client.Problem](err); ok && p.Slug() == "not-found" {
		// It was steered, and nobody has announced a task of it.
		return nil
	}
	if err != nil {
		return err
	}
	return a.printQueue(q)
}

func (a *app) printQueue(q *client.Queue) error {
	if q == nil {
		return nil
	}
	return a.print(q, func(w io.Writer) error {
		return fields(w, "queue", q.Name, "state", queueState(q), "ready", count(q.Ready), "held", count(q.Held), "dead", count(q.Dead),
			"in", perSecond(q.RateIn)+" a second", "out", perSecond(q.RateOut)+" a second", "oldest waits", age(q.OldestAge), "workers", strconv.Itoa(q.Alive))
	})
}
