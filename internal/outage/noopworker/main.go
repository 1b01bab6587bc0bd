// Command noopworker is a worker whose only task does nothing but leave a line
// with its id in a file, so that a test can count executions without asking
// anything that is away at that moment. It takes some time for it, so that what
// has piled up in an outage is not worked off by all that the machine can give.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/worker"
)

// Together they make 1,280 tasks a second, twice as many as the load submits.
const (
	slots  = 32
	length = 25 * time.Millisecond
)

func main() {
	log, err := zap.NewProduction()
	if err != nil {
		panic(err)
	}
	if err := run(log); err != nil {
		log.Fatal("worker", zap.Error(err))
	}
}

func run(log *zap.Logger) error {
	// One write of a short line to a file that is open for appending is whole.
	executions, err := os.OpenFile(os.Getenv("LOVAGE_OUTAGE_EXECUTIONS"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = executions.Close() }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	w := worker.New(worker.Options{
		AMQPURL: os.Getenv("LOVAGE_AMQP_URL"), RedisURL: os.Getenv("LOVAGE_REDIS_URL"),
		Queue: os.Getenv("LOVAGE_QUEUE"), Concurrency: slots, Log: log,
	})
	worker.Handle(w, "outage.noop", func(ctx context.Context, _ struct{}) (struct{}, error) {
		_, err := fmt.Fprintln(executions, worker.TaskID(ctx))
		<-time.After(length)
		return struct{}{}, err
	})
	return w.Run(ctx)
}
