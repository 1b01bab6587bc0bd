package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestOnlyKnownHostsAreAnswered(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *Options) { o.AllowedHosts = []string{"Lovage.example:9000", "[fd00::1]:80", " "} })
	for host, ok := range map[string]bool{
		"localhost": true, "LOCALHOST:8080": true, "127.0.0.1:1": true, "[::1]:8080": true, "[::1]": true, "lovage.example": true,
		"lovage.example:1": true, "[fd00::1]": true, "evil.example": false, "localhost.evil.example": false, "127.0.0.2": false, "": false,
	} {
		r := httptest.NewRequestWithContext(t.Context(), get, "/v1/tasks", nil)
		r.Host = host
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if ok {
			require.Equal(t, http.StatusOK, w.Code, host)
			continue
		}
		requireProblem(t, w, http.StatusMisdirectedRequest, slugMisdirected)
		for _, probe := range []string{"/livez", "/readyz"} {
			r = httptest.NewRequestWithContext(t.Context(), get, probe, nil)
			r.Host = host
			w = httptest.NewRecorder()
			s.ServeHTTP(w, r)
			require.Equal(t, http.StatusOK, w.Code, "a kubelet asks by address")
		}
	}
}

func TestOtherOriginsMayNotWrite(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, header := range []string{"Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", "Origin: https://evil.example", "Origin: null"} {
		requireProblem(t, s.ask(t, post, "/v1/tasks/send_mail", `{}`, header), http.StatusForbidden, slugCrossOrigin)
		require.Empty(t, s.publisher.sent)
	}
	for _, header := range []string{"Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none", "Origin: http://localhost:8080"} {
		require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks/send_mail", `{}`, header).Code, header)
	}
}

func TestSingleHeadersGivenTwiceAreRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, name := range []string{
		"Content-Type", "Idempotency-Key", "Authorization", "Host", "Content-Length", "traceparent", "Origin", "Content-Encoding", "X-Request-Id",
	} {
		p := requireProblem(t, s.ask(t, post, "/v1/tasks/send_mail", `{}`, name+": a", name+": a"), http.StatusBadRequest, slugRepeatedHeader)
		require.True(t, strings.EqualFold(name, p.Errors[0].Header), name)
	}
	for _, target := range []string{"/v1/tasks/send_mail", "/v1/tasks"} {
		p := requireProblem(t, s.ask(t, post, target, `{}`, "Prefer: wait=1", "Prefer: wait=2"), http.StatusBadRequest, slugRepeatedHeader)
		require.Equal(t, "Prefer", p.Errors[0].Header)
	}
	requireProblem(t, s.ask(t, get, "/v1/tasks/x", "", "Prefer: wait=1, wait=2"), http.StatusBadRequest, slugRepeatedHeader)
	require.Empty(t, s.publisher.sent)
}

func TestRequestIDIsKeptWhenHarmless(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	require.Equal(t, "abc-1.2:3_X", s.ask(t, get, "/livez", "", "X-Request-Id: abc-1.2:3_X").Header().Get("X-Request-Id"))
	for _, bad := range []string{strings.Repeat("x", 129), "a b", "a\"b", "ä", ""} {
		id := s.ask(t, get, "/livez", "", "X-Request-Id: "+bad).Header().Get("X-Request-Id")
		_, ours := messages.IDTime(id)
		require.True(t, ours, bad)
	}
}

func TestEveryAnswerHasSecurityHeaders(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, target := range []string{"/livez", "/nope", "/v1/tasks/x", "/openapi.json", "/docs", "/docs/assets/page.js"} {
		h := s.ask(t, get, target, "").Header()
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"), target)
		require.Equal(t, "same-origin", h.Get("Cross-Origin-Resource-Policy"), target)
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'", target)
		require.Contains(t, h.Get("Content-Security-Policy"), "frame-ancestors 'none'", target)
		require.NotEmpty(t, h.Get("Cache-Control"), target)
	}
}

func TestUnknownRoutesAndMethodsAreProblems(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, target := range []string{"/", "/v1", "/v2/tasks", "/v1/tasks/a/b", "/v1/tasks/", "/v1/tasks/a%2Fb/c", "/docs/assets", "/docs/assets/", "/docs/assets/nope.js", "/docs/docs.go", "/docs/index.html"} {
		requireProblem(t, s.ask(t, get, target, ""), http.StatusNotFound, slugNotFound)
	}
	for _, c := range [][2]string{
		{"DELETE", "/v1/tasks"}, {"PUT", "/v1/tasks/x"}, {"POST", "/v1/catalog"}, {"POST", "/livez"}, {"PATCH", "/openapi.json"}, {"POST", "/docs"},
	} {
		w := s.ask(t, c[0], c[1], "")
		require.Contains(t, w.Header().Get("Allow"), "GET", c)
		requireProblem(t, w, http.StatusMethodNotAllowed, slugMethod)
	}
	require.Equal(t, http.StatusNoContent, s.ask(t, "OPTIONS", "/v1/tasks", "").Code)
	require.Equal(t, http.StatusOK, s.ask(t, "HEAD", "/livez", "").Code)
}

func TestPanicIsA500AndIsLogged(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	s := newServer(t, func(o *Options) { o.Log = zap.New(core) })
	s.publisher.after = func(*messages.Message) { panic("boom") }
	w := s.ask(t, post, "/v1/tasks/send_mail", `{"secret":"hunter2"}`)
	require.NotContains(t, w.Body.String(), "boom")
	requireProblem(t, w, http.StatusInternalServerError, slugInternal)
	entries := logs.FilterMessage("request").All()
	require.Len(t, entries, 1)
	require.Equal(t, zapcore.ErrorLevel, entries[0].Level)
	require.Contains(t, entries[0].ContextMap()["error"], "boom")
	require.Contains(t, entries[0].ContextMap()["error"], "middleware_test.go", "the stack")
}

func TestPanicAfterTheAnswerBeganCutsTheConnection(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	h := s.middleware(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, "half")
		panic("boom")
	}))
	r := httptest.NewRequestWithContext(t.Context(), get, "/", nil)
	r.Host = "localhost"
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { h.ServeHTTP(httptest.NewRecorder(), r) })
	abort := s.middleware(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { abort.ServeHTTP(httptest.NewRecorder(), r) })
}

func TestRequestLogNamesTheTaskAndHidesPayloads(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	s := newServer(t, func(o *Options) { o.Log = zap.New(core) })
	s.catalog.refresh(t.Context(), 0)
	logs.TakeAll()
	s.ask(t, post, "/v1/tasks/send_mail?task_id=t9&queue=mail", `{"secret":"hunter2"}`, "Authorization: Bearer hunter3", "X-Request-Id: r1")
	s.ask(t, post, "/v1/tasks/sleep_task", `{"secret":"hunter2"}`)
	s.publisher.err = messages.ErrBrokerUnavailable
	s.ask(t, post, "/v1/tasks/send_mail", `{}`)
	s.ask(t, get, "/livez", "")
	entries := logs.All()
	require.Len(t, entries, 4)
	first := entries[0].ContextMap()
	require.Equal(t, "r1", first["request_id"])
	require.Equal(t, "t9", first["task_id"])
	require.Equal(t, "/v1/tasks/{name}", first["route"])
	require.EqualValues(t, 202, first["status"])
	require.Equal(t, "invalid-input", entries[1].ContextMap()["problem"])
	require.Equal(t, zapcore.WarnLevel, entries[2].Level)
	require.Equal(t, zapcore.DebugLevel, entries[3].Level)
	for _, e := range entries {
		require.NotContains(t, fmt.Sprint(e), "hunter")
		require.NotContains(t, fmt.Sprint(e), "queue=mail")
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.publisher.state = "down"
	require.JSONEq(t, `{"status":"ok"}`, s.ask(t, get, "/livez", "").Body.String())
	w := s.ask(t, get, "/readyz", "")
	require.Equal(t, http.StatusOK, w.Code, "an outage of RabbitMQ must not become one of ours")
	require.JSONEq(t, `{"status":"ok","rabbitmq":"down","redis":"unknown","catalog":"missing","tasks":0,"version":"1.2.3"}`, w.Body.String())
	s.catalog.refresh(t.Context(), 0)
	s.publisher.state = "blocked"
	require.JSONEq(t, `{"status":"ok","rabbitmq":"blocked","redis":"up","catalog":"loaded","tasks":2,"version":"1.2.3"}`, s.ask(t, get, "/readyz", "").Body.String())
	s.Drain()
	s.Drain()
	w = s.ask(t, get, "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "draining", decode(t, w)["status"])
	require.Equal(t, http.StatusOK, s.ask(t, get, "/livez", "").Code)
	require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks/send_mail", `{}`).Code, "what comes while draining is served")
}

func TestProblemTableIsComplete(t *testing.T) {
	t.Parallel()
	seen := map[slug]bool{}
	for _, k := range kinds() {
		require.NotEmpty(t, k.slug)
		require.False(t, seen[k.slug], k.slug)
		seen[k.slug] = true
		require.NotEmpty(t, k.title)
		require.GreaterOrEqual(t, k.status, 400)
		require.Equal(t, k.slug, newProblem(k.slug, "").kind)
		if k.status == http.StatusServiceUnavailable || k.status == http.StatusGatewayTimeout {
			require.True(t, k.retryable, k.slug)
			require.Positive(t, k.after, k.slug)
		}
	}
	require.Equal(t, slugInternal, newProblem("no-such-slug", "").kind)
}

func TestProblemOverARealConnection(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	web := httptest.NewServer(s)
	defer web.Close()
	for range 2 {
		r, err := http.NewRequestWithContext(t.Context(), post, web.URL+"/v1/tasks/send_mail", strings.NewReader(strings.Repeat("x", 2<<20)))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		answer, err := web.Client().Do(r)
		require.NoError(t, err)
		require.Equal(t, http.StatusRequestEntityTooLarge, answer.StatusCode)
		require.NoError(t, answer.Body.Close())
	}
}

func TestWaitOutlivesTheReadTimeoutOfTheServer(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	web := httptest.NewUnstartedServer(s)
	web.Config.ReadTimeout = 1500 * time.Millisecond // a busy machine needs some of it to read
	web.Start()
	defer web.Close()
	r, err := http.NewRequestWithContext(t.Context(), post, web.URL+"/v1/tasks/send_mail", strings.NewReader(`{}`))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Prefer", "wait=2")
	begun := time.Now()
	answer, err := web.Client().Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusAccepted, answer.StatusCode)
	require.GreaterOrEqual(t, time.Since(begun), 2*time.Second)
}
