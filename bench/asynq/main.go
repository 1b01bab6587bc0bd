// Command asynq is a program that one would write with asynq: its tasks and
// their results are in Redis.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/bench/internal/peer"
	"github.com/lovage-mq/lovage/bench/internal/runner"
)

const (
	task      = "bench"
	queue     = "default"
	retention = 24 * time.Hour
	// often is how often an idle worker looks for tasks and for retries, which is
	// what it does in place of being told. Its own defaults are 1 s and 5 s.
	often      = 10 * time.Millisecond
	oftenRetry = time.Second
	// askEvery is how often one who waits for a result asks for it.
	askEvery = 5 * time.Millisecond
	fillers  = 64
)

func main() { os.Exit(peer.Main(open)) }

type system struct {
	at        asynq.RedisConnOpt
	client    *asynq.Client
	inspector *asynq.Inspector
	redis     redis.UniversalClient
}

func open(_ context.Context, url string) (peer.System, error) {
	parsed, err := asynq.ParseRedisURI(url)
	if err != nil {
		return nil, err
	}
	at, ok := parsed.(asynq.RedisClientOpt)
	if !ok {
		return nil, fmt.Errorf("%s is not one Redis", url)
	}
	at.PoolSize = max(fillers, 10*runtime.NumCPU())
	client, ok := at.MakeRedisClient().(redis.UniversalClient)
	if !ok {
		return nil, errors.New("asynq has another client")
	}
	return &system{at: at, client: asynq.NewClientFromRedisClient(client), inspector: asynq.NewInspectorFromRedisClient(client), redis: client}, nil
}

// Submit returns when Redis has the task, which is when it is on the disk.
func (s *system) Submit(ctx context.Context, in runner.Input) (string, error) {
	payload, err := json.Marshal(in)
	if err != nil {
		return "", err
	}
	info, err := s.client.EnqueueContext(ctx, asynq.NewTask(task, payload), asynq.Queue(queue), asynq.Retention(retention))
	if err != nil {
		return "", err
	}
	return info.ID, nil
}

// Fill submits from many goroutines: there is no way to submit many at once.
func (s *system) Fill(ctx context.Context, n int, in runner.Input) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fillers)
	for range n {
		g.Go(func() error {
			_, err := s.Submit(ctx, in)
			return err
		})
	}
	return g.Wait()
}

// Wait asks for the state until the task is completed.
func (s *system) Wait(ctx context.Context, id string) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		info, err := s.inspector.GetTaskInfo(queue, id)
		if err != nil {
			return err
		}
		if info.State == asynq.TaskStateCompleted {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *system) Work(ctx context.Context, slots int, handle peer.Handler) error {
	server := asynq.NewServer(s.at, asynq.Config{
		Concurrency:              slots,
		Queues:                   map[string]int{queue: 1},
		TaskCheckInterval:        often,
		DelayedTaskCheckInterval: oftenRetry,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return runner.RetryAfter },
		LogLevel:                 asynq.FatalLevel,
	})
	err := server.Start(asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		var in runner.Input
		if err := json.Unmarshal(t.Payload(), &in); err != nil {
			return err
		}
		id, _ := asynq.GetTaskID(ctx)
		retries, _ := asynq.GetRetryCount(ctx)
		if err := handle(ctx, id, retries+1); err != nil {
			return err
		}
		_, err := t.ResultWriter().Write([]byte(`{}`))
		return err
	}))
	if err != nil {
		return err
	}
	<-ctx.Done()
	server.Shutdown()
	return nil
}

// Stored counts the completed tasks.
func (s *system) Stored(ctx context.Context) (int64, error) {
	return s.redis.ZCard(ctx, "asynq:{"+queue+"}:completed").Result()
}
