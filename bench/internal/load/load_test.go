package load

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAnswersAreReadOneAfterTheOther(t *testing.T) {
	t.Parallel()
	in := bufio.NewReader(strings.NewReader(
		"HTTP/1.1 202 Accepted\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello" +
			"HTTP/1.1 503 Service Unavailable\r\ncontent-length:0\r\n\r\n"))
	for _, want := range []int{202, 503} {
		status, err := readAnswer(in)
		require.NoError(t, err)
		require.Equal(t, want, status)
	}
	_, err := readAnswer(in)
	require.ErrorIs(t, err, io.EOF)
}

func TestAnswersThatCannotBeReadAreErrors(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{
		"\r\n",
		"HTTP/1.1 abc Strange\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
	} {
		_, err := readAnswer(bufio.NewReader(strings.NewReader(answer)))
		require.Error(t, err, answer)
	}
}

func TestClosedLoopCountsWhatIsAnsweredBetweenTheMarks(t *testing.T) {
	t.Parallel()
	var requests, marks atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		body, _ := io.ReadAll(r.Body)
		if r.URL.RequestURI() != "/submit?queue=q" || string(body) != "{}" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer s.Close()
	address := s.Listener.Addr().String()
	out, err := Closed{
		Address: address, Request: Request(address, "/submit?queue=q", "{}"), Status: http.StatusAccepted,
		Clients: 3, Warm: 20 * time.Millisecond, Length: 50 * time.Millisecond, Mark: func() { marks.Add(1) },
	}.Run(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 2, marks.Load())
	require.Positive(t, out.Answers)
	require.Less(t, out.Answers, requests.Load())
	require.GreaterOrEqual(t, out.Took, 50*time.Millisecond)
	require.Positive(t, out.Latency.ValueAtQuantile(50))
	require.InEpsilon(t, float64(out.Answers)/out.Took.Seconds(), out.PerSecond(), 1e-9)
}

// On a busy machine a short turn can be over before there is an answer.
func TestClosedLoopWaitsForAnAnswer(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-time.After(100 * time.Millisecond) }))
	defer s.Close()
	address := s.Listener.Addr().String()
	out, err := Closed{
		Address: address, Request: Request(address, "/", ""), Status: http.StatusOK, Clients: 1, Length: time.Millisecond, Mark: func() {},
	}.Run(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, out.Answers)
	require.GreaterOrEqual(t, out.Took, 90*time.Millisecond)
}

func TestClosedLoopFailsWithoutAnySuccess(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	address := s.Listener.Addr().String()
	_, err := Closed{
		Address: address, Request: Request(address, "/", ""), Status: http.StatusAccepted,
		Clients: 2, Length: time.Second, Mark: func() {},
	}.Run(t.Context())
	require.ErrorContains(t, err, "answered 404, and none as wanted")
}

func TestClosedLoopCountsFailuresApart(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	address := s.Listener.Addr().String()
	out, err := Closed{
		Address: address, Request: Request(address, "/", ""), Status: http.StatusOK,
		Clients: 1, Length: time.Second, Mark: func() {}, // a busy machine answers nothing for a while
	}.Run(t.Context())
	require.NoError(t, err)
	require.InDelta(t, out.Answers, out.Failed, 1)
	require.Equal(t, out.Answers, out.Latency.TotalCount())
}

func TestCrowdWaitsTogether(t *testing.T) {
	t.Parallel()
	const clients = 100
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		<-release
		w.WriteHeader(http.StatusAccepted)
	}))
	defer s.Close()
	address := s.Listener.Addr().String()
	c := &Crowd{
		Address: address, Request: Request(address, "/", "{}"), Status: http.StatusAccepted,
		Clients: clients, Every: time.Microsecond, Patience: time.Minute,
	}
	done := make(chan error, 1)
	go func() { done <- c.Run(t.Context()) }()
	require.Eventually(t, func() bool { return c.Waiting() == clients }, time.Minute, time.Millisecond)
	require.Zero(t, c.Accepted())
	close(release)
	require.NoError(t, <-done)
	require.Equal(t, clients, c.Accepted())
	require.Zero(t, c.Waiting())
}

func TestBatchSendsAndReadsAtTheSameTime(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		for in := bufio.NewScanner(r.Body); in.Scan(); {
			status := "202"
			if in.Text() != `{"a":1}` {
				status = "400"
			}
			_, _ = io.WriteString(w, `{"status":`+status+"}\n")
		}
	}))
	defer s.Close()
	for _, items := range []int{1, 99, 100, 12_345} {
		accepted, err := Batch(t.Context(), s.URL, `{"a":1}`, `"status":202`, items)
		require.NoError(t, err)
		require.Equal(t, items, accepted)
	}
	_, err := Batch(t.Context(), s.URL, `{"a":2}`, `"status":202`, 7)
	require.ErrorContains(t, err, `{"status":400}`)
}

func TestBatchWantsAnAnswerForEachItem(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"status":202}`+"\n")
	}))
	defer s.Close()
	_, err := Batch(t.Context(), s.URL, "{}", `"status":202`, 2)
	require.ErrorContains(t, err, "1 of 2 items")
}

func TestLinesAreExactlyAsManyAsAskedFor(t *testing.T) {
	t.Parallel()
	for _, items := range []int{0, 1, block, block + 1, 3*block - 1} {
		var out bytes.Buffer
		require.NoError(t, writeLines(&out, "x", items))
		require.Equal(t, strings.Repeat("x\n", items), out.String())
	}
}
