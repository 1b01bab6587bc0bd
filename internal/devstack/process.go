package devstack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// pollInterval is how often a process or a port is asked again while waiting.
const pollInterval = 20 * time.Millisecond

// Process is a program that runs in a session of its own, known by its pid and
// the time it was started, so that a pid that has gone to somebody else is never
// taken for it. It needs no goroutine: its end is found by asking.
type Process struct {
	pid     int
	started string

	mu   sync.Mutex
	gone bool
}

// Spec says what [Spawn] starts.
type Spec struct {
	Path string
	Args []string
	Env  []string // the whole environment
	Dir  string
	Log  string // standard output and error are appended to this file
}

// Spawn starts a program in a session of its own and returns at once. The
// context bounds nothing after the start.
func Spawn(ctx context.Context, s Spec) (*Process, error) {
	out, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", s.Path, err)
	}
	defer func() { _ = out.Close() }()

	cmd := exec.CommandContext(context.WithoutCancel(ctx), s.Path, s.Args...)
	cmd.Env, cmd.Dir = s.Env, s.Dir
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", s.Path, err)
	}
	pid := cmd.Process.Pid
	// The child is reaped in Alive; a Wait here would need a goroutine that
	// outlives the tests that share a broker.
	_ = cmd.Process.Release()
	started, err := StartTime(pid)
	if err != nil {
		started = "" // It has ended already, which Alive will find.
	}
	return &Process{pid: pid, started: started}, nil
}

// Attach returns the process with this pid and start time, as [StartTime]
// reported it, and false when it does not run any more.
func Attach(pid int, started string) (*Process, bool) {
	if now, err := StartTime(pid); err != nil || started == "" || now != started {
		return nil, false
	}
	p := &Process{pid: pid, started: started}
	return p, p.Alive()
}

// PID returns the process id.
func (p *Process) PID() int { return p.pid }

// Started returns the start time, in the form that [Attach] takes.
func (p *Process) Started() string { return p.started }

// Alive reports whether the process still runs; a zombie does not. It does not
// block.
func (p *Process) Alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.alive()
}

func (p *Process) alive() bool {
	if p.gone {
		return false
	}
	got, err := syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
	if err == nil && got == 0 {
		return true // a child of ours that runs
	}
	if err == nil && got == p.pid {
		p.gone = true
		return false
	}
	// Not a child of ours: the process of an earlier command.
	started, err := StartTime(p.pid)
	p.gone = err != nil || started != p.started
	return !p.gone
}

// Signal sends a signal. It returns os.ErrProcessDone when the process has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.alive() {
		return os.ErrProcessDone
	}
	if err := syscall.Kill(p.pid, sig); err != nil {
		return fmt.Errorf("signal %d: %w", p.pid, err)
	}
	return nil
}

// Wait blocks until the process has ended or ctx has.
func (p *Process) Wait(ctx context.Context) error {
	return poll(ctx, func() bool { return !p.Alive() })
}

// Kill ends the process with SIGKILL and waits for its end. An ended process is
// no error.
func (p *Process) Kill() error {
	err := p.Signal(syscall.SIGKILL)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	if !soon(func() bool { return !p.Alive() }) {
		return fmt.Errorf("kill %d: it does not end", p.pid)
	}
	return nil
}

// Freeze stops the process with SIGSTOP and returns when nothing of it runs any
// more. It returns os.ErrProcessDone when the process has ended.
func (p *Process) Freeze() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if !soon(func() bool { return frozen(p.pid) || !p.Alive() }) {
		return fmt.Errorf("freeze %d: it goes on", p.pid)
	}
	return nil
}

// Thaw lets a frozen process go on.
func (p *Process) Thaw() error { return p.Signal(syscall.SIGCONT) }

// Stop asks the process to end with SIGTERM, also when it is frozen, and kills it
// when ctx ends first. An ended process is no error.
func (p *Process) Stop(ctx context.Context) error {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGCONT} {
		if err := p.Signal(sig); errors.Is(err, os.ErrProcessDone) {
			return nil
		} else if err != nil {
			return err
		}
	}
	if p.Wait(ctx) == nil {
		return nil
	}
	return p.Kill()
}

// poll asks until the answer is yes, or returns the context's error.
func poll(ctx context.Context, yes func() bool) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !yes() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return nil
}

// soon asks until the answer is yes, and returns false when it was not within ten
// seconds, which is ample for what the kernel does.
func soon(yes func() bool) bool {
	for end := time.Now().Add(10 * time.Second); !yes(); {
		if time.Now().After(end) {
			return false
		}
		<-time.After(pollInterval)
	}
	return true
}
