package delivery_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// scriptNames returns the names of the store's scripts by their digests.
func scriptNames(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../pkg/results/lua/*.lua")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	read := func(path string) string {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(text)
	}
	before, after := read("../../pkg/results/lua/task.lua")+"local function one(...)\n", "end\n"+read("../../pkg/results/lua/each.lua")
	names := map[string]string{}
	for _, file := range files {
		text := read(file)
		for _, whole := range []string{text, before + text + after} {
			sum := sha1.Sum([]byte(whole))
			names[hex.EncodeToString(sum[:])] = strings.TrimSuffix(filepath.Base(file), ".lua")
		}
	}
	return names
}

// connect returns a client of the Redis in memory, over a pipe.
func (w *world) connect() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:       "127.0.0.1:6379", // a name would be looked up, which bubbles must not do side by side
		Dialer:     func(context.Context, string, string) (net.Conn, error) { return w.redis.Dial() },
		MaxRetries: -1, DialerRetries: 1, PipelinePoolSize: -1, ContextTimeoutEnabled: true,
		ReadTimeout: time.Second, WriteTimeout: time.Second, PoolTimeout: time.Second,
	})
}

// storeHook is a worker's way to the store: it passes the worker's gate before
// and after each round trip, and tells the books what the scripts answered,
// whether or not the worker hears of it.
type storeHook struct{ worker *modelWorker }

func (storeHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (storeHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (h storeHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != "evalsha" {
			return next(ctx, cmds)
		}
		err := h.roundTrip(ctx, cmds, next)
		if err != nil {
			for _, cmd := range cmds {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

// part is what a command asks for one of its tasks.
type part struct {
	key  string // of the result record
	args []any
}

// parts are those of EVALSHA, the digest, the number of keys, two for each task, and
// the arguments of each.
func parts(args []any) []part {
	keys := args[2].(int)
	all := make([]part, keys/2)
	size := (len(args) - 3 - keys) / len(all)
	for n := range all {
		all[n] = part{key: args[3+2*n].(string), args: args[3+keys+n*size:][:size]}
	}
	return all
}

func (h storeHook) roundTrip(ctx context.Context, cmds []redis.Cmder, next redis.ProcessPipelineHook) error {
	m := h.worker
	if err := m.pass(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err // it was frozen for too long
	}
	m.mu.Lock()
	state := m.storing.now()
	m.mu.Unlock()
	if state == away {
		return errConnectionLost
	}
	// Nobody else is to act on what the books have not seen. A channel, since
	// the clock of a bubble stands still while somebody waits for a mutex.
	m.world.turn <- struct{}{}
	asked := make([][]any, len(cmds))
	for i, cmd := range cmds {
		asked[i] = slices.Clone(cmd.Args())
	}
	h.bend(cmds, false)
	_ = next(ctx, cmds) // each command has its own error
	h.bend(cmds, true)
	for i, cmd := range cmds {
		if cmd, ok := cmd.(*redis.Cmd); ok && cmd.Err() == nil {
			for n, part := range parts(asked[i]) {
				m.world.books.observe(m, m.world.scripts[asked[i][1].(string)], part.key, part.args, cmd.Val().([]any)[n])
			}
		}
	}
	<-m.world.turn
	if state == doubtful {
		return errConnectionLost
	}
	if err := m.pass(); err != nil {
		return err
	}
	return ctx.Err()
}
