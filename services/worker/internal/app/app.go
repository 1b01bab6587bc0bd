// Package app wires the worker that ships: its configuration, the built-in
// tasks and the listeners for probes and metrics.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/service"
	"github.com/lovage-mq/lovage/internal/version"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
	"github.com/lovage-mq/lovage/pkg/results"
	"github.com/lovage-mq/lovage/pkg/worker"
	"github.com/lovage-mq/lovage/services/worker/internal/tasks"
)

//go:generate env LOVAGE_GENERATE=true go test -count=1 -run=^TestDocumentationHasEverySetting$ .

// Config is everything that can be set, by flag or by environment variable.
type Config struct {
	Listen          string        `env:"LOVAGE_LISTEN" help:"Address for /livez and /readyz; empty for none."`
	MetricsListen   string        `name:"metrics-listen" env:"LOVAGE_METRICS_LISTEN" help:"Address for /metrics, which may be that of --listen; empty for none."`
	AMQPURL         string        `name:"amqp-url" env:"LOVAGE_AMQP_URL" default:"amqp://guest:guest@127.0.0.1:5672/" help:"RabbitMQ, several addresses separated by commas."`
	AMQPURLFile     string        `name:"amqp-url-file" env:"LOVAGE_AMQP_URL_FILE" type:"path" help:"File with the addresses of RabbitMQ, read at every connect; replaces --amqp-url."`
	AMQPCAFile      string        `name:"amqp-ca-file" env:"LOVAGE_AMQP_CA_FILE" type:"path" help:"Authorities (PEM) that sign RabbitMQ's certificate; the system's by default."`
	AMQPCertFile    string        `name:"amqp-cert-file" env:"LOVAGE_AMQP_CERT_FILE" type:"path" help:"Client certificate (PEM) for RabbitMQ."`
	AMQPKeyFile     string        `name:"amqp-key-file" env:"LOVAGE_AMQP_KEY_FILE" type:"path" help:"Key (PEM) of the client certificate."`
	AMQPPassive     bool          `name:"amqp-passive" env:"LOVAGE_AMQP_PASSIVE" help:"Declare nothing in RabbitMQ: everything is there already, and the user may not configure."`
	RedisURL        string        `name:"redis-url" env:"LOVAGE_REDIS_URL" default:"redis://127.0.0.1:6379/0" help:"Redis."`
	RedisURLFile    string        `name:"redis-url-file" env:"LOVAGE_REDIS_URL_FILE" type:"path" help:"File with the address of Redis, whose user and password are read at every connect; replaces --redis-url."`
	RedisCAFile     string        `name:"redis-ca-file" env:"LOVAGE_REDIS_CA_FILE" type:"path" help:"Authorities (PEM) that sign Redis's certificate (rediss://); the system's by default."`
	RedisCertFile   string        `name:"redis-cert-file" env:"LOVAGE_REDIS_CERT_FILE" type:"path" help:"Client certificate (PEM) for Redis."`
	RedisKeyFile    string        `name:"redis-key-file" env:"LOVAGE_REDIS_KEY_FILE" type:"path" help:"Key (PEM) of the client certificate."`
	ResultTTL       time.Duration `name:"result-ttl" env:"LOVAGE_RESULT_TTL" default:"24h" help:"How long a result is kept."`
	MaxResult       int           `name:"max-result" env:"LOVAGE_MAX_RESULT" default:"67108864" help:"Largest result in bytes of JSON."`
	CompressAbove   int           `name:"compress-above" env:"LOVAGE_COMPRESS_ABOVE" default:"0" help:"Results of more bytes are stored compressed, which Celery clients do not read; 0 for none."`
	Queue           string        `env:"LOVAGE_QUEUE" default:"default" help:"Queue of the built-in tasks."`
	StrictOrder     []string      `name:"strict-order" env:"LOVAGE_STRICT_ORDER" help:"Queues from which the built-in tasks are taken, the first one first: one only while all before it are empty. Names --queue too."`
	Concurrency     int           `env:"LOVAGE_CONCURRENCY" default:"10" help:"How many tasks run at the same time."`
	Drain           time.Duration `env:"LOVAGE_DRAIN" default:"30s" help:"How long running tasks may take to end at SIGTERM before they are given back."`
	Lease           time.Duration `env:"LOVAGE_LEASE" default:"15s" help:"After how long a task of a worker that died goes to another."`
	ConsumerTimeout time.Duration `name:"consumer-timeout" env:"LOVAGE_CONSUMER_TIMEOUT" default:"30m" help:"RabbitMQ's consumer_timeout; a task that runs for half of it gets a copy in its place. Negative for none."`
	HTTPAllow       []string      `name:"http-allow" env:"LOVAGE_HTTP_ALLOW" help:"Hosts that http_request and thumbnail may call; none by default."`
	SleepMax        time.Duration `name:"sleep-max" env:"LOVAGE_SLEEP_MAX" default:"300s" help:"Longest duration that sleep_task accepts."`
}

// Validate reports everything that is wrong, each with the name of its setting.
func (c Config) Validate() error {
	var errs []error
	if err := messages.ValidQueue(c.Queue); err != nil {
		errs = append(errs, fmt.Errorf("LOVAGE_QUEUE: %w", err))
	}
	for i, q := range c.StrictOrder {
		if err := messages.ValidQueue(q); err != nil {
			errs = append(errs, fmt.Errorf("LOVAGE_STRICT_ORDER: %w", err))
		}
		if slices.Contains(c.StrictOrder[:i], q) {
			errs = append(errs, fmt.Errorf("LOVAGE_STRICT_ORDER: names %s twice", q))
		}
	}
	if len(c.StrictOrder) > 0 && !slices.Contains(c.StrictOrder, c.Queue) {
		errs = append(errs, fmt.Errorf("LOVAGE_STRICT_ORDER: lacks %s, which is LOVAGE_QUEUE", c.Queue))
	}
	if c.Concurrency < 1 || c.Concurrency > 10_000 {
		errs = append(errs, fmt.Errorf("LOVAGE_CONCURRENCY: must be from 1 to 10000, is %d", c.Concurrency))
	}
	if c.MaxResult < 1 || c.MaxResult > messages.ResultLimit {
		errs = append(errs, fmt.Errorf("LOVAGE_MAX_RESULT: must be from 1 to %d, is %d", messages.ResultLimit, c.MaxResult))
	}
	if c.CompressAbove < 0 {
		errs = append(errs, fmt.Errorf("LOVAGE_COMPRESS_ABOVE: must not be negative, is %d", c.CompressAbove))
	}
	if _, err := rabbitmq.SplitURLs(c.AMQPURL); err != nil && c.AMQPURLFile == "" {
		errs = append(errs, fmt.Errorf("LOVAGE_AMQP_URL: %w", err))
	}
	if err := results.CheckURL(c.RedisURL); err != nil {
		errs = append(errs, fmt.Errorf("LOVAGE_REDIS_URL: %w", err))
	}
	for _, d := range []struct {
		name         string
		value, least time.Duration
	}{
		{"LOVAGE_DRAIN", c.Drain, time.Millisecond},
		{"LOVAGE_LEASE", c.Lease, time.Second},
		{"LOVAGE_RESULT_TTL", c.ResultTTL, time.Second},
		{"LOVAGE_SLEEP_MAX", c.SleepMax, time.Second},
	} {
		if d.value < d.least {
			errs = append(errs, fmt.Errorf("%s: must be at least %v, is %v", d.name, d.least, d.value))
		}
	}
	return errors.Join(errs...)
}

// Run takes tasks until ctx ends and everything has stopped.
func Run(ctx context.Context, c Config, log *zap.Logger) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	service.QuietRedis()
	spans, err := service.NewTracing(ctx, "lovage-worker", log.Named("tracing"))
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer spans.Stop(ctx)
	var around []worker.Middleware
	if p := spans.Provider(); p != nil {
		around = append(around, worker.Trace(p), worker.Recover())
	}
	registry := service.NewRegistry(spans)
	w := worker.New(worker.Options{
		AMQPURL: c.AMQPURL, AMQPURLFile: c.AMQPURLFile, AMQPCAFile: c.AMQPCAFile, AMQPCertFile: c.AMQPCertFile, AMQPKeyFile: c.AMQPKeyFile,
		Passive: c.AMQPPassive, RedisURL: c.RedisURL, RedisURLFile: c.RedisURLFile, RedisCAFile: c.RedisCAFile, RedisCertFile: c.RedisCertFile, RedisKeyFile: c.RedisKeyFile,
		Queue: c.Queue, StrictOrder: c.StrictOrder, Concurrency: c.Concurrency,
		Drain: c.Drain, Lease: c.Lease, ResultTTL: c.ResultTTL, ConsumerTimeout: c.ConsumerTimeout,
		MaxResult: c.MaxResult, CompressAbove: c.CompressAbove, Middleware: around, Metrics: registry, Log: log.Named("worker"),
	})
	if err := tasks.Register(w, tasks.Config{HTTPAllow: c.HTTPAllow, SleepMax: c.SleepMax}); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	// Probes and metrics are answered until the last task has ended.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for addr, mux := range pages(c, w, registry) {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
		if err != nil {
			stop()
			return errors.Join(fmt.Errorf("LOVAGE_LISTEN, LOVAGE_METRICS_LISTEN: %w", err), g.Wait())
		}
		log.Info("worker listens", zap.Stringer("address", l.Addr()))
		g.Go(func() error { return service.Serve(serving, l, mux) })
	}
	g.Go(func() error {
		defer stop()
		return w.Run(ctx)
	})
	return g.Wait()
}

// pages are what the worker answers, by the address where it does. Being ready
// does not depend on RabbitMQ or Redis: a restart would not bring them back.
func pages(c Config, w *worker.Worker, metrics prometheus.Gatherer) map[string]*http.ServeMux {
	at := map[string]*http.ServeMux{c.Listen: http.NewServeMux()}
	if at[c.MetricsListen] == nil {
		at[c.MetricsListen] = http.NewServeMux()
	}
	at[c.MetricsListen].Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	at[c.Listen].HandleFunc("GET /livez", func(rw http.ResponseWriter, _ *http.Request) { answer(rw, map[string]string{"status": "ok"}) })
	at[c.Listen].HandleFunc("GET /readyz", func(rw http.ResponseWriter, _ *http.Request) {
		s := w.Status()
		answer(rw, map[string]any{"status": "ok", "rabbitmq": s.RabbitMQ, "redis": s.Redis, "busy": s.Busy, "slots": s.Slots, "worker": w.Name(), "version": version.String()})
	})
	delete(at, "")
	return at
}

func answer(rw http.ResponseWriter, v any) {
	rw.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(rw).Encode(v) // the prober has gone
}
