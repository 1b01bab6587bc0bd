package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/lovage-mq/lovage/pkg/client"
)

type submitCmd struct {
	Name string `arg:"" complete:"tasks" help:"Kind of the task, see lovage catalog."`

	Field []string `short:"i" sep:"none" placeholder:"NAME=VALUE" help:"A field of the input; repeat it for each. A value is text where the task says so, else JSON, or text when it is none."`
	Input string   `placeholder:"JSON" help:"The input as a JSON object, @FILE for a file that has it, or - for standard input."`
	Args  string   `placeholder:"JSON" help:"Positional arguments as a JSON array, @FILE or -, beside or instead of fields."`

	submitOptions

	Wait bool          `short:"w" help:"Wait until the task has ended, with its progress on a terminal, and print its result."`
	For  time.Duration `placeholder:"DURATION" help:"With --wait, wait no longer than this."`
}

// submitOptions are those of the task.
type submitOptions struct {
	ID             string        `placeholder:"ID" help:"Id of the task. Sending the same id again is a safe second try."`
	Key            string        `placeholder:"KEY" help:"Idempotency key: however often a submission comes with it, there is one task."`
	Queue          string        `placeholder:"QUEUE" complete:"queues" help:"Work queue, if not the task's own. Needed for a task that is not in the catalog."`
	Countdown      time.Duration `placeholder:"DURATION" help:"Start after this time."`
	ETA            future        `name:"eta" placeholder:"TIME" help:"Start at this time, like 2026-01-31T12:00:00Z."`
	Expires        future        `placeholder:"TIME" help:"Do not start after this time or duration."`
	MaxRetries     *int          `placeholder:"N" help:"How often to retry, if not as the task says."`
	TimeLimit      time.Duration `placeholder:"DURATION" help:"Hard limit of one attempt."`
	SoftTimeLimit  time.Duration `placeholder:"DURATION" help:"Soft limit of one attempt."`
	IgnoreResult   bool          `help:"Keep no record and no result."`
	Retention      time.Duration `placeholder:"DURATION" help:"How long to keep the result."`
	CallbackURL    string        `name:"callback-url" placeholder:"URL" help:"Call this URL when the task has ended; the gateway has to allow its host."`
	PublishTimeout time.Duration `placeholder:"DURATION" help:"How long RabbitMQ may take to confirm the task."`
}

func (o *submitOptions) options() client.Options {
	return client.Options{
		TaskID: o.ID, IdempotencyKey: o.Key, Queue: o.Queue, Countdown: o.Countdown, ETA: o.ETA.Time, Expires: o.Expires.Time,
		MaxRetries: o.MaxRetries, TimeLimit: o.TimeLimit, SoftTimeLimit: o.SoftTimeLimit, IgnoreResult: o.IgnoreResult,
		Retention: o.Retention, CallbackURL: o.CallbackURL, Timeout: o.PublishTimeout,
	}
}

// Run submits a task.
func (c *submitCmd) Run(ctx context.Context, a *app) error {
	if c.Wait && c.IgnoreResult {
		return wrong("nobody can wait for a task with --ignore-result")
	}
	input, err := c.input(ctx, a)
	if err != nil {
		return err
	}
	t, err := ask(ctx, a, func(ctx context.Context) (*client.Task, error) { return c.submit(ctx, a, input) })
	if err != nil {
		return err
	}
	if c.Wait {
		return a.await(ctx, t.TaskID, c.For)
	}
	return a.print(t, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, t.TaskID)
		return err
	})
}

func (c *submitCmd) input(ctx context.Context, a *app) (json.RawMessage, error) {
	switch {
	case c.Input != "" && len(c.Field) > 0:
		return nil, wrong("give the input by --input or by -i, not both")
	case c.Input != "":
		return a.readJSON("--input", c.Input)
	case len(c.Field) > 0:
		return a.fieldsOf(ctx, c.Name, c.Field)
	}
	return nil, nil
}

// submit uses the envelope where only that will do: it takes positional
// arguments, and tasks that are not in the catalog.
func (c *submitCmd) submit(ctx context.Context, a *app, input json.RawMessage) (*client.Task, error) {
	o := c.options()
	e := client.Envelope{Task: c.Name, Options: o}
	if input != nil {
		e.Kwargs = input
	}
	if c.Args != "" {
		raw, err := a.readJSON("--args", c.Args)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &e.Args); err != nil {
			return nil, wrong("--args must be a JSON array")
		}
	}
	if c.Args != "" || c.Queue != "" {
		return a.client.SubmitEnvelope(ctx, e)
	}
	if input == nil {
		return a.client.Submit(ctx, c.Name, nil, o)
	}
	return a.client.Submit(ctx, c.Name, input, o)
}

// await follows a task to its end, prints its result, and returns how it ended.
func (a *app) await(ctx context.Context, id string, longest time.Duration) error {
	t, err := a.follow(ctx, id, longest)
	switch {
	case err == nil:
	case errors.Is(err, errLongest):
		return &outcome{exitUnfinished, fmt.Sprintf("task %s has not ended within %v; it goes on: lovage wait %s", id, longest, id)}
	case errors.Is(err, context.Canceled):
		return &outcome{exitInterrupted, fmt.Sprintf("task %s goes on: lovage wait %s, or lovage cancel %s", id, id, id)}
	default:
		return err
	}
	err = a.print(t, func(w io.Writer) error {
		if text := compact(t.Result); text != "" {
			_, err := fmt.Fprintln(w, text)
			return err
		}
		return nil
	})
	return errors.Join(err, ended(t))
}

var errLongest = errors.New("the wait is over")

// follow shows the progress of a task on a terminal until it has ended.
func (a *app) follow(ctx context.Context, id string, longest time.Duration) (*client.Task, error) {
	bounded := ctx
	if longest > 0 {
		var cancel context.CancelFunc
		bounded, cancel = context.WithTimeoutCause(ctx, longest, errLongest)
		defer cancel()
	}
	m := a.newMeter()
	defer m.clear()
	var last *client.Task
	for t, err := range a.client.Follow(bounded, id) {
		if err != nil {
			if bounded.Err() != nil {
				err = context.Cause(bounded)
			}
			return last, err
		}
		last = t
		m.task(t)
	}
	return last, nil
}
