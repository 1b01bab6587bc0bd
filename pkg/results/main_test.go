package results_test

import (
	"context"
	"errors"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/results"
)

func TestMain(m *testing.M) {
	// The outages here are on purpose.
	logging.Disable()
	goleak.VerifyTestMain(m)
}

// server is a Redis of a test's own, which it may break.
type server struct {
	t *testing.T
	*devstack.RedisInstance
}

func startServer(t *testing.T) server {
	t.Helper()
	return server{t: t, RedisInstance: devstack.RedisServer(t)}
}

func (s server) start()  { require.NoError(s.t, s.Start(s.t.Context())) }
func (s server) kill()   { require.NoError(s.t, s.Kill()) }
func (s server) freeze() { require.NoError(s.t, s.Freeze()) }
func (s server) thaw()   { require.NoError(s.t, s.Thaw()) }

// startCluster returns the address of a cluster of one node, which refuses
// scripts over keys of two slots as every cluster does.
func startCluster(t *testing.T) string {
	t.Helper()
	port, err := devstack.ReservePort(t.Context(), 0)
	require.NoError(t, err)
	t.Cleanup(port.Release)
	bus, err := devstack.ReservePort(t.Context(), 0)
	require.NoError(t, err)
	t.Cleanup(bus.Release)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "redis-server",
		"--bind", "127.0.0.1", "--port", strconv.Itoa(port.Number()), "--dir", t.TempDir(), "--save", "",
		"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus.Number()), "--cluster-announce-ip", "127.0.0.1")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	node := redis.NewClient(&redis.Options{Addr: port.Address(), MaxRetries: -1, DialerRetries: 1})
	defer func() { require.NoError(t, node.Close()) }()
	require.Eventually(t, func() bool { return node.Ping(t.Context()).Err() == nil },
		20*time.Second, 10*time.Millisecond, "redis-server does not answer")
	require.NoError(t, node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err())
	require.Eventually(t, func() bool {
		return errors.Is(node.Get(t.Context(), "x").Err(), redis.Nil)
	}, 20*time.Second, 10*time.Millisecond, "the cluster does not come up")
	return port.Address()
}

// open returns a client as the services use it.
func open(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	client, err := results.Open(url)
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// patient makes a client wait longer than a service would: the machine may be
// busy. A server that is down is noticed at once all the same.
const patient = "?read_timeout=20s&write_timeout=20s&dial_timeout=20s&pool_timeout=20s"

// newClient returns a client of a Redis of its own, for what is not about
// outages and durability: it does not wait for the disk.
func newClient(t *testing.T) redis.UniversalClient {
	t.Helper()
	client := open(t, devstack.Redis(t)+patient)
	require.NoError(t, client.ConfigSet(t.Context(), "appendonly", "no").Err())
	return client
}

// newStore returns a store on a Redis of its own, and its client.
func newStore(t *testing.T) (*results.Store, redis.UniversalClient) {
	t.Helper()
	client := newClient(t)
	return storeOn(t, client), client
}

func storeOn(t *testing.T, client redis.UniversalClient) *results.Store {
	t.Helper()
	return results.New(results.Options{Client: client, Log: zaptest.NewLogger(t)})
}

// record is a result in a state, with enough in it to tell records apart.
func record(id string, state messages.State, worker string) *messages.Result {
	r := &messages.Result{
		TaskID: id, State: state, Name: "proj.add", Queue: "default", Worker: worker,
		DateCreated: time.Now().UTC().Truncate(time.Millisecond),
	}
	if state == messages.Success {
		r.Value = []byte(`"by ` + worker + `"`)
	} else if state.Final() || state == messages.Retry {
		r.Error = &messages.TaskError{Type: "ValueError", Message: "bad " + worker}
	}
	if state.Final() {
		r.DateDone = time.Now().UTC().Truncate(time.Millisecond)
	}
	return r
}

// claim claims, and if the attempt is to run stores a STARTED record that names
// the token.
func claim(t *testing.T, s *results.Store, a messages.Attempt, token string) messages.Claim {
	t.Helper()
	started := record(a.ID, messages.Started, token)
	c, err := s.Claim(t.Context(), a, token, started)
	require.NoError(t, err)
	if c.Verdict == messages.VerdictRun {
		require.NoError(t, s.Progress(t.Context(), a, token, started))
	}
	return c
}

// settle settles in the name of the token.
func settle(t *testing.T, s *results.Store, a messages.Attempt, token string, state messages.State, next messages.Next) error {
	t.Helper()
	return s.Settle(t.Context(), results.Settlement{
		Attempt: a, Token: token, Result: record(a.ID, state, token), Next: next,
	})
}

// unfold makes a hash of a task record.
func unfold(t *testing.T, client redis.UniversalClient, key string) {
	t.Helper()
	err := client.Eval(t.Context(), results.TaskLua()+"unfold(KEYS[1])", []string{key}).Err()
	require.NoError(t, ignoreNil(err))
}

func ignoreNil(err error) error {
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// taskRecord returns the fields of a task record and leaves it as it is.
func taskRecord(t *testing.T, client redis.UniversalClient, id string) map[string]string {
	t.Helper()
	const seen = "seen"
	require.NoError(t, client.Copy(t.Context(), results.TaskKey(id), seen, 0, true).Err())
	unfold(t, client, seen)
	fields, err := client.HGetAll(t.Context(), seen).Result()
	require.NoError(t, err)
	require.NoError(t, client.Del(t.Context(), seen).Err())
	return fields
}

// expireLease makes the present owner's lease end now.
func expireLease(t *testing.T, client redis.UniversalClient, id string) {
	t.Helper()
	unfold(t, client, results.TaskKey(id))
	require.NoError(t, client.HSet(t.Context(), results.TaskKey(id), "lease", 1).Err())
}

// cancelTask does what a cancellation writes.
func cancelTask(t *testing.T, client redis.UniversalClient, id string) {
	t.Helper()
	unfold(t, client, results.TaskKey(id))
	require.NoError(t, client.HSet(t.Context(), results.TaskKey(id), "cancel", 1).Err())
}

func state(t *testing.T, s *results.Store, id string) messages.State {
	t.Helper()
	r, err := s.Get(t.Context(), id)
	require.NoError(t, err)
	return r.State
}
