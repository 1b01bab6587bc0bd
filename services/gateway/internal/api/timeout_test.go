package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRequestTimeoutBoundsThisSubmission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for header, want := range map[string]time.Duration{
			"X-Request-Id: none":    1500 * time.Millisecond,
			"Request-Timeout: 5":    5 * time.Second,
			"Request-Timeout: 30.0": 30 * time.Second,
			"Request-Timeout: 0.25": 250 * time.Millisecond,
			"Request-Timeout: 1e-2": 10 * time.Millisecond,
		} {
			s := newServer(t, func(o *Options) { o.PublishTimeout = 1500 * time.Millisecond })
			s.publisher.hang = true
			for target, body := range map[string]string{
				sleepTask:   `{"duration":1}`,
				"/v1/tasks": `{"task":"any","options":{"queue":"q"}}`,
			} {
				begun := time.Now()
				requireProblem(t, s.ask(t, post, target, body, header), http.StatusGatewayTimeout, slugUnconfirmed)
				require.Equal(t, want, time.Since(begun), "%s %s", target, header)
			}
		}
	})
}

func TestRequestTimeoutBoundsEveryItemOfABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.publisher.hang = true
		begun := time.Now()
		w := s.ask(t, post, "/v1/batches", `{"task":"any","options":{"queue":"q"}}`, "Content-Type: application/x-ndjson", "Request-Timeout: 0.25")
		require.Equal(t, 250*time.Millisecond, time.Since(begun))
		require.Contains(t, w.Body.String(), string(slugUnconfirmed))
		requireProblem(t, s.ask(t, post, "/v1/batches", `{"task":"any"}`, "Content-Type: application/x-ndjson", "Request-Timeout: 0"),
			http.StatusUnprocessableEntity, slugParameters)
	})
}

func TestRequestTimeoutBoundsAKeyedSubmissionAsAWholeAndItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.publisher.hang = true
		begun := time.Now()
		requireProblem(t, s.ask(t, post, sleepTask, `{"duration":1}`, keyed, "Request-Timeout: 7"), http.StatusGatewayTimeout, slugUnconfirmed)
		require.Equal(t, 7*time.Second, time.Since(begun))
		require.Equal(t, 7*time.Second+leaseMargin, s.keys.lease, "it outlasts the publish")

		s.keys.hang = true
		begun = time.Now()
		requireProblem(t, s.ask(t, post, sleepTask, `{"duration":1}`, "Idempotency-Key: other", "Request-Timeout: 0.3"),
			http.StatusServiceUnavailable, slugNoKeyStore)
		require.Equal(t, 300*time.Millisecond, time.Since(begun))
	})
}

func TestRequestTimeoutOutOfItsLimitsNamesThem(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *Options) { o.MaxPublishTimeout = 20 * time.Second })
	for _, value := range []string{"20.001", "0", "0.009", "-1", "2s", "1e99", "Inf", "NaN", "0x1p2", "1,2"} {
		p := requireProblem(t, s.ask(t, post, sleepTask, `not even read`, "Request-Timeout: "+value), http.StatusUnprocessableEntity, slugParameters)
		require.Equal(t, "Request-Timeout", p.Errors[0].Header)
		require.Equal(t, "must be a number of seconds from 0.01 to 20 (LOVAGE_MAX_PUBLISH_TIMEOUT); without the header it is 2", p.Errors[0].Detail)
	}
	requireProblem(t, s.ask(t, post, sleepTask, `{}`, "Request-Timeout: 1", "Request-Timeout: 2"), http.StatusBadRequest, slugRepeatedHeader)
	require.Empty(t, s.publisher.sent)
}

func TestClientThatHangsUpEndsItsSubmission(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.publisher.hang = true
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		r := httptest.NewRequestWithContext(ctx, post, sleepTask, strings.NewReader(`{"duration":1}`))
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Request-Timeout", "30")
		begun := time.Now()
		s.ServeHTTP(httptest.NewRecorder(), r)
		require.Equal(t, 300*time.Millisecond, time.Since(begun))
	})
}

func TestOpenAPIDocumentsTheTimeout(t *testing.T) {
	t.Parallel()
	doc := newServer(t).ask(t, get, "/openapi.json", "").Body.String()
	require.Contains(t, doc, `"name":"Request-Timeout"`)
	require.Contains(t, doc, `"maximum":30`)
}
