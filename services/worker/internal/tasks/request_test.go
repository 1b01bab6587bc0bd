package tasks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/outbound"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/worker"
)

// serve starts a server and returns its URL and its "host:port".
func serve(t *testing.T, handler http.HandlerFunc) (base, host string) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL, strings.TrimPrefix(server.URL, "http://")
}

// newTestRequester returns an http_request that may call these hosts.
func newTestRequester(t *testing.T, c Config) *requester {
	t.Helper()
	c = c.withDefaults()
	allow, err := outbound.ParseAllowList("LOVAGE_HTTP_ALLOW", c.HTTPAllow)
	require.NoError(t, err)
	client := outbound.NewClient(allow, c.Resolver)
	t.Cleanup(client.CloseIdleConnections)
	return newRequester(c, allow, client)
}

// get calls a URL in the least words.
func get(t *testing.T, r *requester, url string) (requestOut, error) {
	t.Helper()
	return r.run(t.Context(), requestIn{Method: http.MethodGet, URL: url, Timeout: 20})
}

func TestRequestSendsWhatItWasGiven(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	base, host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Add("X-Two", "1")
		w.Header().Add("X-Two", "2")
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"big": 12345678901234567890}`)
	})
	r := newTestRequester(t, Config{HTTPAllow: []string{host}})
	ctx := worker.WithTask(t.Context(), &messages.Task{ID: "id-1", TraceParent: "00-a-b-01"}, nil, nil)

	out, err := r.run(ctx, requestIn{
		Method: http.MethodPut, URL: base + "/a?b=c#d", Timeout: 20,
		Headers: map[string]string{"x-mine": "yes", "Authorization": "Bearer t"},
		JSON:    json.RawMessage(`{"n": 9007199254740993}`),
	})

	require.NoError(t, err)
	require.Equal(t, http.MethodPut, got.Method)
	require.Equal(t, "/a?b=c", got.RequestURI)
	require.Equal(t, "yes", got.Header.Get("X-Mine"))
	require.Equal(t, "Bearer t", got.Header.Get("Authorization"))
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.Equal(t, "id-1:0", got.Header.Get("Idempotency-Key"))
	require.Equal(t, "00-a-b-01", got.Header.Get("Traceparent"))
	require.Contains(t, got.Header.Get("User-Agent"), "lovage-worker")
	require.Equal(t, `{"n": 9007199254740993}`, string(body), "the body is untouched")
	require.Equal(t, http.StatusCreated, out.Status)
	require.Equal(t, "1, 2", out.Headers["x-two"])
	require.Equal(t, "json", out.BodyEncoding)
	encoded, err := json.Marshal(out)
	require.NoError(t, err)
	require.Contains(t, string(encoded), `"body":{"big":12345678901234567890}`)
}

func TestRequestWithoutABody(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "null"} {
		base, host := serve(t, func(w http.ResponseWriter, r *http.Request) {
			sent, _ := io.ReadAll(r.Body)
			_, _ = fmt.Fprintf(w, "%d %s", len(sent), r.Header.Get("Content-Type"))
		})
		r := newTestRequester(t, Config{HTTPAllow: []string{host}})

		out, err := r.run(t.Context(), requestIn{Method: http.MethodPost, URL: base, Timeout: 20, JSON: json.RawMessage(body)})

		require.NoError(t, err)
		require.Equal(t, "0 ", out.Body)
	}
}

func TestRequestUsesTheCallersHeadersFirst(t *testing.T) {
	t.Parallel()
	base, host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Header.Get("User-Agent"), r.Header.Get("Content-Type"), r.Header.Get("Idempotency-Key"))
	})
	r := newTestRequester(t, Config{HTTPAllow: []string{host}})
	ctx := worker.WithTask(t.Context(), &messages.Task{ID: "id-1"}, nil, nil)

	out, err := r.run(ctx, requestIn{Method: http.MethodPost, URL: base, Timeout: 20, JSON: json.RawMessage(`1`), Headers: map[string]string{
		"user-agent": "a", "content-type": "b", "idempotency-key": "c",
	}})

	require.NoError(t, err)
	require.Equal(t, "abc", out.Body)
}

func TestRequestReadsEveryKindOfBody(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		contentType, body string
		want              any
		encoding          string
	}{
		"json":               {"application/json", `[1]`, json.RawMessage(`[1]`), "json"},
		"problem json":       {"application/problem+json", `{}`, json.RawMessage(`{}`), "json"},
		"broken json":        {"application/json", `[1`, `[1`, "text"},
		"json by looks only": {"text/plain", `[1]`, `[1]`, "text"},
		"text":               {"text/plain; charset=utf-8", "grüße", "grüße", "text"},
		"no content type":    {"", "plain", "plain", "text"},
		"bad content type":   {";;", "plain", "plain", "text"},
		"binary":             {"image/png", "\x89PNG\x00\xff", "iVBORwD/", "base64"},
		"text with a zero":   {"text/plain", "a\x00b", "YQBi", "base64"},
		"json with no utf-8": {"application/json", "\"\xff\"", "Iv8i", "base64"},
		"empty":              {"application/json", "", nil, "none"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base, host := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.contentType)
				_, _ = io.WriteString(w, tt.body)
			})
			out, err := get(t, newTestRequester(t, Config{HTTPAllow: []string{host}}), base)
			require.NoError(t, err)
			require.Equal(t, tt.want, out.Body)
			require.Equal(t, tt.encoding, out.BodyEncoding)
			_, err = json.Marshal(out)
			require.NoError(t, err)
		})
	}
}

func TestRequestWithHEAD(t *testing.T) {
	t.Parallel()
	base, host := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-A", "b") })
	out, err := newTestRequester(t, Config{HTTPAllow: []string{host}}).
		run(t.Context(), requestIn{Method: http.MethodHead, URL: base, Timeout: 20})
	require.NoError(t, err)
	require.Equal(t, "none", out.BodyEncoding)
	require.Equal(t, "b", out.Headers["x-a"])
}

func TestRequestJudgesEveryStatus(t *testing.T) {
	t.Parallel()
	base, host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.WriteHeader(status)
		if status >= 400 {
			_, _ = io.WriteString(w, "because\r\nof\x01 this")
		}
	})
	r := newTestRequester(t, Config{HTTPAllow: []string{host}})
	for status := 200; status <= 599; status++ {
		out, err := get(t, r, fmt.Sprintf("%s/%d?token=secret", base, status))
		switch {
		case status < 300:
			require.NoError(t, err, status)
			require.Equal(t, status, out.Status)
			continue
		case status == 408 || status == 425 || status == 429 || status >= 500:
			requireTemporary(t, err)
		default:
			requirePermanent(t, err)
		}
		require.ErrorContains(t, err, fmt.Sprintf("GET %s/%d: %d", base, status, status))
		require.NotContains(t, err.Error(), "secret")
		if status >= 400 {
			require.ErrorContains(t, err, ": because  of  this")
		}
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	t.Parallel()
	tests := map[string]time.Duration{
		"120":                  2 * time.Minute,
		" 7 ":                  7 * time.Second,
		"3600":                 time.Hour,
		"3601":                 time.Hour,
		"9223372036854775807":  time.Hour,
		"99999999999999999999": 0,
		"0":                    0,
		"-5":                   0,
		"1.5":                  0,
		"soon":                 0,
		"":                     0,
		time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat): 90 * time.Second,
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat):       0,
		time.Now().Add(9 * time.Hour).UTC().Format(http.TimeFormat):    time.Hour,
	}
	base, host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", r.URL.Query().Get("after"))
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	r := newTestRequester(t, Config{HTTPAllow: []string{host}})
	for text, want := range tests {
		_, err := get(t, r, base+"?after="+url.QueryEscape(text))
		requireTemporary(t, err)
		var retry *worker.RetryError
		if want == 0 {
			require.NotErrorAs(t, err, &retry, "%q: the task's own backoff", text)
			continue
		}
		require.ErrorAs(t, err, &retry, text)
		// A date in whole seconds, and the time that the test took.
		require.InDelta(t, want.Seconds(), retry.After.Seconds(), 15, text)
		require.LessOrEqual(t, retry.After, time.Hour)
	}
}

func TestRequestIsRetriedWhenNobodyAnswers(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())

	_, err = get(t, newTestRequester(t, Config{HTTPAllow: []string{"127.0.0.1"}}), "http://"+listener.Addr().String()+"/?token=secret")

	requireTemporary(t, err)
	require.ErrorContains(t, err, "connection refused")
	require.NotContains(t, err.Error(), "secret")
}

func TestRequestIsRetriedWhenTheAnswerTakesTooLong(t *testing.T) {
	t.Parallel()
	tests := map[string]http.HandlerFunc{
		"no answer": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"half an answer": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		},
	}
	for name, handler := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base, host := serve(t, handler)
			r := newTestRequester(t, Config{HTTPAllow: []string{host}})

			_, err := r.run(t.Context(), requestIn{Method: http.MethodGet, URL: base, Timeout: 0.05})

			requireTemporary(t, err)
			require.ErrorContains(t, err, "no whole answer in time")
			require.NotErrorIs(t, err, context.DeadlineExceeded, "the deadline was not the task's")
		})
	}
}

func TestRequestIsRetriedWhenTheConnectionBreaks(t *testing.T) {
	t.Parallel()
	base, host := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "half")
		panic(http.ErrAbortHandler)
	})
	_, err := get(t, newTestRequester(t, Config{HTTPAllow: []string{host}}), base)
	requireTemporary(t, err)
}

func TestRequestEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	base, host := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	_, err := newTestRequester(t, Config{HTTPAllow: []string{host}}).
		run(ctx, requestIn{Method: http.MethodGet, URL: base, Timeout: 20})
	require.ErrorIs(t, err, context.Canceled)
	requireTemporary(t, err)
}

func TestRequestBodiesAreLimited(t *testing.T) {
	t.Parallel()
	base, host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("a", len(r.URL.Path)-1))
	})
	r := newTestRequester(t, Config{HTTPAllow: []string{host}, MaxRequest: 10, MaxResponse: 10})

	out, err := get(t, r, base+"/0123456789")
	require.NoError(t, err)
	require.Len(t, out.Body, 10)

	_, err = get(t, r, base+"/0123456789a")
	requirePermanent(t, err)
	require.ErrorContains(t, err, "more than 10 bytes")

	_, err = r.run(t.Context(), requestIn{Method: http.MethodPost, URL: base, Timeout: 20, JSON: json.RawMessage(`"123456789"`)})
	requirePermanent(t, err)
	require.ErrorContains(t, err, "json: has 11 bytes, the limit is 10")
}

// A small answer can unpack into a large one.
func TestCompressedAnswerIsLimitedByItsRealSize(t *testing.T) {
	t.Parallel()
	base, host := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(gzipped(t, make([]byte, 1<<20)))
	})
	_, err := get(t, newTestRequester(t, Config{HTTPAllow: []string{host}, MaxResponse: 10_000}), base)
	requirePermanent(t, err)
	require.ErrorContains(t, err, "more than 10000 bytes")
}

func TestLargeHeadersAreNotRead(t *testing.T) {
	t.Parallel()
	base, host := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Large", strings.Repeat("a", 1<<20))
	})
	_, err := get(t, newTestRequester(t, Config{HTTPAllow: []string{host}}), base)
	requireTemporary(t, err)
}

func TestRequestRefusesBadHeaders(t *testing.T) {
	t.Parallel()
	base, host := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("called") })
	r := newTestRequester(t, Config{HTTPAllow: []string{host}})
	tests := map[string]string{
		"Host": "Host belongs to the connection", "content-length": "Content-Length belongs", "TRANSFER-ENCODING": "Transfer-Encoding belongs",
		"Connection": "Connection belongs", "te": "Te belongs", "Upgrade": "Upgrade belongs", "Proxy-Authorization": "Proxy-Authorization belongs",
		"Keep-Alive": "Keep-Alive belongs", "Trailer": "Trailer belongs", "Expect": "Expect belongs",
		"": "is not a header name", "a b": "is not a header name", "a\r\nb": "is not a header name", "x-bad": "characters that a header cannot have",
	}
	for name, want := range tests {
		_, err := r.run(t.Context(), requestIn{Method: http.MethodGet, URL: base, Timeout: 20, Headers: map[string]string{name: "secret\r\nb"}})
		requirePermanent(t, err)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}
}
