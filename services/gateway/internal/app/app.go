// Package app wires the gateway: the only place that knows both the HTTP API
// and what stands behind it.
package app

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/lovage-mq/lovage/internal/outbound"
	"github.com/lovage-mq/lovage/internal/service"
	"github.com/lovage-mq/lovage/internal/version"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
	"github.com/lovage-mq/lovage/pkg/results"
	"github.com/lovage-mq/lovage/services/gateway/internal/api"
	"github.com/lovage-mq/lovage/services/gateway/internal/console"
	"github.com/lovage-mq/lovage/services/gateway/internal/webhook"
)

const (
	// pendingTTL is how long the record of a task that has not ended is kept
	// after it is due.
	pendingTTL = 7 * 24 * time.Hour
	// recorderSize is how many records of submissions wait for Redis.
	recorderSize = 4000
	lease        = 15 * time.Second
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
	service.QuietRedis()
	client, err := results.OpenWith(results.Address{
		URL: c.RedisURL, URLFile: c.RedisURLFile, CAFile: c.RedisCAFile, CertFile: c.RedisCertFile, KeyFile: c.RedisKeyFile,
	})
	if err != nil {
		return fmt.Errorf("LOVAGE_REDIS_URL: %w", err)
	}
	defer func() { _ = client.Close() }()
	door, err := newDoor(ctx, c, client, log.Named("access"))
	if err != nil {
		return err
	}
	spans, err := service.NewTracing(ctx, "lovage-gateway", log.Named("tracing"))
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	defer spans.Stop(ctx)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("LOVAGE_LISTEN: %w", err)
	}

	store := results.New(results.Options{Client: client, TTL: c.ResultTTL, PendingTTL: pendingTTL, Lease: lease, Log: log.Named("results")})
	broker := rabbitmq.Options{
		URLs: urls, URLFile: c.AMQPURLFile, CAFile: c.AMQPCAFile, CertFile: c.AMQPCertFile, KeyFile: c.AMQPKeyFile,
		Passive: c.AMQPPassive, Name: "lovage gateway " + hostname(), Log: log.Named("rabbitmq"),
	}
	registry := service.NewRegistry(spans)
	publisher := rabbitmq.NewPublisher(rabbitmq.PublisherOptions{
		Options: broker, MaxInFlight: c.MaxInFlight, Foreign: c.ForeignQueues, Metrics: registry,
	})
	door.watch(registry)
	depth := rabbitmq.NewDepth(rabbitmq.DepthOptions{Options: broker, Limit: c.MaxQueueDepth, Limits: c.MaxQueueDepths})
	watchDepth(registry, depth)
	recorder := results.NewRecorder(store, recorderSize)
	watchRecords(registry, recorder, store)
	watcher := results.NewWatcher(client, log.Named("results"))
	clerk := newClerk(store, publisher, broker, registry)
	callbacks, err := newCallbacks(c, store, watcher, registry, log)
	if err != nil {
		return err
	}
	overview, err := rabbitmq.NewOverview(broker, c.ManagementURL)
	if err != nil {
		return fmt.Errorf("LOVAGE_MANAGEMENT_URL: %w", err)
	}
	a, err := api.New(api.Options{ //nolint:contextcheck // every request has a context of its own
		Publisher: gate{publisher, depth}, Recorder: recorder, Watcher: watcher, Events: events{store, watcher},
		Results: reader{store}, Canceller: steering{store}, Deleter: store, Restarter: steering{store}, DeadLetters: graves{rabbitmq.NewDeadLetters(broker)}, Queues: store, Depths: depth,
		QueueStats: overview, Purger: newPurger(store, publisher, overview, broker), Logs: store,
		Catalog: catalog{store, publisher}, Workers: fleet{store, watcher}, Keys: keys{store}, Operations: operations{store}, OperationLeases: operations{store},
		Gate: door.gate(), Rates: door.rates, Audit: door.audit,
		Log: log.Named("api"), AllowedHosts: append(c.AllowedHosts, listenHost(listener)), ForeignQueues: c.ForeignQueues,
		MaxBody: c.MaxBody, PublishTimeout: c.PublishTimeout, MaxPublishTimeout: c.MaxPublishTimeout, MaxInFlight: c.MaxInFlight, Retention: pendingTTL + c.ResultTTL,
		Callbacks: callbacks, MaxStreams: c.streams(), MaxStreamsPerCaller: c.MaxStreamsEach,
		Version: version.String(), Metrics: registry, Tracer: spans.Provider(),
	})
	if err != nil {
		return err
	}

	pages, err := console.New(console.Options{API: a, Fleet: vitals{store, depth}, Unguarded: c.unguarded(), Log: log.Named("console")})
	if err != nil {
		return err
	}

	return serve(ctx, []func(context.Context) error{
		publisher.Run, depth.Run, overview.Run, recorder.Run, watcher.Run, store.Tidy, clerk.run, callbacks.Run, a.Run, door.run, pages.Run,
		func(ctx context.Context) error { return warn(ctx, store, log) },
	}, newServer(c, listener, a, door.pages(a), pages, registry, log).serve)
}

// serve runs a server until ctx ends. Everything behind it outlives it: requests in
// flight still need it.
func serve(ctx context.Context, parts []func(context.Context) error, server func(ctx, behind context.Context) error) error {
	behind, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, behind := errgroup.WithContext(behind)
	for _, run := range parts {
		g.Go(func() error { return run(behind) })
	}
	g.Go(func() error {
		defer stop()
		return server(ctx, behind)
	})
	return g.Wait()
}

// watchRecords shows what did not get into the records and the list of tasks.
func watchRecords(r prometheus.Registerer, recorder *results.Recorder, store *results.Store) {
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "lovage_records_dropped_total", Help: "Records of submissions that were not written because Redis was away for too long.",
	}, func() float64 { return float64(recorder.Dropped()) }))
	r.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "lovage_index_trimmed_total", Help: "Tasks that this gateway dropped from the list of tasks, the oldest of their state, because it was at its limit.",
	}, func() float64 { return float64(store.Trimmed()) }))
}

func newCallbacks(c Config, store *results.Store, watcher *results.Watcher, r prometheus.Registerer, log *zap.Logger) (*webhook.Sender, error) {
	allow, err := outbound.ParseAllowList("LOVAGE_CALLBACK_ALLOW", c.CallbackAllow)
	if err != nil {
		return nil, err
	}
	return webhook.New(webhook.Options{
		Store: store, Watcher: watcher, Allow: allow, Secrets: c.callbackSecrets,
		Keep: pendingTTL + c.ResultTTL, Retention: c.ResultTTL, Metrics: r, Log: log.Named("callbacks"),
	}), nil
}

// watchDepth shows how full the queues are, without a label that a caller could
// choose.
func watchDepth(r prometheus.Registerer, d *rabbitmq.Depth) {
	r.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lovage_queues_full", Help: "Queues that are at their limit, so that submissions to them are refused.",
		}, func() float64 { n, _ := d.Full(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "lovage_queue_fill_ratio", Help: "How full the fullest queue is: 1 at its limit.",
		}, func() float64 { _, fullest := d.Full(); return fullest }),
	)
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
