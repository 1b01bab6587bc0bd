package devstack

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Spawn(t.Context(), Spec{
		Path: "/bin/sh", Args: []string{"-c", script},
		Env: os.Environ(), Log: filepath.Join(t.TempDir(), "log"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Kill()) })
	return p
}

func TestProcessIsFoundAgainByPIDAndStartTime(t *testing.T) {
	t.Parallel()
	p := shell(t, "exec sleep 60")
	again, running := Attach(p.PID(), p.Started())
	require.True(t, running)
	require.True(t, again.Alive())

	_, running = Attach(p.PID(), p.Started()+"1")
	require.False(t, running, "another process that has got the pid")
	_, running = Attach(os.Getpid(), "")
	require.False(t, running, "a process that was never recorded")
	_, running = Attach(0, "1")
	require.False(t, running)

	require.NoError(t, p.Kill())
	require.False(t, again.Alive())
	require.ErrorIs(t, again.Signal(syscall.SIGTERM), os.ErrProcessDone)
	require.NoError(t, again.Kill())
	require.NoError(t, again.Stop(t.Context()))
}

func TestZombieIsNotAlive(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "/bin/sh", "-c", "exec sleep 60")
	require.NoError(t, cmd.Start())
	started, err := StartTime(cmd.Process.Pid)
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Kill())
	require.Eventually(t, func() bool {
		_, err := StartTime(cmd.Process.Pid)
		return err != nil
	}, 5*time.Second, pollInterval)
	_, running := Attach(cmd.Process.Pid, started)
	require.False(t, running)
}

func TestStopKillsWhatDoesNotEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := shell(t, "trap '' TERM; : >"+dir+"/ready; while :; do sleep 1; done")
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "ready"))
		return err == nil
	}, 5*time.Second, pollInterval)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	require.NoError(t, p.Stop(ctx))
	require.False(t, p.Alive())
}

func TestSpawnedProgramHasASessionOfItsOwn(t *testing.T) {
	t.Parallel()
	p := shell(t, "exec sleep 60")
	group, err := syscall.Getpgid(p.PID())
	require.NoError(t, err)
	require.Equal(t, p.PID(), group)
}

func TestSpawnReportsWhatCannotBeStarted(t *testing.T) {
	t.Parallel()
	_, err := Spawn(t.Context(), Spec{Path: "/no/such/program", Log: filepath.Join(t.TempDir(), "log")})
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Spawn(t.Context(), Spec{Path: "/bin/sh", Log: "/no/such/directory/log"})
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestServersDoNotOutliveAProcessThatIsKilled(t *testing.T) {
	t.Parallel()
	cmd := helperCommand(t, "wait")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(out)
	var servers []server
	for lines.Scan() && lines.Text() != "ready" {
		servers = append(servers, parse(t, lines.Text()))
	}
	require.Len(t, servers, 3)
	for _, s := range servers {
		require.True(t, s.running())
	}
	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	for _, s := range servers {
		require.Eventually(t, func() bool {
			_, err := os.Stat(s.dir)
			return !s.running() && os.IsNotExist(err)
		}, 10*time.Second, pollInterval, "%+v", s)
	}
}

func TestDetachedServerOutlivesItsProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := helperCommand(t, "detach")
	cmd.Env = append(cmd.Env, "DEVSTACK_TEST_DIR="+dir)
	out, err := cmd.Output()
	require.NoError(t, err)
	s := parse(t, strings.TrimSpace(string(out)))
	p, running := Attach(s.pid, s.started)
	require.True(t, running)
	require.NoError(t, p.Stop(t.Context()))
	require.DirExists(t, dir)
}

// helperCommand runs this test binary as a helper. It gives up no earlier than
// the test.
func helperCommand(t *testing.T, role string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0])
	cmd.Env = append(os.Environ(), helperVariable+"="+role)
	return cmd
}

type server struct {
	pid          int
	started, dir string
}

func (s server) running() bool {
	_, running := Attach(s.pid, s.started)
	return running
}

func parse(t *testing.T, line string) server {
	t.Helper()
	var s server
	_, err := fmt.Sscan(line, &s.pid, &s.started, &s.dir)
	require.NoError(t, err, line)
	return s
}
