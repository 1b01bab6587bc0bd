package e2e_test

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// dev starts lovage dev, waits until it serves, and returns what ends it and says
// what it has printed.
func dev(t *testing.T, args ...string) (s *stack, end func() (out string, code int)) {
	t.Helper()
	port, err := devstack.ReservePort(t.Context(), 0)
	require.NoError(t, err)
	t.Cleanup(port.Release)
	s = &stack{t: t, url: "http://" + port.Address()}
	cmd := s.command(append([]string{"dev", "--listen", port.Address()}, args...)...)
	out, errs := new(shared), new(shared)
	cmd.Stdout, cmd.Stderr = out, errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // the code is asked for below
		close(ended)
	}()
	end = func() (string, int) {
		_ = cmd.Process.Signal(syscall.SIGINT) // it may have ended
		<-ended
		return out.String() + errs.String(), cmd.ProcessState.ExitCode()
	}
	t.Cleanup(func() { end() })
	s.eventually(func() bool { return strings.Contains(out.String(), "Serving until Ctrl-C.") }, "%s", errs)
	return s, end
}

func TestOneProgramIsAllThatIsNeededToBegin(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	for range 2 { // the second time with what is there
		s, end := dev(t, "--dir", state)
		got := s.lovage("submit", "sleep_task", "-i", "duration=1", "--wait")
		require.Zero(t, got.code, got.err)
		require.Contains(t, got.out, "slept")
		out, code := end()
		require.Zero(t, code, out)
		require.Contains(t, out, "console: http://guest:guest@127.0.0.1:")
		port, err := strconv.Atoi(regexp.MustCompile(`amqp://guest:guest@127\.0\.0\.1:(\d+)/`).FindStringSubmatch(out)[1])
		require.NoError(t, err)
		require.False(t, devstack.RabbitMQAnswers(t.Context(), port), "what it has started has ended with it")
	}
	s, end := dev(t, "--dir", state, "--no-worker")
	require.Contains(t, s.lovage("list").out, "SUCCESS", "the state was kept")
	require.NotContains(t, s.lovage("workers").out, "default")
	end()
}

func TestDevUsesTheServersThatAreNamed(t *testing.T) {
	t.Parallel()
	redis := devstack.Redis(t)
	s, end := dev(t, "--amqp-url", devstack.VHost(t), "--redis-url", redis)
	require.Zero(t, s.lovage("submit", "sleep_task", "-i", "duration=1", "--wait").code)
	out, code := end()
	require.Zero(t, code, out)
	require.NotContains(t, out, redis, "they are the user's, and so are their passwords")

	taken := s.lovage("dev", "--listen", "127.0.0.1:0x", "--amqp-url", "amqp://127.0.0.1:1/", "--redis-url", redis)
	require.Equal(t, 4, taken.code)
	require.Contains(t, taken.err, "LOVAGE_LISTEN")
}

// shared is what a program has printed so far.
type shared struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
