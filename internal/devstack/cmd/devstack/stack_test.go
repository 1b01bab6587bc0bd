package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lovage-mq/lovage/internal/devstack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// output is a terminal that can be read.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// testStack is a stack with stand-ins for the services, in a directory of its
// own. What it leaves running is stopped after the test.
func testStack(t *testing.T) (*stack, *output) {
	t.Helper()
	out := &output{}
	s := newStack(t.TempDir(), out)
	here, err := os.Getwd()
	require.NoError(t, err)
	for i := range s.services {
		s.services[i].source = "./testdata/service"
	}
	s.source = here
	prefer(t, s, ports{})
	t.Cleanup(func() {
		require.NoError(t, downCommand{}.Run(context.WithoutCancel(t.Context()), s))
		if t.Failed() {
			t.Log(out.String())
		}
	})
	return s, out
}

// prefer sets what ports the stack would like; zero is any.
func prefer(t *testing.T, s *stack, p ports) {
	t.Helper()
	require.NoError(t, s.locked(t.Context(), func(st *state) error {
		return st.change(func() error {
			st.Ports = p
			return nil
		})
	}))
}

// quietPorts are free ones that no other test is given, so that they are still
// free after the stack was down.
func quietPorts(t *testing.T) ports {
	t.Helper()
	next := 20000 + rand.IntN(5000)
	var p ports
	for _, port := range []*int{&p.AMQP, &p.Management, &p.Dist, &p.EPMD, &p.Redis, &p.Gateway, &p.Worker} {
		for *port == 0 {
			next++
			reserved, err := devstack.ReservePort(t.Context(), next)
			require.NoError(t, err)
			if reserved.Number() == next {
				*port = next
			}
			reserved.Release()
		}
	}
	return p
}

func (s *stack) loaded(t *testing.T) *state {
	t.Helper()
	st, err := loadState(s.run())
	require.NoError(t, err)
	return st
}

func pid(t *testing.T, s *stack, name string) int {
	t.Helper()
	text, err := os.ReadFile(s.run(name + ".pid"))
	require.NoError(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	return n
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	resp, err := plainClient().Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(text)
}

// The whole life of a stack, in one test since every start of RabbitMQ takes
// six seconds.
func TestUpDownUpClean(t *testing.T) {
	t.Parallel()
	s, out := testStack(t)
	prefer(t, s, quietPorts(t))
	names := []string{"gateway", "worker", "redis", "rabbitmq", "epmd"}
	up := func() { require.NoError(t, upCommand{}.Run(t.Context(), s)) }

	up()
	st := s.loaded(t)
	pids := map[string]int{}
	for _, name := range names {
		p, running := st.process(name)
		require.True(t, running, name)
		require.Equal(t, pid(t, s, name), p.PID())
		pids[name] = p.PID()
	}
	require.True(t, devstack.RabbitMQAnswers(t.Context(), st.Ports.AMQP))
	require.True(t, devstack.RedisAnswers(t.Context(), st.Ports.Redis))
	env := st.environment()
	require.Equal(t, strings.TrimPrefix(env[1], "LOVAGE_AMQP_URL=")+" "+strings.TrimPrefix(env[2], "LOVAGE_REDIS_URL=")+" ",
		get(t, st.url()+"/env"), "settings of the gateway")
	require.Contains(t, get(t, "http://127.0.0.1:"+strconv.Itoa(st.Ports.Worker)+"/env"), " 10s")
	require.Contains(t, out.String(), st.url())

	sourced, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", ". "+s.run("env")+" && env").Output()
	require.NoError(t, err)
	worker := "http://127.0.0.1:" + strconv.Itoa(st.Ports.Worker)
	for _, line := range append(env, "LOVAGE_WORKER_URL="+worker, "LOVAGE_METRICS_URL="+worker+"/metrics") {
		require.Contains(t, string(sourced), line+"\n", "exported by sourcing .run/env")
	}

	up()
	for _, name := range names {
		require.Equal(t, pids[name], pid(t, s, name), "%s keeps running", name)
	}

	for _, name := range []string{"gateway", "redis"} {
		p, _ := st.process(name)
		require.NoError(t, p.Kill())
	}
	up()
	require.NotEqual(t, pids["gateway"], pid(t, s, "gateway"))
	require.NotEqual(t, pids["redis"], pid(t, s, "redis"))
	require.Equal(t, pids["rabbitmq"], pid(t, s, "rabbitmq"))
	require.Equal(t, st.Ports, s.loaded(t).Ports)

	require.NoError(t, downCommand{}.Run(t.Context(), s))
	require.NoError(t, downCommand{}.Run(t.Context(), s), "nothing to stop")
	for _, name := range names {
		require.NoFileExists(t, s.run(name+".pid"))
		_, running := st.process(name)
		require.False(t, running, name)
	}

	up()
	require.Equal(t, st.Ports, s.loaded(t).Ports, "addresses survive")
	require.NoError(t, cleanCommand{}.Run(t.Context(), s))
	require.NoDirExists(t, s.run())
	require.NoDirExists(t, filepath.Join(s.root, "bin"))
	require.False(t, devstack.RabbitMQAnswers(t.Context(), st.Ports.AMQP))
}

func TestUpTakesOtherPortsWhereTheUsualAreTaken(t *testing.T) {
	t.Parallel()
	s, _ := testStack(t)
	wanted := usualPorts()
	require.NoError(t, s.locked(t.Context(), func(st *state) error {
		for _, port := range []*int{&st.Ports.AMQP, &st.Ports.Management, &st.Ports.Redis, &st.Ports.Gateway, &st.Ports.Worker} {
			l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, l.Close()) })
			addr, ok := l.Addr().(*net.TCPAddr)
			require.True(t, ok)
			*port = addr.Port
		}
		wanted = st.Ports
		return s.up(t.Context(), st)
	}))
	got := s.loaded(t).Ports
	require.NotEqual(t, wanted.AMQP, got.AMQP)
	require.NotEqual(t, wanted.Management, got.Management)
	require.NotEqual(t, wanted.Redis, got.Redis)
	require.NotEqual(t, wanted.Gateway, got.Gateway)
	require.NotEqual(t, wanted.Worker, got.Worker)
}

func TestRunShowsTheFirstTaskAndLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	s, out := testStack(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	done := make(chan error, 1)
	go func() { done <- runCommand{}.Run(ctx, s) }()
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "Serving until Ctrl-C") }, time.Minute, 50*time.Millisecond)
	require.Contains(t, out.String(), `202 {"task_id":"t1","state":"PENDING"}`)
	require.Contains(t, out.String(), "PROGRESS   33 %  (1 of 3)")
	require.Contains(t, out.String(), `SUCCESS  result: {"slept":3}`)
	interrupt()
	require.NoError(t, <-done)
	st := s.loaded(t)
	require.Empty(t, st.Processes)
	require.False(t, devstack.RedisAnswers(t.Context(), st.Ports.Redis))
}

func TestRunEndsWhenAServiceEnds(t *testing.T) {
	t.Parallel()
	s, _ := testStack(t)
	service, err := devstack.Spawn(t.Context(), devstack.Spec{
		Path: "/bin/sh", Args: []string{"-c", "exec sleep 60"}, Env: os.Environ(), Log: filepath.Join(t.TempDir(), "log"),
	})
	require.NoError(t, err)
	require.NoError(t, s.locked(t.Context(), func(st *state) error {
		for _, v := range s.services {
			require.NoError(t, st.started(v.name, service, ""))
		}
		return nil
	}))
	done := make(chan error, 1)
	st := s.loaded(t)
	go func() { done <- s.follow(t.Context(), st) }()
	require.NoError(t, service.Kill())
	// One process stands for both services: whichever is looked at next.
	require.ErrorContains(t, <-done, "has ended")
}

func TestFirstTaskThatFailsIsAnError(t *testing.T) {
	t.Parallel()
	s, out := testStack(t)
	require.NoError(t, s.buildServices(t.Context()))
	st, err := loadState(t.TempDir())
	require.NoError(t, err)
	v := s.services[0]
	v.env = []string{"STAND_IN_LAST_STATE=FAILURE"}
	require.NoError(t, os.MkdirAll(s.run("log"), 0o700))
	p, err := s.spawnService(t.Context(), st, v)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Kill()) })
	require.NoError(t, s.awaitService(t.Context(), st, v, p))
	require.ErrorContains(t, s.firstTask(t.Context(), st.url()), "did not succeed")
	require.Contains(t, out.String(), "FAILURE")
}

func TestServiceThatDoesNotStartIsReportedWithItsLog(t *testing.T) {
	t.Parallel()
	s, _ := testStack(t)
	st, err := loadState(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(s.run("log"), 0o700))
	require.NoError(t, os.MkdirAll(filepath.Join(s.root, "bin"), 0o700))
	require.NoError(t, os.WriteFile(s.binary("worker"), []byte("#!/bin/sh\necho cannot start because of this\nexit 1\n"), 0o700))
	err = s.startService(t.Context(), st, s.services[1])
	require.ErrorContains(t, err, "worker has ended")
	require.ErrorContains(t, err, "cannot start because of this")
}

func TestBrokenBuildIsReported(t *testing.T) {
	t.Parallel()
	s, _ := testStack(t)
	s.services[0].source = "./no/such/package"
	require.ErrorContains(t, s.buildServices(t.Context()), "build gateway")
}

func TestDownLeavesAProcessAloneThatOnlyHasThePID(t *testing.T) {
	t.Parallel()
	s, _ := testStack(t)
	innocent, err := devstack.Spawn(t.Context(), devstack.Spec{
		Path: "/bin/sh", Args: []string{"-c", "exec sleep 60"}, Env: os.Environ(), Log: filepath.Join(t.TempDir(), "log"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, innocent.Kill()) })
	require.NoError(t, s.locked(t.Context(), func(st *state) error {
		return st.change(func() error {
			st.Processes["gateway"] = record{PID: innocent.PID(), Started: "1"}
			return nil
		})
	}))
	require.NoError(t, downCommand{}.Run(t.Context(), s))
	require.True(t, innocent.Alive())
}

func TestCommandsOnOneStackTakeTurns(t *testing.T) {
	t.Parallel()
	s, _ := testStack(t)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	require.NoError(t, s.locked(t.Context(), func(*state) error {
		err := s.locked(ctx, func(*state) error { return nil })
		require.ErrorIs(t, err, context.DeadlineExceeded)
		return nil
	}))
}

func TestStateSurvivesAndTellsWhenItIsDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := loadState(dir)
	require.NoError(t, err)
	require.Equal(t, ports{AMQP: 5672, Management: 15672, Redis: 6379, Gateway: 8080, Worker: 8081}, st.Ports)
	require.NoError(t, st.change(func() error {
		st.Ports.Redis = 1234
		return nil
	}))
	again, err := loadState(dir)
	require.NoError(t, err)
	require.Equal(t, 1234, again.Ports.Redis)
	require.True(t, json.Valid([]byte(read(t, st.file()))))

	require.NoError(t, os.WriteFile(st.file(), []byte("{"), 0o600))
	_, err = loadState(dir)
	require.ErrorContains(t, err, st.file())
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func TestLogIsFollowedByWholeLines(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, []byte("old\n"), 0o600))
	l, err := openLog("worker", path)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.file.Close()) }()
	var out bytes.Buffer
	s := newStack(t.TempDir(), &out)
	for _, text := range []string{"new", " line\nhal", "f\n"} {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		_, err = f.WriteString(text)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		l.copy(s.print)
	}
	require.Equal(t, "worker  | new line\nworker  | half\n", out.String())
}
