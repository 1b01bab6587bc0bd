package devstack

import (
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

//nolint:tparallel // The virtual host goes with the subtest, which has to end first.
func TestVHostIsUsableAndDeletedAfterTheTest(t *testing.T) {
	t.Parallel()
	var vhost string
	t.Run("in use", func(t *testing.T) {
		vhost = VHost(t)
		declare(t, vhost)
	})
	_, err := amqp091.Dial(vhost)
	require.ErrorContains(t, err, "not found")
}

func TestSharedBrokerStaysForAllTestsOfTheBinary(t *testing.T) {
	t.Parallel()
	broker := SharedBroker(t)
	runtime.GC() // What is forgotten is closed, at the latest by the second one.
	runtime.GC()
	for range 20 {
		name := "stays-" + strconv.Itoa(os.Getpid())
		require.NoError(t, broker.CreateVHost(t.Context(), name))
		require.NoError(t, broker.DeleteVHost(t.Context(), name))
	}
	require.Equal(t, broker, SharedBroker(t))
}

func TestRedisIsDurableAndEvictsNothing(t *testing.T) {
	t.Parallel()
	client := open(t, Redis(t))
	settings, err := client.ConfigGet(t.Context(), "*").Result()
	require.NoError(t, err)
	require.Equal(t, "always", settings["appendfsync"])
	require.Equal(t, "yes", settings["appendonly"])
	require.Equal(t, "noeviction", settings["maxmemory-policy"])
	require.Equal(t, "127.0.0.1", settings["bind"])
	require.Empty(t, settings["save"])
}

func TestRedisKeepsPortAndDataAcrossKillAndStop(t *testing.T) {
	t.Parallel()
	r := RedisServer(t)
	address := r.URL()
	client := open(t, address)
	require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())
	for name, end := range map[string]func() error{
		"kill": r.Kill,
		"stop": func() error { return r.Stop(t.Context()) },
	} {
		pid := r.PID()
		require.NoError(t, end(), name)
		require.False(t, r.Alive(), name)
		require.Error(t, client.Ping(t.Context()).Err(), name)
		require.NoError(t, r.Start(t.Context()), name)
		require.NotEqual(t, pid, r.PID(), name)
		require.Equal(t, address, r.URL(), name)
		require.Equal(t, "v", client.Get(t.Context(), "k").Val(), name)
	}
}

func TestRedisInstancesSideBySideShareNothing(t *testing.T) {
	t.Parallel()
	a, b := RedisServer(t), RedisServer(t)
	require.NotEqual(t, a.Port(), b.Port())
	require.NoError(t, open(t, a.URL()).Set(t.Context(), "k", "v", 0).Err())
	require.ErrorIs(t, open(t, b.URL()).Get(t.Context(), "k").Err(), redis.Nil)
	require.NoError(t, a.Kill())
	require.True(t, RedisAnswers(t.Context(), b.Port()))
}

func TestRedisInAGivenDirectoryKeepsItsDataAndPort(t *testing.T) {
	t.Parallel()
	o := RedisOptions{Dir: t.TempDir()}
	a, err := StartRedis(t.Context(), o)
	require.NoError(t, err)
	require.NoError(t, open(t, a.URL()).Set(t.Context(), "k", "v", 0).Err())
	require.NoError(t, a.Close())
	o.Port = a.Port()
	b, err := StartRedis(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, a.Port(), b.Port())
	require.Equal(t, "v", open(t, b.URL()).Get(t.Context(), "k").Val())

	other, err := StartRedis(t.Context(), RedisOptions{Port: b.Port()})
	require.NoError(t, err, "the port is taken")
	require.NotEqual(t, b.Port(), other.Port())
	require.NoError(t, other.Close())
	require.NoError(t, b.Close())
	require.DirExists(t, o.Dir)
	require.NoDirExists(t, other.Dir())
}

func TestStartSaysWhyAServerDoesNotStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "appendonlydir"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "appendonlydir", "appendonly.aof.manifest"), []byte("nonsense\n"), 0o600))
	_, err := StartRedis(t.Context(), RedisOptions{Dir: dir})
	require.ErrorContains(t, err, "it ended")
	require.ErrorContains(t, err, "manifest")

	_, err = StartRabbitMQ(t.Context(), RabbitMQOptions{Config: "no.such.setting = 1"})
	require.ErrorContains(t, err, "it ended")
	require.ErrorContains(t, err, "no.such.setting")
}

func TestRedisFrozenAcceptsAndDoesNotAnswerUntilThawed(t *testing.T) {
	t.Parallel()
	r := RedisServer(t)
	require.NoError(t, r.Freeze())
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.Address())
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	require.False(t, RedisAnswers(t.Context(), r.Port()))
	require.True(t, r.Alive())
	require.NoError(t, r.Thaw())
	require.True(t, RedisAnswers(t.Context(), r.Port()))
}

func TestRedisFrozenCanBeStopped(t *testing.T) {
	t.Parallel()
	r := RedisServer(t)
	require.NoError(t, r.Freeze())
	require.NoError(t, r.Stop(t.Context()))
	require.False(t, r.Alive())
	require.ErrorIs(t, r.Freeze(), os.ErrProcessDone)
}

func TestRabbitMQSurvivesFreezeKillAndStopOnTheSamePort(t *testing.T) {
	t.Parallel()
	a, b := RabbitMQ(t), RabbitMQ(t)
	require.NotEqual(t, a.URL(), b.URL())
	require.NotEqual(t, a.PID(), b.PID())
	declare(t, a.URL())

	require.NoError(t, a.Freeze())
	require.False(t, RabbitMQAnswers(t.Context(), a.Ports().Port))
	require.True(t, RabbitMQAnswers(t.Context(), b.Ports().Port), "the other broker")
	require.NoError(t, a.Thaw())
	require.True(t, RabbitMQAnswers(t.Context(), a.Ports().Port))

	address, pid := a.URL(), a.PID()
	require.NoError(t, a.Kill())
	require.False(t, a.Alive())
	require.NoError(t, a.Start(t.Context()))
	require.Equal(t, address, a.URL())
	require.NotEqual(t, pid, a.PID())

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	require.NoError(t, a.Stop(ctx))
	require.False(t, RabbitMQAnswers(t.Context(), a.Ports().Port))
	require.True(t, b.Alive())
}

func TestRabbitMQPIDIsTheProcessThatServes(t *testing.T) {
	t.Parallel()
	r := RabbitMQ(t)
	written, err := os.ReadFile(r.path("pid"))
	require.NoError(t, err)
	require.Equal(t, string(written), strconv.Itoa(r.PID()))

	out, err := r.Ctl(t.Context(), "eval", "os:getpid().")
	require.NoError(t, err)
	require.Contains(t, out, strconv.Itoa(r.PID()))

	_, err = r.Ctl(t.Context(), "no_such_command")
	require.Error(t, err)

	require.NoError(t, r.Broker().CreateVHost(t.Context(), "a/b c"))
	u, err := url.Parse(r.Broker().VHostURL("a/b c"))
	require.NoError(t, err)
	declare(t, u.String())
}

func TestServersDoNotSeeSettingsOfOthers(t *testing.T) {
	t.Setenv("RABBITMQ_NODENAME", "rabbit@elsewhere")
	t.Setenv("ERL_FLAGS", "-nonsense")
	t.Setenv("RABBITMQ_CTL_ERL_ARGS", "-nonsense")
	require.NotContains(t, strings.Join(bareEnvironment(), "\n"), "nonsense")
	require.NotContains(t, strings.Join(bareEnvironment(), "\n"), "elsewhere")
	require.Contains(t, bareEnvironment(), "PATH="+os.Getenv("PATH"))
}

func TestBrokerTravelsThroughTheEnvironment(t *testing.T) {
	t.Parallel()
	b := Broker{AMQP: "amqp://u:p@127.0.0.1:1/", Management: "http://u:p@127.0.0.1:2"}
	again, err := ParseBroker(b.String())
	require.NoError(t, err)
	require.Equal(t, b, again)
	require.Equal(t, "amqp://u:p@127.0.0.1:1/a%2Fb", b.VHostURL("a/b"))
	for _, wrong := range []string{"", "amqp://x", "{}", `{"amqp":"amqp://x"}`} {
		_, err := ParseBroker(wrong)
		require.Error(t, err, wrong)
	}
}

func declare(t *testing.T, address string) {
	t.Helper()
	conn, err := amqp091.Dial(address)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	ch, err := conn.Channel()
	require.NoError(t, err)
	_, err = ch.QueueDeclare("q", true, false, false, false, amqp091.Table{"x-queue-type": "quorum"})
	require.NoError(t, err)
}

func open(t *testing.T, address string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(address)
	require.NoError(t, err)
	client := redis.NewClient(o)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func TestNothingIsAnsweredOnceFreezeHasReturned(t *testing.T) {
	t.Parallel()
	r := RedisServer(t)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", r.Address())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	answer := make([]byte, len("+PONG\r\n"))
	ping := func(patience time.Duration) error {
		require.NoError(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err := conn.Write([]byte("PING\r\n"))
		require.NoError(t, err)
		_, err = io.ReadFull(conn, answer)
		return err
	}
	for range 50 {
		require.NoError(t, ping(5*time.Second))
		require.NoError(t, r.Freeze())
		require.ErrorIs(t, ping(5*time.Millisecond), os.ErrDeadlineExceeded)
		require.NoError(t, r.Thaw())
		require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
		_, err = io.ReadFull(conn, answer) // The answer that was late.
		require.NoError(t, err)
	}
}

func TestStartThatIsGivenUpLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, patience := range []time.Duration{50, 300, 700, 1200} {
		ctx, cancel := context.WithTimeout(t.Context(), patience*time.Millisecond)
		r, err := newRabbitMQ(t.Context(), RabbitMQOptions{})
		require.NoError(t, err)
		require.Error(t, r.Start(ctx))
		cancel()
		require.NoError(t, r.Close())
		require.NoDirExists(t, r.Dir())
		require.Never(t, func() bool {
			return answers(t.Context(), r.Ports().EPMDPort, "", 0)
		}, 500*time.Millisecond, 50*time.Millisecond, "a port mapper after %s", patience*time.Millisecond)
	}
}
