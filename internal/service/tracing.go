package service

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/version"
)

// exportAtStop is how long a program that stops waits for its last spans.
const exportAtStop = 2 * time.Second

// Tracing exports spans by OTLP over HTTP. A nil one makes none.
type Tracing struct {
	provider *sdktrace.TracerProvider
	queue    *spanQueue
	log      *zap.Logger
}

// NewTracing sets up tracing by the standard variables of OpenTelemetry. It is
// nil when these name no endpoint, and when they switch tracing off. What is
// wrong with them is an error. It does not wait for the endpoint, now or later.
// Call [Tracing.Stop] at the end.
func NewTracing(ctx context.Context, service string, log *zap.Logger) (*Tracing, error) {
	wanted, err := tracingWanted()
	if err != nil || !wanted {
		return nil, err
	}
	limit, err := spanLimit()
	if err != nil {
		return nil, err
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(semconv.ServiceName(service), semconv.ServiceVersion(version.String())), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("describe the program to its traces (OTEL_RESOURCE_ATTRIBUTES): %w", err)
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("export of spans (OTEL_EXPORTER_OTLP_ENDPOINT): %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("tracing", zap.Error(err)) }))
	q := &spanQueue{exporter: exporter, limit: limit, ended: make(chan struct{}), log: log}
	batches := sdktrace.NewBatchSpanProcessor(q, sdktrace.WithMaxQueueSize(int(limit)))
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithSpanProcessor(spanIntake{batches, q}))
	return &Tracing{provider: provider, queue: q, log: log}, nil
}

// Provider returns what makes the spans, nil for none.
func (t *Tracing) Provider() trace.TracerProvider {
	if t == nil {
		return nil
	}
	return t.provider
}

// Dropped returns how many spans were not exported: because too many waited, or
// because the endpoint did not take them.
func (t *Tracing) Dropped() int64 {
	if t == nil {
		return 0
	}
	return t.queue.dropped.Load()
}

// Stop exports what waits. It blocks for two seconds at most; what is left then
// is dropped. Every span has to have ended before.
func (t *Tracing) Stop(ctx context.Context) {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportAtStop)
	defer cancel()
	if t.provider.Shutdown(ctx) != nil {
		_ = t.queue.exporter.Shutdown(ctx) // ends the export that takes too long, and refuses those after it
	}
	<-t.queue.ended
	if n := t.Dropped(); n > 0 {
		t.log.Warn("spans were not exported", zap.Int64("dropped", n))
	}
}

// tracingWanted says whether there is an endpoint, and whether it is one that we
// can export to.
func tracingWanted() (bool, error) {
	name, address := firstSet("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	if address == "" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return false, nil
	}
	var errs []error
	if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("%s: must be an address that begins with http:// or https://", name))
	}
	name, protocol := firstSet("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	if protocol != "" && protocol != "http/protobuf" && protocol != "http/json" {
		errs = append(errs, fmt.Errorf("%s: must be http/protobuf or http/json (port 4318 of most collectors), is %s", name, protocol))
	}
	if exporter := os.Getenv("OTEL_TRACES_EXPORTER"); exporter != "" && exporter != "otlp" {
		errs = append(errs, fmt.Errorf("OTEL_TRACES_EXPORTER: must be otlp or none, is %s", exporter))
	}
	return true, errors.Join(errs...)
}

func firstSet(names ...string) (name, value string) {
	for _, name := range names {
		if value := strings.TrimSpace(os.Getenv(name)); value != "" {
			return name, value
		}
	}
	return "", ""
}

// spanLimit is how many spans may wait to be exported.
func spanLimit() (int64, error) {
	const name = "OTEL_BSP_MAX_QUEUE_SIZE"
	text := os.Getenv(name)
	if text == "" {
		return sdktrace.DefaultMaxQueueSize, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s: must be a positive number, is %q", name, text)
	}
	return n, nil
}

// spanQueue counts the spans that wait, so that none is lost uncounted, and is
// what the batches of the SDK are exported by.
type spanQueue struct {
	exporter sdktrace.SpanExporter
	limit    int64
	waiting  atomic.Int64
	dropped  atomic.Int64
	failing  bool          // of the goroutine that exports
	ended    chan struct{} // closed after the last export
	log      *zap.Logger
}

// ExportSpans is called by one goroutine at a time.
func (q *spanQueue) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := q.exporter.ExportSpans(ctx, spans)
	q.waiting.Add(-int64(len(spans)))
	if err != nil {
		q.dropped.Add(int64(len(spans)))
	}
	if failed := err != nil; failed != q.failing {
		q.failing = failed
		if failed {
			q.log.Warn("spans are not exported", zap.Error(err))
		} else {
			q.log.Info("spans are exported again", zap.Int64("dropped", q.dropped.Load()))
		}
	}
	return nil // the error has been said and counted
}

// Shutdown is called once, after the last export.
func (q *spanQueue) Shutdown(ctx context.Context) error {
	defer close(q.ended)
	return q.exporter.Shutdown(ctx)
}

// spanIntake is in front of the batches of the SDK, which would drop spans
// without telling us.
type spanIntake struct {
	sdktrace.SpanProcessor
	queue *spanQueue
}

// OnEnd never blocks.
func (i spanIntake) OnEnd(s sdktrace.ReadOnlySpan) {
	if !s.SpanContext().IsSampled() {
		return
	}
	if i.queue.waiting.Add(1) > i.queue.limit {
		i.queue.waiting.Add(-1)
		i.queue.dropped.Add(1)
		return
	}
	i.SpanProcessor.OnEnd(s)
}
