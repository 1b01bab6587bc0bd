package tasks

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/worker"
)

func TestRedirectsAreFollowed(t *testing.T) {
	t.Parallel()
	base, host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n := len(r.URL.Path) - 1; n > 0 {
			http.Redirect(w, r, r.URL.Path[:n], http.StatusTemporaryRedirect)
			return
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = fmt.Fprint(w, r.Method, string(body), r.Header.Get("Authorization"), r.Header.Get("Referer"))
	})
	r := newTestRequester(t, Config{HTTPAllow: []string{host}})
	in := requestIn{Method: http.MethodPost, URL: base + "/12345", Timeout: 20, JSON: json.RawMessage(`{}`), Headers: map[string]string{"Authorization": "me"}}

	out, err := r.run(t.Context(), in)
	require.NoError(t, err)
	require.Equal(t, "POST{}me", out.Body, "to the same server everything goes along")

	in.URL = base + "/123456"
	_, err = r.run(t.Context(), in)
	requirePermanent(t, err)
	require.ErrorContains(t, err, "more than 5 redirects")
}

func TestRedirectLoopFailsForGood(t *testing.T) {
	t.Parallel()
	base, host := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) })
	_, err := get(t, newTestRequester(t, Config{HTTPAllow: []string{host}}), base)
	requirePermanent(t, err)
}

func TestRedirectToWhatIsNotAllowedFailsForGood(t *testing.T) {
	t.Parallel()
	forbidden, _ := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("called") })
	port, calls := counted(t)
	names := &nameServer{answers: map[string][][]string{"api.test.": {{"127.0.0.1"}}}}
	resolver := names.resolver(t)
	for _, target := range []string{
		forbidden, "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd", "gopher://x", "http://api.test:" + port, "//[::1]/", "http://user:pw@127.0.0.1/",
	} {
		base, host := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", target)
			w.WriteHeader(http.StatusFound)
		})
		r := newTestRequester(t, Config{HTTPAllow: []string{host, "api.test"}, Resolver: resolver})
		_, err := get(t, r, base)
		requirePermanent(t, err)
		require.NotContains(t, err.Error(), "pw", target)
	}
	require.Zero(t, calls.Load())
}

func TestRedirectToAnotherServerLosesTheCallersHeaders(t *testing.T) {
	t.Parallel()
	var other http.Header
	target, targetHost := serve(t, func(w http.ResponseWriter, r *http.Request) {
		other = r.Header
		http.Redirect(w, r, r.URL.Query().Get("back"), http.StatusTemporaryRedirect)
	})
	var home http.Header
	base, host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/home" {
			home = r.Header
			return
		}
		http.Redirect(w, r, target+"/?back="+url.QueryEscape("http://"+r.Host+"/home"), http.StatusTemporaryRedirect)
	})
	r := newTestRequester(t, Config{HTTPAllow: []string{host, targetHost}})
	ctx := worker.WithTask(t.Context(), &messages.Task{ID: "id-1", TraceParent: "00-a-b-01"}, nil, nil)

	_, err := r.run(ctx, requestIn{
		Method: http.MethodPost, URL: base + "/?token=secret", Timeout: 20, JSON: json.RawMessage(`{}`),
		Headers: map[string]string{"Authorization": "me", "Cookie": "a=b", "X-Api-Key": "k"},
	})

	require.NoError(t, err)
	for _, header := range []http.Header{other, home} {
		for _, name := range []string{"Authorization", "Cookie", "X-Api-Key", "Referer"} {
			require.Empty(t, header.Get(name), name)
		}
		require.Equal(t, "id-1:0", header.Get("Idempotency-Key"))
		require.Equal(t, "00-a-b-01", header.Get("Traceparent"))
		require.Equal(t, "application/json", header.Get("Content-Type"))
	}
}
