// Command devstack runs the development stack: a private RabbitMQ and Redis, the
// gateway and a worker. The Makefile is its usual caller.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

type cli struct {
	Up    upCommand    `cmd:"" help:"Start the stack in the background and wait until it answers."`
	Down  downCommand  `cmd:"" help:"Stop the stack; its state stays."`
	Clean cleanCommand `cmd:"" help:"Stop the stack and remove its state and the programs."`
	Run   runCommand   `cmd:"" help:"Start the stack, run a first task, serve until Ctrl-C."`
	Test  testCommand  `cmd:"" help:"Run a command with a RabbitMQ that its tests share."`
	Deps  depsCommand  `cmd:"" help:"Install what is missing, on Debian or Ubuntu as root."`
	Fuzz  fuzzCommand  `cmd:"" help:"Run every fuzz test for a while."`
	Vuln  vulnCommand  `cmd:"" help:"Look for known vulnerabilities with govulncheck."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := run(ctx, stop, os.Args[1:])
	stop()
	os.Exit(code)
}

// run parses the command line, does the command and returns the exit code. A
// second signal ends the program at once.
func run(ctx context.Context, stop func(), args []string) int {
	var c cli
	parser, err := kong.New(&c, kong.Name("devstack"),
		kong.Description("The development stack of Lovage."), kong.UsageOnError())
	if err != nil {
		fmt.Fprintln(os.Stderr, "devstack:", err)
		return 1
	}
	call, err := parser.Parse(args)
	parser.FatalIfErrorf(err)

	root, err := moduleRoot()
	if err != nil {
		fmt.Fprintln(os.Stderr, "devstack:", err)
		return 1
	}
	release := context.AfterFunc(ctx, stop)
	defer release()
	call.BindTo(ctx, (*context.Context)(nil))
	err = call.Run(newStack(root, os.Stdout))
	if exit, ok := errors.AsType[exitError](err); ok {
		return int(exit)
	}
	if err != nil && ctx.Err() != nil {
		fmt.Fprintln(os.Stderr, "devstack: interrupted")
		return 130
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "devstack:", err)
		return 1
	}
	return 0
}

// exitError is the exit code of a command that devstack ran.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }
