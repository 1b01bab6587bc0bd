package worker_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/worker"
	"github.com/lovage-mq/lovage/pkg/worker/workertest"
)

const submitted = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

// spansOf runs a task with tracing, submitted with a trace context or without
// one, and returns the spans of its attempts.
func spansOf(t *testing.T, parent string, fn func(context.Context, struct{}) (string, error), around ...worker.Middleware) []sdktrace.ReadOnlySpan {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	w := worker.New(worker.Options{Middleware: append([]worker.Middleware{worker.Trace(provider)}, around...)})
	worker.Handle(w, "greet", fn, worker.WithMaxRetries(1))
	workertest.Do(t, w, "greet", struct{}{}, func(task *messages.Task) {
		task.ID, task.TraceParent, task.TraceState, task.Run = "me", parent, "vendor=1", 2
	})
	return spans.Ended()
}

func attributesOf(s sdktrace.ReadOnlySpan) map[string]any {
	m := map[string]any{}
	for _, a := range s.Attributes() {
		m[string(a.Key)] = a.Value.AsInterface()
	}
	return m
}

func TestEveryAttemptIsASpanInTheTraceOfTheSubmission(t *testing.T) {
	t.Parallel()
	var handedOn []string
	spans := spansOf(t, submitted, func(ctx context.Context, _ struct{}) (string, error) {
		handedOn = append(handedOn, worker.TraceParent(ctx))
		if worker.Attempt(ctx) == 1 {
			return "", errors.New("not yet")
		}
		return "hello", nil
	})
	require.Len(t, spans, 2)
	for i, s := range spans {
		require.Equal(t, "process greet", s.Name())
		require.Equal(t, trace.SpanKindConsumer, s.SpanKind())
		require.Equal(t, "0af7651916cd43dd8448eb211c80319c", s.SpanContext().TraceID().String())
		require.Equal(t, "vendor=1", s.SpanContext().TraceState().String())
		require.Equal(t, "b7ad6b7169203331", s.Parent().SpanID().String())
		require.Equal(t, "00-0af7651916cd43dd8448eb211c80319c-"+s.SpanContext().SpanID().String()+"-01", handedOn[i])
		got := attributesOf(s)
		delete(got, "error.type")
		require.Equal(t, map[string]any{
			"messaging.system": "rabbitmq", "messaging.destination.name": "workertest", "messaging.message.id": "me",
			"messaging.operation.name": "process", "messaging.operation.type": "process",
			"lovage.task.name": "greet", "lovage.task.run": int64(2), "lovage.task.attempt": int64(i + 1),
		}, got)
	}
	require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "not yet"}, spans[0].Status())
	require.Equal(t, "Error", attributesOf(spans[0])["error.type"])
	require.Len(t, spans[0].Events(), 1)
	require.Equal(t, "exception", spans[0].Events()[0].Name)
	require.Contains(t, spans[0].Events()[0].Attributes, attribute.String("exception.message", "not yet"))
	require.Equal(t, sdktrace.Status{}, spans[1].Status())
	require.Empty(t, spans[1].Events())
}

func TestTaskWithoutATraceBeginsOne(t *testing.T) {
	t.Parallel()
	for _, parent := range []string{"", "nonsense"} {
		spans := spansOf(t, parent, func(context.Context, struct{}) (string, error) { return "", nil })
		require.Len(t, spans, 1)
		require.False(t, spans[0].Parent().IsValid())
	}
}

func TestUnsampledTraceStaysSo(t *testing.T) {
	t.Parallel()
	const unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	var handedOn string
	spans := spansOf(t, unsampled, func(ctx context.Context, _ struct{}) (string, error) {
		handedOn = worker.TraceParent(ctx)
		return "", errors.New("no")
	})
	require.Empty(t, spans)
	require.Regexp(t, "^00-0af7651916cd43dd8448eb211c80319c-[0-9a-f]{16}-00$", handedOn)
}

func TestPanicIsASpanThatHasFailed(t *testing.T) {
	t.Parallel()
	panics := func(context.Context, struct{}) (string, error) { panic("boom") }
	for _, s := range spansOf(t, submitted, panics) {
		require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "panic"}, s.Status())
	}
	spans := spansOf(t, submitted, panics, worker.Recover())
	require.Len(t, spans, 2)
	require.Contains(t, spans[0].Status().Description, "boom")
	require.Equal(t, attribute.Key("exception.stacktrace"), spans[0].Events()[0].Attributes[2].Key)
}

func TestSpanSaysWhyTheContextEnded(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewSpanRecorder()
	fn := worker.Trace(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))(
		func(ctx context.Context, _ *messages.Task) (json.RawMessage, error) { return nil, ctx.Err() })
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(worker.ErrDrainTimeout)
	_, err := fn(ctx, &messages.Task{ID: "me", Name: "greet"})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, "context canceled (worker shuts down)", spans.Ended()[0].Status().Description)
}

func TestWithoutSpansTheTraceIsHandedOn(t *testing.T) {
	t.Parallel()
	w := worker.New(worker.Options{Middleware: []worker.Middleware{worker.Trace(noop.NewTracerProvider())}})
	worker.Handle(w, "greet", func(ctx context.Context, _ struct{}) (string, error) { return worker.TraceParent(ctx), nil })
	var got string
	workertest.Do(t, w, "greet", struct{}{}, func(task *messages.Task) { task.TraceParent = submitted }).Decode(&got)
	require.Equal(t, submitted, got)
}
