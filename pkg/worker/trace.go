package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/lovage-mq/lovage/internal/tracing"
	"github.com/lovage-mq/lovage/pkg/messages"
)

// Trace makes an OpenTelemetry span of each attempt, "process" and the name of
// the task, of kind consumer. Its parent is what the task was submitted with, so
// all attempts of a task are in the trace of its submission; where there was
// none, each attempt begins a trace. An error makes the span one that has
// failed, with the type and the text of the error in it, and the stack of a
// panic that [Recover] has caught; arguments and results are not in it.
//
// The context of the handler carries the span, and [TraceParent] names it.
func Trace(p trace.TracerProvider) Middleware {
	tracer := tracing.Tracer(p)
	return func(next Func) Func {
		return func(ctx context.Context, t *messages.Task) (json.RawMessage, error) {
			ctx, span := tracer.Start(tracing.Continue(ctx, t.TraceParent, t.TraceState), "process "+t.Name,
				trace.WithSpanKind(trace.SpanKindConsumer),
				tracing.Attributes(t, semconv.MessagingOperationName("process"), semconv.MessagingOperationTypeProcess,
					attribute.Int("lovage.task.attempt", t.Retries+1)))
			returned := false
			defer func() {
				if !returned { // it panics
					span.SetStatus(codes.Error, "panic")
				}
				span.End()
			}()
			value, err := next(ctx, t)
			if err != nil && span.IsRecording() {
				recordError(ctx, span, err)
			}
			returned = true
			return value, err
		}
	}
}

// recordError says what results say about an error, and why the context ended
// where it did.
func recordError(ctx context.Context, span trace.Span, err error) {
	said := describe(err)
	text := said.Message
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		text = fmt.Sprintf("%s (%v)", text, cause)
	}
	event := []attribute.KeyValue{semconv.ExceptionType(said.Type), semconv.ExceptionMessage(text)}
	if said.Traceback != "" {
		event = append(event, semconv.ExceptionStacktrace(said.Traceback))
	}
	span.AddEvent("exception", trace.WithAttributes(event...))
	span.SetAttributes(semconv.ErrorTypeKey.String(said.Type))
	span.SetStatus(codes.Error, text)
}
