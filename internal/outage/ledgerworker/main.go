// Command ledgerworker is a worker whose only task does what its input says,
// and writes down what it does in a file of its own: what a test knows of it
// comes from there and not from Lovage. Its metrics are served at an address that
// it logs.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/service"
	"github.com/lovage-mq/lovage/pkg/worker"
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
	effects, err := os.OpenFile(os.Getenv("LOVAGE_LEDGER_EFFECTS"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = effects.Close() }()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	lease, err := time.ParseDuration(cmp.Or(os.Getenv("LOVAGE_LEASE"), "2s"))
	if err != nil {
		return err
	}
	consumerTimeout, err := time.ParseDuration(cmp.Or(os.Getenv("LOVAGE_CONSUMER_TIMEOUT"), "30m"))
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	log.Info("worker listens", zap.Stringer("address", listener.Addr()))
	registry := service.NewRegistry(nil)
	w := worker.New(worker.Options{
		AMQPURL: os.Getenv("LOVAGE_AMQP_URL"), RedisURL: os.Getenv("LOVAGE_REDIS_URL"), Queue: os.Getenv("LOVAGE_QUEUE"),
		Concurrency: 20, Lease: lease, ConsumerTimeout: consumerTimeout, Drain: 5 * time.Second, Metrics: registry, Log: log,
	})
	worker.Handle(w, "ledger.act", actor{effects}.act,
		worker.WithMaxRetries(3), worker.WithBackoff(worker.Backoff{Base: 200 * time.Millisecond, Max: time.Second}))
	g, ctx := errgroup.WithContext(ctx)
	serving, end := context.WithCancel(ctx)
	g.Go(func() error {
		return service.Serve(serving, listener, promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	})
	g.Go(func() error {
		defer end()
		return w.Run(ctx)
	})
	return g.Wait()
}

// input says what one task does.
type input struct {
	Kind string `json:"kind"`
	// Failures is how many attempts fail before one succeeds.
	Failures int `json:"failures,omitempty"`
	// Millis is how long an attempt takes.
	Millis int `json:"millis,omitempty"`
}

type actor struct{ effects *os.File }

func (a actor) act(ctx context.Context, in input) (struct{}, error) {
	if err := a.write(ctx, "start"); err != nil {
		return struct{}{}, err
	}
	err := a.do(ctx, in)
	outcome := "ok"
	switch {
	case ctx.Err() != nil:
		outcome = "interrupted"
	case err != nil:
		outcome = "failed"
	}
	return struct{}{}, errors.Join(err, a.write(ctx, outcome))
}

func (a actor) write(ctx context.Context, what string) error {
	_, err := fmt.Fprintf(a.effects, "%s %s %d %d %d\n", what, worker.TaskID(ctx), worker.Attempt(ctx), os.Getpid(), time.Now().UnixMicro())
	return err
}

func (a actor) do(ctx context.Context, in input) error {
	pause := time.NewTimer(time.Duration(in.Millis) * time.Millisecond)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	switch in.Kind {
	case "failing":
		return errors.New("it always fails")
	case "panicking":
		panic("it always panics")
	case "broken":
		if a.there("mended") {
			return nil
		}
		return errors.New("it fails until it is mended")
	case "held":
		return a.held(ctx)
	case "poison":
		return killed()
	case "killer":
		// Only the first start kills: whoever makes the file.
		f, err := os.OpenFile(filepath.Join(filepath.Dir(a.effects.Name()), "killed-"+worker.TaskID(ctx)), os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return nil // it was there
		}
		_ = f.Close()
		return killed()
	}
	if worker.Attempt(ctx) <= in.Failures {
		return errors.New("it fails for now")
	}
	return nil
}

// there reports whether a file is beside the effects.
func (a actor) there(name string) bool {
	_, err := os.Stat(filepath.Join(filepath.Dir(a.effects.Name()), name))
	return err == nil
}

// held goes on until the test lets it end.
func (a actor) held(ctx context.Context) error {
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !a.there("released") {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// killed does not return.
func killed() error {
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		return err
	}
	select {}
}
