// Command river is a program that one would write with River: its tasks and
// their results are rows of PostgreSQL.
package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"

	"github.com/lovage-mq/lovage/bench/internal/peer"
	"github.com/lovage-mq/lovage/bench/internal/runner"
)

const (
	// cooldown is the least time between two looks for tasks, and between two
	// notices that there are some. Its own default is 100 ms.
	cooldown = 2 * time.Millisecond
	// askEvery is how often one who waits for a result asks for it.
	askEvery = 5 * time.Millisecond
	// manyAtOnce is how many tasks are inserted by one statement.
	manyAtOnce = 5000
	stopWithin = 5 * time.Second
)

func main() { os.Exit(peer.Main(open)) }

// arguments are the input of the task.
type arguments struct{ runner.Input }

// Kind names the task.
func (arguments) Kind() string { return "bench" }

type system struct {
	pool *pgxpool.Pool
	// sender only inserts.
	sender *river.Client[pgx.Tx]
}

func open(ctx context.Context, url string) (peer.System, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(8 * runtime.NumCPU()) //nolint:gosec // there are not so many processors
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: quiet()})
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	sender, err := river.NewClient(riverpgxv5.New(pool), &river.Config{Logger: quiet(), FetchCooldown: cooldown})
	return &system{pool: pool, sender: sender}, err
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Submit returns when the row is committed.
func (s *system) Submit(ctx context.Context, in runner.Input) (string, error) {
	inserted, err := s.sender.Insert(ctx, arguments{in}, nil)
	if err != nil {
		return "", err
	}
	return strconv.FormatInt(inserted.Job.ID, 10), nil
}

// Fill inserts many rows at once.
func (s *system) Fill(ctx context.Context, n int, in runner.Input) error {
	for ; n > 0; n -= manyAtOnce {
		rows := make([]river.InsertManyParams, min(n, manyAtOnce))
		for i := range rows {
			rows[i].Args = arguments{in}
		}
		if _, err := s.sender.InsertManyFast(ctx, rows); err != nil {
			return err
		}
	}
	return nil
}

// Wait asks for the state until the job is completed.
func (s *system) Wait(ctx context.Context, id string) error {
	number, err := strconv.ParseInt(id, 10, 64)
	if err != nil {
		return err
	}
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		job, err := s.sender.JobGet(ctx, number)
		if err != nil {
			return err
		}
		if job.State == rivertype.JobStateCompleted {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// policy has failed jobs run again after a while.
type policy struct{}

// NextRetry is when.
func (policy) NextRetry(*rivertype.JobRow) time.Time { return time.Now().Add(runner.RetryAfter) }

func (s *system) Work(ctx context.Context, slots int, handle peer.Handler) error {
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(ctx context.Context, job *river.Job[arguments]) error {
		if err := handle(ctx, strconv.FormatInt(job.ID, 10), job.Attempt); err != nil {
			return err
		}
		return river.RecordOutput(ctx, struct{}{})
	}))
	client, err := river.NewClient(riverpgxv5.New(s.pool), &river.Config{
		Logger: quiet(), Workers: workers, RetryPolicy: policy{},
		Queues:        map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: slots}},
		FetchCooldown: cooldown,
	})
	if err != nil {
		return err
	}
	if err := client.Start(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	<-ctx.Done()
	ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	return errors.Join(client.Stop(ended), ctx.Err())
}

// Stored counts the completed jobs.
func (s *system) Stored(ctx context.Context) (n int64, err error) {
	err = s.pool.QueryRow(ctx, "SELECT count(*) FROM river_job WHERE state = 'completed'").Scan(&n)
	return n, err
}
