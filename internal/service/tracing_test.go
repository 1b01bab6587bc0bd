package service_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/protobuf/proto"

	"github.com/lovage-mq/lovage/internal/service"
)

const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT"

// newTracing exports to a collector, at once.
func newTracing(t *testing.T, collector http.HandlerFunc) (*service.Tracing, *observer.ObservedLogs) {
	t.Helper()
	srv := httptest.NewServer(collector)
	t.Cleanup(srv.Close)
	t.Setenv(endpoint, srv.URL)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	core, lines := observer.New(zap.InfoLevel)
	tracing, err := service.NewTracing(t.Context(), "lovage-test", zap.New(core))
	require.NoError(t, err)
	require.NotNil(t, tracing.Provider())
	return tracing, lines
}

func makeSpans(t *testing.T, tracing *service.Tracing, n int) {
	t.Helper()
	for range n {
		_, span := tracing.Provider().Tracer("test").Start(t.Context(), "s")
		span.End()
	}
}

// spansOf reads what a collector was sent.
func spansOf(r *http.Request) (service string, spans int64) {
	body, _ := io.ReadAll(r.Body)
	var sent tracepb.TracesData // on the wire a request is the same
	if proto.Unmarshal(body, &sent) != nil {
		return "", 0
	}
	for _, of := range sent.GetResourceSpans() {
		for _, a := range of.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range of.GetScopeSpans() {
			spans += int64(len(scope.GetSpans()))
		}
	}
	return service, spans
}

func TestWithoutAnEndpointThereIsNoTracing(t *testing.T) {
	for _, env := range []map[string]string{
		{},
		{endpoint: " "},
		{endpoint: "http://127.0.0.1:4318", "OTEL_SDK_DISABLED": "true"},
		{endpoint: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "none"},
	} {
		t.Run("", func(t *testing.T) {
			for name, value := range env {
				t.Setenv(name, value)
			}
			tracing, err := service.NewTracing(t.Context(), "lovage-test", zap.NewNop())
			require.NoError(t, err)
			require.Nil(t, tracing)
			require.Nil(t, tracing.Provider(), "also as an interface")
			require.Zero(t, tracing.Dropped())
			tracing.Stop(t.Context())
		})
	}
}

func TestWrongTracingIsFoundAtTheStart(t *testing.T) {
	for name, env := range map[string]map[string]string{
		endpoint:                             {endpoint: "collector:4318"},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": {endpoint: "http://127.0.0.1:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://"},
		"OTEL_EXPORTER_OTLP_PROTOCOL":        {endpoint: "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
		"OTEL_TRACES_EXPORTER":               {endpoint: "http://127.0.0.1:4318", "OTEL_TRACES_EXPORTER": "zipkin"},
		"OTEL_BSP_MAX_QUEUE_SIZE":            {endpoint: "http://127.0.0.1:4318", "OTEL_BSP_MAX_QUEUE_SIZE": "many"},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range env {
				t.Setenv(name, value)
			}
			_, err := service.NewTracing(t.Context(), "lovage-test", zap.NewNop())
			require.ErrorContains(t, err, name+": must be ")
		})
	}
}

func TestSpansAreExportedBeforeTheEnd(t *testing.T) {
	var got atomic.Int64
	tracing, _ := newTracing(t, func(_ http.ResponseWriter, r *http.Request) {
		if name, n := spansOf(r); r.URL.Path == "/v1/traces" && name == "lovage-test" {
			got.Add(n)
		}
	})
	makeSpans(t, tracing, 700)
	tracing.Stop(t.Context())
	require.EqualValues(t, 700, got.Load())
	require.Zero(t, tracing.Dropped())
}

// A collector that answers nothing takes neither time nor memory without end,
// and every span that it costs is counted.
func TestCollectorThatHangsHoldsNobodyUp(t *testing.T) {
	t.Setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100")
	asked, release := make(chan struct{}, 100), make(chan struct{})
	tracing, lines := newTracing(t, func(http.ResponseWriter, *http.Request) {
		asked <- struct{}{}
		<-release
	})
	defer close(release)
	makeSpans(t, tracing, 1)
	<-asked
	makeSpans(t, tracing, 1000)
	require.EqualValues(t, 901, tracing.Dropped(), "all but those that wait or are on their way")

	begun := time.Now()
	tracing.Stop(t.Context())
	require.Less(t, time.Since(begun), 5*time.Second, "2 s, and some patience")
	require.EqualValues(t, 1001, tracing.Dropped())
	require.Equal(t, 1, lines.FilterMessage("spans were not exported").Len())
}

func TestCollectorThatComesBackIsUsedAgain(t *testing.T) {
	var away atomic.Bool
	away.Store(true)
	var got atomic.Int64
	tracing, lines := newTracing(t, func(w http.ResponseWriter, r *http.Request) {
		if away.Load() {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, n := spansOf(r)
		got.Add(n)
	})
	makeSpans(t, tracing, 3)
	require.Eventually(t, func() bool { return tracing.Dropped() == 3 }, 30*time.Second, time.Millisecond)
	away.Store(false)
	makeSpans(t, tracing, 2)
	tracing.Stop(t.Context())
	require.EqualValues(t, 2, got.Load())
	require.Equal(t, 1, lines.FilterMessage("spans are not exported").Len())
	require.Equal(t, 1, lines.FilterMessage("spans are exported again").Len())
}
