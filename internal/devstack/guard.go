package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// guardScript reads the pids that it watches over, one a line, until its input
// ends, which is when the process that owns it is gone. Then it kills what is
// left and removes the directory. "clear" forgets the pids, "keep" the directory too.
const guardScript = `trap '' HUP INT TERM
pids=
while read -r word; do
	case $word in
	clear) pids= ;;
	keep) pids= && set -- '' ;;
	*) pids="$pids $word" ;;
	esac
done
[ -z "$pids" ] || kill -9 $pids 2>/dev/null
[ -z "$1" ] || rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }`

// guard is a shell that outlives this process by a moment, to end what this
// process has started even when it is killed with SIGKILL. The kernel's parent
// death signal would be tied to the life of one thread, and would neither reach
// epmd's descendants nor remove files.
type guard struct {
	pipe *os.File
	proc *Process
}

// newGuard starts a guard that removes dir at the end, or nothing if it is empty.
func newGuard(ctx context.Context, dir string) (*guard, error) {
	in, out, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start guard: %w", err)
	}
	defer func() { _ = in.Close() }()
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "/bin/sh", "-c", guardScript, "sh", dir)
	cmd.Dir = "/"
	cmd.Stdin = in
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		_ = out.Close()
		return nil, fmt.Errorf("start guard: %w", err)
	}
	started, _ := StartTime(cmd.Process.Pid)
	g := &guard{pipe: out, proc: &Process{pid: cmd.Process.Pid, started: started}}
	_ = cmd.Process.Release()
	return g, nil
}

// watch makes the guard responsible for these processes and no others. A nil
// guard watches nothing.
func (g *guard) watch(procs ...*Process) error {
	if g == nil {
		return nil
	}
	var words strings.Builder
	words.WriteString("clear\n")
	for _, p := range procs {
		_, _ = fmt.Fprintln(&words, p.PID())
	}
	return g.tell(words.String())
}

// dismiss ends the guard without its last duty.
func (g *guard) dismiss() error {
	if g == nil {
		return nil
	}
	return errors.Join(g.tell("keep\n"), g.release())
}

func (g *guard) tell(words string) error {
	if _, err := g.pipe.WriteString(words); err != nil {
		return fmt.Errorf("tell guard: %w", err)
	}
	return nil
}

// release ends the guard, which does its last duty, and waits for it.
func (g *guard) release() error {
	if g == nil {
		return nil
	}
	_ = g.pipe.Close()
	if !soon(func() bool { return !g.proc.Alive() }) {
		return g.proc.Kill()
	}
	return nil
}
