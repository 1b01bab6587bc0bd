package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFullQueueIsRefusedUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	s := newStack(t, "LOVAGE_MAX_QUEUE_DEPTHS=default=20")
	s.withoutWorkers()
	submit := func(queue, options string) (status int, slug string, header http.Header) {
		t.Helper()
		body := fmt.Sprintf(`{"task":"sleep_task","kwargs":{"duration":1},"options":{"queue":%q%s}}`, queue, options)
		status, header, text := s.exchange(http.MethodPost, "/v1/tasks", body)
		var p struct{ Type string }
		require.NoError(t, json.Unmarshal(text, &p))
		return status, strings.TrimPrefix(p.Type, "urn:lovage:problem:"), header
	}
	accepted := 0
	s.eventually(func() bool {
		status, slug, header := submit("default", "")
		if status == http.StatusAccepted {
			accepted++
			return false
		}
		require.Equal(t, http.StatusTooManyRequests, status)
		require.Equal(t, "queue-full", slug)
		after, err := strconv.Atoi(header.Get("Retry-After"))
		require.NoError(t, err)
		require.Positive(t, after)
		return true
	}, "the queue is full")
	require.GreaterOrEqual(t, accepted, 20)
	status, _, _ := submit("default", `,"countdown":30`)
	require.Equal(t, http.StatusTooManyRequests, status, "a short delay is no way around")
	status, _, _ = submit("default", `,"countdown":3600`)
	require.Equal(t, http.StatusAccepted, status, "who knows how full it is in an hour")
	_, text := s.do(http.MethodGet, "/metrics", nil, nil)
	require.Contains(t, string(text), "lovage_queues_full 1\n")
	require.Contains(t, string(text), `lovage_submissions_total{outcome="queue-full"} 2`+"\n")

	require.Len(t, s.waiting("default"), accepted, "what was refused was not sent")
	s.eventually(func() bool {
		status, _, _ := submit("default", "")
		return status == http.StatusAccepted
	}, "there is room again")
}

// exchange sends a JSON body as it is.
func (s *stack) exchange(method, path, body string) (status int, header http.Header, text []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, strings.NewReader(body))
	require.NoError(s.t, err)
	req.Header = patient()
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	defer func() { _ = res.Body.Close() }()
	text, err = io.ReadAll(res.Body)
	require.NoError(s.t, err)
	return res.StatusCode, res.Header, text
}
