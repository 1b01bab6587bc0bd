// Package app wires the gateway: the only place that knows both the HTTP API
// and what stands behind it.
package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/version"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
	"github.com/lovage-mq/lovage/pkg/results"
	"github.com/lovage-mq/lovage/services/gateway/internal/api"
)

const (
	// pendingTTL is how long the record of a task that has not ended is kept
	// after it is due.
	pendingTTL = 7 * 24 * time.Hour
	// recorderSize is how many records of submissions wait for Redis.
	recorderSize = 10_000
	// clerkPrefetch is how many rejected messages are handled at a time.
	clerkPrefetch = 16
	lease         = 15 * time.Second
	stopTimeout   = 30 * time.Second
)

// Run serves until ctx ends, finishes the requests in flight, and returns when
// everything has stopped. RabbitMQ and Redis may be away at any time, also at
// the start.
func Run(ctx context.Context, c Config, log *zap.Logger) error {
	if err := c.Validate(); err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	urls, err := rabbitmq.SplitURLs(c.AMQPURL)
	if err != nil {
		return fmt.Errorf("LOVAGE_AMQP_URL: %w", err)
	}
	logging.Disable() // go-redis writes lines of its own; we log when Redis goes and comes
	client, err := results.Open(c.RedisURL)
	if err != nil {
		return fmt.Errorf("LOVAGE_REDIS_URL: %w", err)
	}
	defer func() { _ = client.Close() }()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("LOVAGE_LISTEN: %w", err)
	}

	store := results.New(results.Options{Client: client, TTL: c.ResultTTL, PendingTTL: pendingTTL, Lease: lease, Log: log.Named("results")})
	broker := rabbitmq.Options{
		URLs: urls, URLFile: c.AMQPURLFile, CAFile: c.AMQPCAFile, CertFile: c.AMQPCertFile, KeyFile: c.AMQPKeyFile,
		Name: "lovage gateway " + hostname(), Log: log.Named("rabbitmq"),
	}
	registry := prometheus.NewRegistry()
	publisher := rabbitmq.NewPublisher(rabbitmq.PublisherOptions{Options: broker, Foreign: c.ForeignQueues, Metrics: registry})
	recorder := results.NewRecorder(store, recorderSize)
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "lovage_records_dropped_total", Help: "Records of submissions that were not written because Redis was away for too long.",
		}, func() float64 { return float64(recorder.Dropped()) }))
	watcher := results.NewWatcher(client, log.Named("results"))
	clerk := newClerk(store, publisher, broker)
	a, err := api.New(api.Options{
		Publisher: publisher, Recorder: recorder, Watcher: watcher,
		Results: reader{store}, Catalog: catalog{store, publisher}, Keys: keys{store},
		Log: log.Named("api"), AllowedHosts: append(c.AllowedHosts, listenHost(listener)), ForeignQueues: c.ForeignQueues,
		MaxBody: c.MaxBody, PublishTimeout: c.PublishTimeout, Retention: pendingTTL + c.ResultTTL,
		Version: version.String(), Metrics: registry,
	})
	if err != nil {
		return err
	}

	// Everything behind the API outlives it: requests in flight still need it.
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, behind := errgroup.WithContext(behind)
	g.Go(func() error { return publisher.Run(behind) })
	g.Go(func() error { return recorder.Run(behind) })
	g.Go(func() error { return watcher.Run(behind) })
	g.Go(func() error { return clerk.run(behind) })
	g.Go(func() error { return a.Run(behind) })
	g.Go(func() error { return warn(behind, store, log) })
	g.Go(func() error {
		defer stop()
		s := server{Config: c, listener: listener, api: a, metrics: registry, log: log}
		return s.serve(ctx, behind)
	})
	return g.Wait()
}

// server is the HTTP side of the gateway.
type server struct {
	Config
	listener net.Listener
	api      *api.API
	metrics  prometheus.Gatherer
	log      *zap.Logger
}

// serve answers requests until ctx ends, or until something behind the API has
// failed.
func (s server) serve(ctx, behind context.Context) error {
	srv := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          zap.NewStdLog(s.log.Named("http")),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(s.listener) }()
	s.log.Info("gateway listens", zap.Stringer("address", s.listener.Addr()))
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-behind.Done():
	case <-ctx.Done():
		s.log.Info("gateway stops")
		s.api.Drain()
		wait := time.NewTimer(s.ShutdownDelay)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-behind.Done():
		}
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := srv.Shutdown(stopping)
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// handler serves /metrics beside the API. Like the probes it is asked by
// address and not by name.
func (s server) handler() http.Handler {
	exposed := promhttp.HandlerFor(s.metrics, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			exposed.ServeHTTP(w, r)
			return
		}
		s.api.ServeHTTP(w, r)
	})
}

// warn logs what about the Redis server can lose records, once it answers.
func warn(ctx context.Context, store *results.Store, log *zap.Logger) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		look, cancel := context.WithTimeout(ctx, time.Second)
		warnings, err := store.CheckServer(look)
		cancel()
		if err == nil {
			for _, w := range warnings {
				log.Warn("redis may lose records", zap.Stringer("warning", w))
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func hostname() string {
	h, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return h
}

// listenHost is the name that a client uses who was given our address.
func listenHost(l net.Listener) string {
	host, _, err := net.SplitHostPort(l.Addr().String())
	if err != nil || net.ParseIP(host).IsUnspecified() {
		return "localhost"
	}
	return host
}
