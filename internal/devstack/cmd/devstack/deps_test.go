package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// onPath puts a program before all others on the PATH.
func onPath(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestInstallAsRootKeepsPackagesFromStartingServices(t *testing.T) {
	s, out := testStack(t)
	dir := t.TempDir()
	s.uid, s.policy = 0, filepath.Join(dir, "policy-rc.d")
	calls := filepath.Join(dir, "calls")
	onPath(t, "apt-get", `echo "$@ $DEBIAN_FRONTEND $(`+s.policy+`; echo $?)" >>`+calls)
	require.NoError(t, s.install(t.Context(), []string{"one", "two"}))
	lines := strings.Split(strings.TrimSpace(read(t, calls)), "\n")
	require.Len(t, lines, 2)
	require.True(t, strings.HasPrefix(lines[0], "update"), lines[0])
	require.True(t, strings.HasSuffix(lines[1], "one two noninteractive 101"), lines[1])
	require.NoFileExists(t, s.policy)
	require.Contains(t, out.String(), "installing one two")
}

func TestInstallReportsWhatAptSays(t *testing.T) {
	s, _ := testStack(t)
	s.uid, s.policy = 0, filepath.Join(t.TempDir(), "policy-rc.d")
	onPath(t, "apt-get", "echo no such package; exit 100")
	err := s.install(t.Context(), []string{"one"})
	require.ErrorContains(t, err, "install one")
	require.ErrorContains(t, err, "no such package")
	require.NoFileExists(t, s.policy)
}

func TestPolicyThatIsThereAlreadyStays(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "policy-rc.d")
	require.NoError(t, os.WriteFile(path, []byte("theirs"), 0o600))
	remove, err := forbidServices(path)
	require.NoError(t, err)
	remove()
	require.Equal(t, "theirs", read(t, path))
}

func TestWithoutRightsItSaysWhatToInstall(t *testing.T) {
	t.Parallel()
	s, _ := testStack(t)
	s.uid = 1000
	err := s.install(t.Context(), []string{"rabbitmq-server", "redis-server"})
	require.ErrorIs(t, err, errCannotInstall)
	require.ErrorContains(t, err, "sudo apt-get install rabbitmq-server redis-server")
	require.NoError(t, s.install(t.Context(), nil))
}

func TestMissingNamesThePackagesOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	no := func(context.Context) bool { return false }
	require.Equal(t, []string{"a", "b"}, missing(t.Context(), []dependency{
		{[]string{"a", "b"}, no}, {[]string{"c"}, succeeds("true")},
	}))
}

func TestDockerIsTheWayOutWhereNothingCanBeInstalled(t *testing.T) {
	s, out := testStack(t)
	s.uid = 1000
	calls := filepath.Join(t.TempDir(), "calls")
	onPath(t, "docker", `echo "$@ $LOVAGE_GATEWAY_PORT $LOVAGE_AMQP_PORT" >>`+calls+`; [ "$1" != broken ]`)
	st, err := loadState(t.TempDir())
	require.NoError(t, err)

	docker, err := s.decide(t.Context(), st, []string{"rabbitmq-server"})
	require.NoError(t, err)
	require.True(t, docker)
	require.Contains(t, out.String(), "using Docker")

	st.Ports.Gateway, st.Ports.AMQP = 1, 2
	require.NoError(t, s.compose(t.Context(), st, "up", "--wait"))
	lines := strings.Split(strings.TrimSpace(read(t, calls)), "\n")
	require.Contains(t, lines[len(lines)-1], "-f "+filepath.Join(s.root, "docker-compose.yaml"))
	require.True(t, strings.HasSuffix(lines[len(lines)-1], " up --wait 1 2"), lines[len(lines)-1])

	docker, err = s.decide(t.Context(), st, nil)
	require.NoError(t, err)
	require.False(t, docker, "everything is there")
}

func TestWithoutDockerItSaysWhatToInstall(t *testing.T) {
	s, _ := testStack(t)
	s.uid = 1000
	onPath(t, "docker", "exit 1")
	st, err := loadState(t.TempDir())
	require.NoError(t, err)
	_, err = s.decide(t.Context(), st, []string{"rabbitmq-server"})
	require.ErrorIs(t, err, errCannotInstall)
}
