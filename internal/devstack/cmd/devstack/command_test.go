package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
)

func TestExitCodeOfTheCommandIsOurs(t *testing.T) {
	t.Parallel()
	s, out := testStack(t)
	require.NoError(t, s.execute(t.Context(), []string{"sh", "-c", "echo $X"}, "X=y"))
	require.Equal(t, "y\n", out.String())
	require.Equal(t, exitError(7), s.execute(t.Context(), []string{"sh", "-c", "exit 7"}))
	require.Equal(t, exitError(128+9), s.execute(t.Context(), []string{"sh", "-c", "kill -9 $$"}))
	require.ErrorIs(t, s.execute(t.Context(), []string{"/no/such/program"}), os.ErrNotExist)
}

func TestSignalEndsTheCommandAndItsChildren(t *testing.T) {
	t.Parallel()
	s, _ := testStack(t)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- s.execute(ctx, []string{"sh", "-c", "sleep 60 & echo $! >" + dir + "/pid; trap 'exit 3' TERM; touch " + dir + "/ready; wait"})
	}()
	require.Eventually(t, func() bool {
		_, err := os.Stat(filepath.Join(dir, "ready"))
		return err == nil
	}, 10*time.Second, 10*time.Millisecond)
	cancel()
	require.Equal(t, exitError(3), <-done)
	child, err := strconv.Atoi(strings.TrimSpace(read(t, filepath.Join(dir, "pid"))))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := devstack.StartTime(child)
		return err != nil
	}, 10*time.Second, 10*time.Millisecond)
}

func TestTestCommandHandsABrokerToTheCommand(t *testing.T) {
	t.Parallel()
	s, out := testStack(t)
	command := []string{"--", "sh", "-c", `echo "$` + devstack.BrokerVariable + `"; exit 4`}
	require.ErrorIs(t, testCommand{Command: command}.Run(t.Context(), s), exitError(4))
	broker, err := devstack.ParseBroker(out.String())
	require.NoError(t, err)
	require.Error(t, broker.CreateVHost(t.Context(), "x"), "it has ended")
	require.Error(t, testCommand{Command: []string{"--"}}.Run(t.Context(), s))
}

func TestFuzzTestsAreFoundInTheSources(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("go.mod", "module m\n")
	write("a/a.go", "package a\n")
	write("a/a_test.go", "package a\nfunc FuzzA(){}\nfunc TestA(){}\nfunc (T) FuzzMethod(){}\n")
	write("b/b_test.go", "package b_test\nfunc FuzzB(){}\nfunc FuzzC(){}\n")
	found, err := fuzzTests(t.Context(), dir, []string{"./..."})
	require.NoError(t, err)
	require.Equal(t, []fuzzTest{{"m/a", "FuzzA"}, {"m/b", "FuzzB"}, {"m/b", "FuzzC"}}, found)
}

func TestUnreachableVulnerabilityDatabaseIsRecognised(t *testing.T) {
	t.Parallel()
	require.True(t, unreachable([]byte("govulncheck: fetching vulnerabilities: Get \"https://vuln.go.dev\": no such host")))
	require.False(t, unreachable([]byte("Vulnerability #1: GO-2025-0001")))
}

func TestOnlyTheEndOfItsTimeIsNoFinding(t *testing.T) {
	t.Parallel()
	require.True(t, endedByItsTime("--- FAIL: FuzzA (11.04s)\n    context deadline exceeded\nFAIL\n"))
	require.False(t, endedByItsTime("--- FAIL: FuzzA (1.04s)\n    context deadline exceeded\n    Failing input written to testdata/fuzz/FuzzA/1\n"))
	require.False(t, endedByItsTime("--- FAIL: FuzzA (1.04s)\n    panic: context deadline exceeded\n"))
}
