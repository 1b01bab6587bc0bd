package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/client"
)

func TestEveryOptionIsSaidInTheQueryAndInTheEnvelope(t *testing.T) {
	t.Parallel()
	eta := time.Date(2030, 1, 2, 3, 4, 5, 600, time.FixedZone("", 3600))
	o := client.Options{
		TaskID: "a/b", IdempotencyKey: `k"1`, Queue: "q", Countdown: 1500 * time.Millisecond, ETA: eta, Expires: eta.Add(time.Hour),
		MaxRetries: new(0), TimeLimit: time.Minute, SoftTimeLimit: 30 * time.Second, IgnoreResult: true, Retention: time.Hour,
		Wait: 1200 * time.Millisecond, Timeout: 500 * time.Millisecond,
	}
	want := map[string]any{
		"task_id": "a/b", "queue": "q", "countdown": "1.5", "eta": "2030-01-02T02:04:05.0000006Z", "expires": "2030-01-02T03:04:05.0000006Z",
		"max_retries": "0", "time_limit": "60", "soft_time_limit": "30", "ignore_result": "true", "retention": "3600",
	}
	asked := make(chan *http.Request, 1)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		asked <- r
		w.WriteHeader(http.StatusAccepted)
		answer(w, r, client.Pending)
	})
	_, err := c.Submit(t.Context(), "a task", nil, o)
	require.NoError(t, err)
	r := <-asked
	require.Equal(t, "/v1/tasks/a task", r.URL.Path)
	require.Equal(t, `"k\"1"`, r.Header.Get("Idempotency-Key"))
	require.Equal(t, "wait=2", r.Header.Get("Prefer"))
	require.Equal(t, "0.5", r.Header.Get("Request-Timeout"))
	require.Equal(t, "Bearer secret", r.Header.Get("Authorization"))
	got := map[string]any{}
	for name, values := range r.URL.Query() {
		require.Len(t, values, 1)
		got[name] = values[0]
	}
	require.Equal(t, want, got)
	body, _ := io.ReadAll(r.Body)
	require.JSONEq(t, `{}`, string(body))

	_, err = c.SubmitEnvelope(t.Context(), client.Envelope{Task: "x.y", Args: []any{1, "2"}, Kwargs: map[string]int{"z": 3}, Options: o})
	require.NoError(t, err)
	r = <-asked
	require.Empty(t, r.URL.RawQuery)
	body, _ = io.ReadAll(r.Body)
	require.JSONEq(t, `{"task":"x.y","args":[1,"2"],"kwargs":{"z":3},"options":{"task_id":"a/b","queue":"q","countdown":1.5,
		"eta":"2030-01-02T02:04:05.0000006Z","expires":"2030-01-02T03:04:05.0000006Z","max_retries":0,"time_limit":60,
		"soft_time_limit":30,"ignore_result":true,"retention":3600}}`, string(body))
}

func TestAProblemSaysWhatTheGatewaySaid(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.Header().Set("Retry-After", "7")
		w.Header().Set("X-Request-Id", "r1")
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, `{"type":"urn:lovage:problem:invalid-input","title":"Invalid input","status":422,"detail":"see errors","retryable":true,
			"task_id":"t","nearest":["n"],"errors":[{"pointer":"/duration","detail":"must be a number"},{"pointer":"","detail":"is odd"},{"parameter":"eta","detail":"is late"}]}`)
	})
	_, err := c.Submit(t.Context(), "x", nil, client.Options{})
	p := problemOf(t, err)
	require.Equal(t, "invalid-input", p.Slug())
	require.True(t, p.Retryable)
	require.Equal(t, 7*time.Second, p.RetryAfter)
	require.Equal(t, "r1", p.RequestID)
	require.Equal(t, "t", p.TaskID)
	require.Equal(t, []string{"n"}, p.Nearest)
	require.Equal(t, "422 invalid-input: /duration must be a number; the body is odd; eta is late", err.Error())
}

func TestAnAnswerOfAProxyIsAProblemToo(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no upstream\nat all", http.StatusBadGateway)
	})
	_, err := c.Get(t.Context(), "x")
	p := problemOf(t, err)
	require.Empty(t, p.Slug())
	require.Equal(t, http.StatusBadGateway, p.Status)
	require.True(t, p.Retryable)
	require.Equal(t, "502 Bad Gateway: no upstream", err.Error())
}

func TestWaitAsksUntilTheTaskIsFinal(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch asked.Add(1) {
		case 1: // a gateway that stops answers at once
			answer(w, r, client.Started)
		case 2:
			refuse(w, http.StatusServiceUnavailable, "store-unavailable", true)
		default:
			answer(w, r, client.Failure)
		}
	})
	task, err := c.Wait(t.Context(), "t1")
	require.NoError(t, err)
	require.Equal(t, client.Failure, task.State)
	require.EqualValues(t, 3, asked.Load())
}

func TestWaitEndsWithItsContextAndWithWhatIsFinal(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/none") {
			refuse(w, http.StatusNotFound, "task-not-found", false)
			return
		}
		<-r.Context().Done()
	})
	_, err := c.Wait(t.Context(), "none")
	require.Equal(t, "task-not-found", problemOf(t, err).Slug())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Wait(ctx, "long")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = (&client.Client{BaseURL: "http://127.0.0.1:1"}).Wait(t.Context(), "unreachable")
	require.Error(t, err)
}

// The record of a task is written beside the answer to its submission.
func TestATaskThatWasJustSubmittedIsLookedFor(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 1 {
			refuse(w, http.StatusNotFound, "task-not-found", false)
			return
		}
		answer(w, r, client.Success)
	})
	_, err := c.Wait(t.Context(), "mine")
	require.NoError(t, err)
}

func TestFollowYieldsEveryChange(t *testing.T) {
	t.Parallel()
	states := []client.State{client.Pending, client.Started, client.InWork, client.Success}
	var asked atomic.Int32
	preferred := make(chan string, len(states))
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := int(asked.Add(1)) - 1
		if n > 0 {
			preferred <- r.Header.Get("Prefer") + " " + r.Header.Get("If-None-Match")
		}
		answer(w, r, states[n])
	})
	var seen []client.State
	for task, err := range c.Follow(t.Context(), "t1") {
		require.NoError(t, err)
		seen = append(seen, task.State)
	}
	require.Equal(t, states, seen)
	for _, known := range states[:len(states)-1] {
		require.Equal(t, fmt.Sprintf("wait=20 %q", known), <-preferred)
	}
}

// The gateway answers an item before it gets the next one.
func TestABatchIsAnsweredWhileItIsSent(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex() // without it the test fails
		enc := json.NewEncoder(w)
		in := json.NewDecoder(r.Body)
		for i := 0; ; i++ {
			var e struct{ Task string }
			if in.Decode(&e) != nil {
				return
			}
			_ = enc.Encode(client.BatchAnswer{Index: i, Status: http.StatusAccepted, TaskID: e.Task})
			_ = rc.Flush()
		}
	})
	answered := make(chan string, 1)
	items := func(yield func(client.Envelope) bool) {
		for _, name := range []string{"a", "b", "c"} {
			if !yield(client.Envelope{Task: name}) {
				return
			}
			require.Equal(t, name, <-answered)
		}
	}
	var seen []string
	for a, err := range c.SubmitBatch(t.Context(), items) {
		require.NoError(t, err)
		seen = append(seen, a.TaskID)
		answered <- a.TaskID
	}
	require.Equal(t, []string{"a", "b", "c"}, seen)
}

func TestABatchEndsWhenNobodyWantsMore(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		_ = rc.EnableFullDuplex() // without it the test fails
		_, _ = io.WriteString(w, `{"index":0,"status":202}`+"\n")
		_ = rc.Flush()
		_, _ = io.Copy(io.Discard, r.Body)
	})
	endless := func(yield func(client.Envelope) bool) {
		for yield(client.Envelope{Task: "x"}) {
			continue // it ends with the reader
		}
	}
	for _, err := range c.SubmitBatch(t.Context(), endless) {
		require.NoError(t, err)
		break
	}
}

func TestABatchThatCannotBeEncodedOrIsRefusedIsAnError(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err == nil {
			refuse(w, http.StatusBadRequest, "empty-body", false)
		}
	})
	errs := func(items ...client.Envelope) (errs []error) {
		for _, err := range c.SubmitBatch(t.Context(), slices.Values(items)) {
			errs = append(errs, err)
		}
		return errs
	}
	got := errs(client.Envelope{Task: "x", Args: []any{func() {}}})
	require.Len(t, got, 1)
	require.ErrorContains(t, got[0], `item for task "x"`)
	got = errs()
	require.Len(t, got, 1)
	require.Equal(t, "empty-body", problemOf(t, got[0]).Slug())
}

func TestAStoppingGatewayIsAnAnswer(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"status":"draining","rabbitmq":"up","redis":"up","catalog":"loaded","tasks":3}`)
	})
	h, err := c.Ready(t.Context())
	require.NoError(t, err)
	require.Equal(t, "draining", h.Status)
	require.WithinDuration(t, time.Now(), h.Time, 5*time.Second)
}
