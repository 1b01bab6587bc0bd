// Command drainer works off a queue, as a worker of ours or by a loop of one's
// own, and tells how long that took, or how soon each task began.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/prometheus/client_golang/prometheus"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/internal/service"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/worker"
)

type settings struct {
	service.Options

	Listen   string   `required:"" help:"Address to serve HTTP on."`
	AMQPURL  string   `required:"" name:"amqp-url" help:"RabbitMQ."`
	RedisURL string   `required:"" name:"redis-url" help:"Redis."`
	Queue    string   `required:"" help:"Queue to work off."`
	Task     []string `required:"" help:"Names of the tasks in it."`
	Messages int64    `required:"" help:"How many there are."`
	Slots    int      `help:"Slots of a worker of ours; none for a loop by hand."`
	Kind     string   `default:"noop" help:"What the tasks do."`
	Bytes    int      `help:"How much tasks of the kind cpu hash."`
	Part     bool     `help:"There are more than that."`
	// Rate makes it measure how soon a task is picked up.
	Rate float64 `help:"Send the tasks, so many a second, and measure until each begins."`
}

func main() { os.Exit(start()) }

// start runs it as the worker that ships is run.
func start() int {
	var s settings
	kong.Parse(&s)
	return s.WithHeapGrowth(service.WorkerHeapGrowth).Run(func(ctx context.Context, _ *zap.Logger) error { return run(ctx, s) })
}

func run(ctx context.Context, s settings) error {
	var progress runner.Progress
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return progress.Serve(ctx, s.Listen) })
	g.Go(func() error {
		switch {
		case s.Rate > 0:
			return pickUp(ctx, s, &progress)
		case s.Slots > 0:
			return work(ctx, s, &progress)
		default:
			return loop(ctx, s, &progress)
		}
	})
	return g.Wait()
}

// work is a worker of ours.
func work(ctx context.Context, s settings, progress *runner.Progress) error {
	task := &runner.Task{Kind: s.Kind, Bytes: s.Bytes}
	w := worker.New(worker.Options{
		AMQPURL: s.AMQPURL, RedisURL: s.RedisURL, Queue: s.Queue, Concurrency: s.Slots,
		Metrics: prometheus.NewRegistry(), // as the worker that ships has them
	})
	for _, name := range s.Task {
		worker.Handle(w, name, func(ctx context.Context, _ runner.Input) (struct{}, error) {
			progress.Started()
			if err := task.Do(ctx, worker.Attempt(ctx)); err != nil {
				return struct{}{}, worker.RetryAfter(runner.RetryAfter, err)
			}
			progress.Done.Add(1)
			return struct{}{}, nil
		})
	}
	progress.Busy(func() int { return w.Status().Busy })
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		// A slot is free when its task is settled and acked.
		return progress.Await(ctx, s.Messages, func() (bool, error) { return s.Part || w.Status().Busy == 0, nil })
	})
	g.Go(func() error { return w.Run(ctx) })
	return g.Wait()
}

const (
	prefetch = 1000
	group    = 200
)

// loop stores one value a message, in pipelines of 200, and acks as many at
// once: the least that keeps what a task came to.
func loop(ctx context.Context, s settings, d *runner.Progress) error {
	o, err := redis.ParseURL(s.RedisURL)
	if err != nil {
		return err
	}
	client := redis.NewClient(o)
	conn, err := amqp.Dial(s.AMQPURL)
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.ConsumeWithContext(ctx, s.Queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	record := `{"status":"SUCCESS","result":{},"pad":"` + strings.Repeat("x", 400) + `"}`
	for d.Done.Load() < s.Messages {
		first, open := <-deliveries
		if !open {
			return fmt.Errorf("consumer ended after %s messages", strconv.FormatInt(d.Done.Load(), 10))
		}
		d.Started()
		pipe := client.Pipeline()
		last := first
		for n := 1; ; n++ {
			pipe.Set(ctx, messages.ResultKey(last.MessageId), record, 24*time.Hour)
			d.Done.Add(1)
			if n == group || d.Done.Load() == s.Messages {
				break
			}
			last = <-deliveries
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		if err := last.Ack(true); err != nil {
			return err
		}
	}
	d.Ended()
	<-ctx.Done()
	return nil
}
