// Command celeryworker is a worker of the kind that a user writes, with tasks
// that a Celery client calls in the tests.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/worker"
)

type echoIn struct {
	A any `json:"a"`
	B any `json:"b,omitempty"`
}

type numberIn struct {
	N int64 `json:"n"`
}

func main() {
	log, err := zap.NewProduction()
	if err != nil {
		panic(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	w := worker.New(worker.Options{
		AMQPURL: os.Getenv("LOVAGE_AMQP_URL"), RedisURL: os.Getenv("LOVAGE_REDIS_URL"), Queue: "interop", Log: log,
	})
	worker.Handle(w, "interop.echo", func(_ context.Context, in echoIn) (echoIn, error) { return in, nil })
	worker.Handle(w, "interop.raw", func(_ context.Context, in struct {
		V json.RawMessage `json:"v"`
	},
	) (json.RawMessage, error) {
		return in.V, nil
	})
	worker.Handle(w, "interop.fail", func(context.Context, struct{}) (any, error) {
		return nil, worker.Permanent(errors.New("no such customer: Zoë"))
	})
	worker.Handle(w, "interop.flaky", func(ctx context.Context, in numberIn) (int, error) {
		if n := worker.Attempt(ctx); int64(n) <= in.N {
			return 0, worker.RetryAfter(200*time.Millisecond, fmt.Errorf("attempt %d", n))
		}
		return worker.Attempt(ctx), nil
	})
	worker.Handle(w, "interop.big", func(_ context.Context, in numberIn) (string, error) {
		return strings.Repeat("x", int(in.N)), nil
	})
	worker.Handle(w, "interop.packed", func(_ context.Context, in numberIn) (string, error) {
		return strings.Repeat("x", int(in.N)), nil
	}, worker.WithCompression(1000))
	worker.Handle(w, "interop.now", func(context.Context, struct{}) (float64, error) {
		return float64(time.Now().UnixMicro()) / 1e6, nil
	})
	if err := w.Run(ctx); err != nil {
		log.Fatal("worker", zap.Error(err))
	}
}
