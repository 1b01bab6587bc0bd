package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Whatever is sent, an answer is no panic and no fault of the server, and says
// what it is.
func FuzzRequest(f *testing.F) {
	s := newServer(f)
	s.catalog.refresh(f.Context(), 0)
	s.store.put(&messages.Result{TaskID: "t", Name: "sleep_task", Queue: "default", State: messages.Failure})
	for _, seed := range []struct{ method, target, name, value, body string }{
		{post, "/v1/tasks/sleep_task?countdown=1&expires=2030-01-01T00:00:00Z", "Idempotency-Key", `"a\"b"`, `{"duration":1}`},
		{post, "/v1/tasks", "Prefer", "wait=1, respond-async;x", `{"task":"a","args":[1],"options":{"queue":"q","eta":"2030-01-01T00:00:00+01:00"}}`},
		{post, "/v1/batches", "Content-Type", "application/x-ndjson", "{\"task\":\"sleep_task\",\"args\":[1]}\n{"},
		{get, "/v1/tasks?state=FAILURE&since=2026-01-01T00:00:00Z&cursor=x&limit=5", "If-None-Match", `W/"x", *`, ""},
		{get, "/v1/tasks/t%2Fu", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", ""},
		{get, "/v1/queues/default/dead?cursor=1.x&group=abc", "Request-Timeout", "1e-3", ""},
		{post, "/v1/queues/default/redrive?all=true&rate=1&limit=3", "Authorization", "Bearer x", ""},
		{"DELETE", "/v1/queues/default/dead/..%2Fx", "Host", "localhost", ""},
		{get, "/v1/audit?cursor=1-1", "Cookie", "a=b", ""},
		{get, "/docs/../openapi.json", "Accept", "text/html", ""},
	} {
		f.Add(seed.method, seed.target, seed.name, seed.value, seed.body)
	}
	f.Fuzz(func(t *testing.T, method, target, name, value, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") || method == "" || strings.ContainsFunc(method, notInID) {
			return // net/http answers these
		}
		if strings.Contains(strings.ToLower(value), "wait") {
			value = "" // there is nobody to wait for
		}
		r := httptest.NewRequestWithContext(t.Context(), post, "/", strings.NewReader(body))
		r.Method, r.URL, r.RequestURI, r.Host = method, u, target, "localhost"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(name, value)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		s.publisher.sent, s.store.recorded = nil, nil
		require.NotEqual(t, http.StatusInternalServerError, w.Code, w.Body.String())
		if w.Code >= http.StatusBadRequest && w.Code != http.StatusServiceUnavailable {
			require.Equal(t, problemType, w.Header().Get("Content-Type"), "%d", w.Code)
		}
	})
}
