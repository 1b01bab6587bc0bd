package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lovage-mq/lovage/internal/version"
	"github.com/lovage-mq/lovage/pkg/client"
)

// commands is everything that can be said to the program.
type commands struct {
	globals

	Submit submitCmd `cmd:"" help:"Submit a task, and wait for it with --wait."`
	Batch  batchCmd  `cmd:"" help:"Submit many tasks, one JSON envelope a line."`
	Get    getCmd    `cmd:"" help:"Show a task."`
	Wait   waitCmd   `cmd:"" help:"Wait until a task has ended; the exit code tells how."`
	List   listCmd   `cmd:"" help:"List tasks, newest first."`
	Logs   logsCmd   `cmd:"" help:"Show what a task has logged."`
	Tail   tailCmd   `cmd:"" help:"Show what becomes of tasks, as it happens."`
	Cancel cancelCmd `cmd:"" help:"Cancel tasks that have not ended."`
	Retry  retryCmd  `cmd:"" help:"Run tasks again that have failed or were revoked."`
	Delete deleteCmd `cmd:"" help:"Delete tasks that have ended."`

	Operations operationsCmd `cmd:"" help:"List, follow and stop what is done to many tasks."`

	Queues  queuesCmd  `cmd:"" help:"List, pause, drain, resume and purge queues."`
	Dead    deadCmd    `cmd:"" help:"Look at dead letters, send them again or discard them."`
	Workers workersCmd `cmd:"" help:"List, look at and steer workers."`
	Catalog catalogCmd `cmd:"" help:"List what tasks there are, or show one."`
	Audit   auditCmd   `cmd:"" help:"List who has steered what, the newest first."`
	Keys    keysCmd    `cmd:"" help:"Make, list, revoke and rotate the API keys of gateways."`
	Doctor  doctorCmd  `cmd:"" help:"Check the gateway and what it needs, and say what to do."`

	local

	// The gateway matters to these only when there is one.
	Completion completionCmd `cmd:"" offline:"" help:"Print what makes a shell complete words for this program."`
	Complete   completeCmd   `cmd:"" offline:"" hidden:"" help:"Print how the last word can go on."`
}

type globals struct {
	Gateway string           `placeholder:"URL" xor:"gateway" help:"Where the gateway is. Without it: the profile, $LOVAGE_GATEWAY, or ${default_gateway}."`
	Profile string           `placeholder:"NAME" xor:"gateway" complete:"profiles" help:"Gateway of this name in the configuration file, instead of its default."`
	Output  string           `short:"o" enum:"table,json" default:"table" help:"What to print: table for people, json for programs."`
	Timeout time.Duration    `default:"15s" help:"How long an answer of the gateway may take."`
	Version kong.VersionFlag `help:"Print the version."`
}

// app is what a command works with.
type app struct {
	globals

	in       io.Reader
	out, err io.Writer
	parser   *kong.Kong
	client   *client.Client
}

// run runs the command that the arguments name and returns the exit code.
func run(ctx context.Context, args []string) int {
	var c commands
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr}
	parser, err := kong.New(&c, kong.Name("lovage"), kong.Description("Submits tasks to a Lovage gateway, follows them, and steers queues and dead letters."),
		kong.UsageOnError(), kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.Bind(a), kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Vars{"version": version.String(), "default_gateway": defaultGateway})
	if err != nil {
		return a.fail(err)
	}
	a.parser = parser
	parsed, err := parser.Parse(args)
	if err != nil {
		return a.fail(&usageError{fmt.Errorf("%w (see lovage --help)", err)})
	}
	a.globals = c.globals
	if a.client, err = a.connect(os.Getenv); err != nil && !parsed.Selected().Tag.Has("offline") {
		return a.fail(err)
	}
	return a.fail(parsed.Run())
}

// brief is the context of one call of the gateway.
func (a *app) brief(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, a.Timeout, errNoAnswer)
}

var errNoAnswer = errors.New("no answer in time")

// ask makes one call of the gateway within the time that it may take.
func ask[T any](ctx context.Context, a *app, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := a.brief(ctx)
	defer cancel()
	return call(ctx)
}

// tell is ask for a call without an answer.
func tell(ctx context.Context, a *app, call func(context.Context) error) error {
	ctx, cancel := a.brief(ctx)
	defer cancel()
	return call(ctx)
}
