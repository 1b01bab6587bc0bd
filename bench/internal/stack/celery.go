package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"

	"github.com/lovage-mq/lovage/bench/internal/load"
	"github.com/lovage-mq/lovage/bench/internal/runner"
)

// python is the one of the distribution, which has Celery and FastAPI as packages.
const python = "/usr/bin/python3"

const celeryQueue = "bench-celery"

// Celery is FastAPI and Celery on the RabbitMQ and the Redis of this stack.
type Celery struct {
	stack *Stack
	redis *redis.Client
	// scripts is where the Python is.
	scripts string
}

// Celery fails when it, or FastAPI, is not installed.
func (s *Stack) Celery(ctx context.Context) (*Celery, error) {
	out, err := exec.CommandContext(ctx, python, "-c", "import celery, redis, fastapi, uvicorn").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("find Celery and FastAPI: %w\n%s", err, bytes.TrimSpace(out))
	}
	o, err := redis.ParseURL(s.database(celeryDatabase))
	if err != nil {
		return nil, err
	}
	scripts, err := filepath.Abs("python")
	if err != nil {
		return nil, err
	}
	_, err = s.channel.QueueDeclare(celeryQueue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"})
	return &Celery{stack: s, redis: redis.NewClient(o), scripts: scripts}, err
}

func (c *Celery) environment(w Work) []string {
	return []string{
		"PYTHONPATH=" + c.scripts, "PYTHONDONTWRITEBYTECODE=1", "BENCH_QUEUE=" + celeryQueue,
		"BENCH_AMQP_URL=" + c.stack.amqpURL(), "BENCH_REDIS_URL=" + c.stack.database(celeryDatabase),
		"BENCH_KIND=" + w.Kind, "BENCH_BYTES=" + strconv.Itoa(w.Bytes), "BENCH_SLOTS=" + strconv.Itoa(max(1, w.Slots)),
	}
}

// Serve starts FastAPI under uvicorn, a process for each processor.
func (c *Celery) Serve(ctx context.Context) (*Service, error) {
	v, err := c.stack.spawn(ctx, func(address string) command {
		host, port, _ := net.SplitHostPort(address) // it is one
		args := []string{
			"-m", "uvicorn", "web:app", "--host", host, "--port", port, "--workers", strconv.Itoa(runtime.NumCPU()),
			"--no-access-log", "--log-level", "warning",
		}
		return command{"fastapi", python, args, c.environment(Work{})}
	})
	if err != nil {
		return nil, err
	}
	return v, c.stack.up(ctx, v, "FastAPI serves", func() bool {
		return load.Post(ctx, "http://"+v.Address+"/submit", Input, http.StatusAccepted) == nil
	})
}

// Clear forgets all tasks and waits until nobody has anything left to do.
func (c *Celery) Clear(ctx context.Context) error {
	if err := c.redis.FlushDB(ctx).Err(); err != nil {
		return fmt.Errorf("clear Celery: %w", err)
	}
	return c.stack.Clear(ctx, celeryQueue)
}

// Waiting is how many tasks nobody has taken.
func (c *Celery) Waiting(context.Context) (int, error) { return c.stack.Depth(celeryQueue) }

// Fill has one message sent by Celery, and that again and again, each time with
// an id of its own, by a program that is faster. The queue must be empty.
func (c *Celery) Fill(ctx context.Context, kind string, n int) error {
	input, err := json.Marshal(runner.InputOf(kind))
	if err != nil {
		return err
	}
	cmd := c.script(ctx, Work{}, "-c", "import json, sys, tasks; tasks.bench.apply_async(kwargs=json.load(sys.stdin))")
	cmd.Stdin = bytes.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("send a sample: %w\n%s", err, out)
	}
	v, err := c.stack.start(ctx, "floor", func(address string) []string {
		return []string{"--listen=" + address, "--amqp-url=" + c.stack.RabbitMQ.URL(), "--queue=" + celeryQueue, "--channels=8"}
	}, none)
	if err != nil {
		return err
	}
	return errors.Join(publish(ctx, v, n), v.End())
}

// script is a command in Python with the modules of this contender.
func (c *Celery) script(ctx context.Context, w Work, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, python, args...)
	cmd.Dir = c.stack.dir
	cmd.Env = append(cmd.Environ(), c.environment(w)...)
	return cmd
}

// Work starts a worker with a pool of this kind and returns when it consumes.
func (c *Celery) Work(ctx context.Context, pool string, w Work) (*Service, error) {
	env := c.environment(w)
	if w.Rate > 0 {
		env = append(env, "BENCH_KIND=pickup", fmt.Sprintf("BENCH_BUSY=%v", runner.Busy(w.Slots, w.Rate).Seconds()))
	}
	v, err := c.stack.spawn(ctx, func(string) command {
		return command{"celery", python, []string{
			"-m", "celery", "-A", "tasks", "worker", "-P", pool, "-c", strconv.Itoa(w.Slots), "-Q", celeryQueue, "-O", "fair",
			"-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat",
		}, env}
	})
	if err != nil {
		return nil, err
	}
	return v, c.stack.up(ctx, v, "Celery consumes", func() bool {
		q, err := c.stack.channel.QueueDeclarePassive(celeryQueue, true, false, false, false, nil)
		return err == nil && q.Consumers > w.Beside
	})
}

// Stored is how many results there are.
func (c *Celery) Stored(ctx context.Context) (int, error) {
	n, err := c.redis.DBSize(ctx).Result()
	return int(n), err
}

// Drained waits until there are so many results, and returns how long that has
// taken from the first of them on.
func (c *Celery) Drained(ctx context.Context, v *Service, w Work) (took time.Duration, err error) {
	var begun time.Time
	wrong := pollFor(ctx, drainLimit, "Celery has worked off its queue", func() bool {
		var n int64
		if n, err = c.redis.DBSize(ctx).Result(); err != nil {
			return true
		}
		if n > 0 && begun.IsZero() {
			begun = time.Now()
		}
		over := n >= int64(w.Tasks)
		if over && w.Kind == runner.Retry {
			over, err = c.allSucceeded(ctx)
		}
		if !v.Alive() {
			err = errEnded
		}
		return over || err != nil
	})
	return time.Since(begun), errors.Join(err, wrong)
}

// allSucceeded looks at every result: one that waits for its second attempt is
// kept like those that are over.
func (c *Celery) allSucceeded(ctx context.Context) (bool, error) {
	const some = 1000
	keys := c.redis.Scan(ctx, 0, "", some).Iterator()
	var names []string
	for keys.Next(ctx) {
		names = append(names, keys.Val())
	}
	if err := keys.Err(); err != nil {
		return false, err
	}
	for len(names) > 0 {
		n := min(some, len(names))
		values, err := c.redis.MGet(ctx, names[:n]...).Result()
		if err != nil {
			return false, err
		}
		for _, v := range values {
			// It is JSON by Python, which has a space there.
			if text, _ := v.(string); !strings.Contains(text, `"status": "SUCCESS"`) {
				return false, nil
			}
		}
		names = names[n:]
	}
	return true, nil
}

// PickUp sends tasks at a rate to a worker that consumes, and returns the
// quantiles of the milliseconds from the confirm of each to its beginning.
func (c *Celery) PickUp(ctx context.Context, w Work) (times map[string]float64, err error) {
	out, err := c.script(ctx, w, filepath.Join(c.scripts, "pickup.py"), strconv.Itoa(w.Tasks), fmt.Sprintf("%v", w.Rate)).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("send tasks: %w", err)
	}
	return times, json.Unmarshal(out, &times)
}
