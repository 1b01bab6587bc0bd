package e2e_test

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// collector receives spans by OTLP over HTTP.
type collector struct {
	url string

	mu    sync.Mutex
	spans []collected
}

type collected struct {
	*tracepb.Span
	service string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	srv := httptest.NewServer(c)
	t.Cleanup(srv.Close)
	c.url = srv.URL
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var sent tracepb.TracesData // on the wire a request is the same
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, from := range sent.GetResourceSpans() {
		service := ""
		for _, a := range from.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range from.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.spans = append(c.spans, collected{s, service})
			}
		}
	}
}

// trace returns the spans of a trace by their names, each in the order in which
// they began.
func (c *collector) trace(id string) map[string][]collected {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string][]collected{}
	for _, s := range c.spans {
		if hex.EncodeToString(s.GetTraceId()) == id {
			found[s.GetName()] = append(found[s.GetName()], s)
		}
	}
	for _, list := range found {
		slices.SortFunc(list, func(a, b collected) int { return cmp.Compare(a.GetStartTimeUnixNano(), b.GetStartTimeUnixNano()) })
	}
	return found
}

func TestOneTraceFromTheRequestToTheRetry(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	called := make(chan string, 10)
	answers := make(chan int, 2)
	answers <- http.StatusServiceUnavailable
	answers <- http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		called <- r.Header.Get("Traceparent")
		w.WriteHeader(<-answers)
	}))
	t.Cleanup(srv.Close)
	env := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.url, "OTEL_BSP_SCHEDULE_DELAY=50"}
	s := newStack(t, env...)
	s.worker(append(env, "LOVAGE_HTTP_ALLOW="+strings.TrimPrefix(srv.URL, "http://"))...)

	const trace = "0af7651916cd43dd8448eb211c80319c"
	header := patient()
	header.Set("Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	status, body := s.do(http.MethodPost, "/v1/tasks/http_request", map[string]any{"url": srv.URL, "method": "GET"}, header)
	require.Equal(t, http.StatusAccepted, status, "%s", body)
	var v view
	require.NoError(t, json.Unmarshal(body, &v))
	s.await(v.TaskID, "SUCCESS")

	var spans map[string][]collected
	s.eventually(func() bool {
		spans = c.trace(trace)
		return len(spans["process http_request"]) == 2 && len(spans["send http_request"]) == 1 && len(spans["POST /v1/tasks/{name}"]) == 1
	}, "the spans are exported")
	request, sending, attempts := spans["POST /v1/tasks/{name}"][0], spans["send http_request"][0], spans["process http_request"]
	require.Equal(t, "b7ad6b7169203331", hex.EncodeToString(request.GetParentSpanId()))
	require.Equal(t, request.GetSpanId(), sending.GetParentSpanId())
	require.Equal(t, "lovage-gateway", request.service)
	require.Equal(t, tracepb.Span_SPAN_KIND_SERVER, request.GetKind())
	require.Equal(t, tracepb.Span_SPAN_KIND_PRODUCER, sending.GetKind())
	for i, status := range []tracepb.Status_StatusCode{tracepb.Status_STATUS_CODE_ERROR, tracepb.Status_STATUS_CODE_UNSET} {
		require.Equal(t, sending.GetSpanId(), attempts[i].GetParentSpanId())
		require.Equal(t, "lovage-worker", attempts[i].service)
		require.Equal(t, tracepb.Span_SPAN_KIND_CONSUMER, attempts[i].GetKind())
		require.Equal(t, status, attempts[i].GetStatus().GetCode())
		require.Equal(t, "00-"+trace+"-"+hex.EncodeToString(attempts[i].GetSpanId())+"-01", <-called, "the called service continues there")
	}
}

// A collector that hangs costs spans, which are counted, and nothing else.
func TestCollectorThatHangsDoesNotHoldUpTasks(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(release) })
	env := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + srv.URL, "OTEL_BSP_SCHEDULE_DELAY=1", "OTEL_BSP_MAX_QUEUE_SIZE=1"}
	s := &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
	gateway := s.gateway(env...)
	worker := s.worker(env...)
	for range 3 {
		s.await(s.sleep(1, ""), "SUCCESS")
	}
	status, metrics := s.do(http.MethodGet, "/metrics", nil, nil)
	require.Equal(t, http.StatusOK, status)
	require.Regexp(t, `(?m)^lovage_spans_dropped_total [1-9]`, string(metrics))
	for _, p := range []*process{worker, gateway} {
		begun := time.Now()
		p.signal(syscall.SIGTERM)
		require.Zero(t, p.exit())
		require.Less(t, time.Since(begun), 10*time.Second, "2 s for the collector, and some patience")
		p.await("spans were not exported")
	}
}
