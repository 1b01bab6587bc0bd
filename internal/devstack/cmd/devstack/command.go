package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/lovage-mq/lovage/internal/devstack"
)

type testCommand struct {
	Command []string `arg:"" passthrough:"" help:"The command, after --."`
}

// Run starts a broker, runs the command with its address in the environment and
// ends with the command's exit code. However this process ends, the broker does
// not outlive it.
func (c testCommand) Run(ctx context.Context, s *stack) error {
	command := c.Command
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return errors.New("test: no command given")
	}
	r, err := devstack.StartRabbitMQ(ctx, devstack.RabbitMQOptions{})
	if err != nil {
		return err
	}
	err = s.execute(ctx, command, devstack.BrokerVariable+"="+r.Broker().String())
	return errors.Join(err, r.Close())
}

// execute runs a command in a process group of its own. A signal to us ends the
// whole group: `go test` alone would leave its test binaries behind.
func (s *stack) execute(ctx context.Context, command []string, env ...string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = s.out, os.Stderr
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // Mostly there is nobody left.
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return wrapped("run "+command[0], err)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return exitError(128 + int(status.Signal()))
	}
	return exitError(exit.ExitCode())
}

func wrapped(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", doing, err)
}
