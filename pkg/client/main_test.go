package client_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lovage-mq/lovage/pkg/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a gateway of one handler.
func serve(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return &client.Client{BaseURL: s.URL + "/", HTTPClient: s.Client(), Token: "secret"}
}

// answer writes a task with an ETag, or 304 to whoever has it already.
func answer(w http.ResponseWriter, r *http.Request, state client.State) {
	tag := fmt.Sprintf("%q", state)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("ETag", tag)
	_ = json.NewEncoder(w).Encode(client.Task{TaskID: r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:], State: state})
}

// refuse writes a problem.
func refuse(w http.ResponseWriter, status int, slug string, retryable bool) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"type":"urn:lovage:problem:%s","title":"T","status":%d,"detail":"D","retryable":%t}`, slug, status, retryable)
}

func problemOf(t *testing.T, err error) *client.Problem {
	t.Helper()
	var p *client.Problem
	require.ErrorAs(t, err, &p)
	return p
}
