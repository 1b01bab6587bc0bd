package api

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	clientTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	clientParent = "00-" + clientTrace + "-00f067aa0ba902b7-01"
)

// newTracedServer is a server whose spans can be looked at.
func newTracedServer(t *testing.T) (*server, *tracetest.SpanRecorder) {
	t.Helper()
	spans := tracetest.NewSpanRecorder()
	return newServer(t, func(o *Options) { o.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)) }), spans
}

// named returns the only ended span of a name.
func named(t *testing.T, spans *tracetest.SpanRecorder, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	var found []sdktrace.ReadOnlySpan
	for _, s := range spans.Ended() {
		if s.Name() == name {
			found = append(found, s)
		}
	}
	require.Len(t, found, 1, name)
	return found[0]
}

func attributesOf(s sdktrace.ReadOnlySpan) map[string]any {
	m := map[string]any{}
	for _, a := range s.Attributes() {
		m[string(a.Key)] = a.Value.AsInterface()
	}
	return m
}

// parentOf is the header that names a span.
func parentOf(s sdktrace.ReadOnlySpan) string {
	return "00-" + s.SpanContext().TraceID().String() + "-" + s.SpanContext().SpanID().String() + "-01"
}

func TestSubmissionIsASpanOfItsRequest(t *testing.T) {
	t.Parallel()
	s, spans := newTracedServer(t)
	w := s.ask(t, post, "/v1/tasks/sleep_task?task_id=mine", `{"duration":1}`, "Traceparent: "+clientParent, "Tracestate: a=1", "Tracestate: b=2")
	require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
	require.Len(t, spans.Ended(), 2)

	request := named(t, spans, "POST "+routeNamed)
	require.Equal(t, trace.SpanKindServer, request.SpanKind())
	require.Equal(t, clientTrace, request.SpanContext().TraceID().String())
	require.Equal(t, "00f067aa0ba902b7", request.Parent().SpanID().String())
	require.Equal(t, sdktrace.Status{}, request.Status())
	require.Equal(t, map[string]any{
		"http.request.method": "POST", "url.path": "/v1/tasks/sleep_task", "url.scheme": "http", "http.route": routeNamed,
		"http.response.status_code": int64(http.StatusAccepted),
	}, attributesOf(request))

	sending := named(t, spans, "send sleep_task")
	require.Equal(t, trace.SpanKindProducer, sending.SpanKind())
	require.Equal(t, request.SpanContext().SpanID(), sending.Parent().SpanID())
	require.Equal(t, map[string]any{
		"messaging.system": "rabbitmq", "messaging.destination.name": "default", "messaging.message.id": "mine",
		"messaging.operation.name": "send", "messaging.operation.type": "send", "lovage.task.name": "sleep_task", "lovage.task.run": int64(0),
	}, attributesOf(sending))

	task := s.publisher.last(t).task
	require.Equal(t, parentOf(sending), task.TraceParent)
	require.Equal(t, "a=1,b=2", task.TraceState)
}

func TestEveryItemOfABatchIsASpan(t *testing.T) {
	t.Parallel()
	s, spans := newTracedServer(t)
	w := s.ask(t, post, routeBatch, sleepItem("a")+"\n"+`{"task":"sleep_task"}`+"\n"+sleepItem("b"), asLines, "Traceparent: "+clientParent)
	require.Equal(t, http.StatusOK, w.Code)
	request := named(t, spans, "POST "+routeBatch)
	parents := map[string]bool{}
	for _, span := range spans.Ended() {
		require.Equal(t, clientTrace, span.SpanContext().TraceID().String())
		if span.Name() == "send sleep_task" {
			require.Equal(t, request.SpanContext().SpanID(), span.Parent().SpanID())
			parents[parentOf(span)] = true
		}
	}
	require.Len(t, parents, 2, "the one that is invalid is not sent")
	require.Len(t, s.publisher.sent, 2)
	for _, m := range s.publisher.sent {
		require.True(t, parents[m.task.TraceParent])
	}
}

func TestSpansTellWhatWentWrong(t *testing.T) {
	t.Parallel()
	s, spans := newTracedServer(t)
	s.publisher.err = messages.ErrBrokerUnavailable
	requireProblem(t, s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`), http.StatusServiceUnavailable, "broker-unavailable")
	for _, name := range []string{"POST " + routeNamed, "send sleep_task"} {
		span := named(t, spans, name)
		require.Equal(t, codes.Error, span.Status().Code)
		require.Equal(t, "broker-unavailable", attributesOf(span)["error.type"])
	}
	spans.Reset()
	requireProblem(t, s.ask(t, post, "/v1/tasks/sleep_task", `{}`), http.StatusUnprocessableEntity, slugInput)
	require.Len(t, spans.Ended(), 1)
	refused := named(t, spans, "POST "+routeNamed)
	require.Equal(t, codes.Unset, refused.Status().Code, "it is the client's mistake")
	require.Equal(t, string(slugInput), attributesOf(refused)["lovage.problem"])
}

func TestSpansOfWhatIsNoCall(t *testing.T) {
	t.Parallel()
	s, spans := newTracedServer(t)
	s.ask(t, get, routeLive, "")
	s.ask(t, get, routeReady, "")
	require.Empty(t, spans.Started(), "probes have none")
	s.ask(t, "BREW", "/nothing", "")
	require.Equal(t, "_OTHER", attributesOf(named(t, spans, "HTTP"))["http.request.method"])
}

func TestMalformedTraceContextBeginsATrace(t *testing.T) {
	t.Parallel()
	s, spans := newTracedServer(t)
	s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`, "Traceparent: 00-nonsense", "Tracestate: a=1")
	require.False(t, named(t, spans, "POST "+routeNamed).Parent().IsValid())
	require.Equal(t, parentOf(named(t, spans, "send sleep_task")), s.publisher.last(t).task.TraceParent)
	require.Empty(t, s.publisher.last(t).task.TraceState)
}

func TestUnsampledTraceIsHandedOnAsSuch(t *testing.T) {
	t.Parallel()
	s, spans := newTracedServer(t)
	s.ask(t, post, "/v1/tasks/sleep_task", `{"duration":1}`, "Traceparent: 00-"+clientTrace+"-00f067aa0ba902b7-00")
	require.Empty(t, spans.Ended())
	require.Regexp(t, "^00-"+clientTrace+"-[0-9a-f]{16}-00$", s.publisher.last(t).task.TraceParent)
}

func TestRetriedTaskStaysInATrace(t *testing.T) {
	t.Parallel()
	t.Run("from its dead letter", func(t *testing.T) {
		t.Parallel()
		s, _ := newTracedServer(t)
		const first = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		m, err := messages.Encode(&messages.Task{ID: "b0", Name: "sleep_task", Queue: "default", TraceParent: first})
		require.NoError(t, err)
		messages.EncodeDeadLetter(m, messages.DeadLetter{Reason: messages.ReasonPermanent, Queue: "default"})
		s.graves.letters = []*messages.Message{m}
		w := s.ask(t, post, "/v1/queues/default/dead/b0/redrive", "", "Traceparent: "+clientParent)
		require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
		require.Equal(t, first, s.publisher.last(t).task.TraceParent, "that of its submission")
	})
	t.Run("from its record", func(t *testing.T) {
		t.Parallel()
		s := newServer(t)
		s.store.put(&messages.Result{TaskID: "b0", State: messages.Revoked, Name: "sleep_task", Queue: "default"})
		w := s.ask(t, post, "/v1/tasks/b0/retry", "", "Traceparent: "+clientParent)
		require.Equal(t, http.StatusAccepted, w.Code, w.Body.String())
		require.Equal(t, clientParent, s.publisher.last(t).task.TraceParent, "the record knows no other")
	})
}
