package e2e_test

import (
	"bufio"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheWorkerServesItsMetrics(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	w := s.worker("LOVAGE_METRICS_LISTEN=127.0.0.1:0")
	s.await(s.sleep(1, ""), "SUCCESS")
	require.Equal(t, 1, s.count(w, `lovage_claims_total{verdict="run"}`))
	require.Zero(t, s.count(w, `lovage_claims_total{verdict="busy"}`))
	require.Positive(t, s.count(w, "go_goroutines"))
	require.Positive(t, s.count(w, "process_open_fds"))
}

// count is a number that a worker shows which serves metrics and nothing else.
func (s *stack) count(w *process, name string) int {
	s.t.Helper()
	n, err := strconv.Atoi(s.metric("http://"+w.await("worker listens")["address"].(string)+"/metrics", name))
	require.NoError(s.t, err)
	return n
}

// metric returns a value as it is shown, "" if there is none.
func (s *stack) metric(url, name string) (found string) {
	s.t.Helper()
	res, err := http.Get(url) //nolint:noctx // it is a test's own server
	require.NoError(s.t, err)
	defer func() { _ = res.Body.Close() }()
	for in := bufio.NewScanner(res.Body); in.Scan(); {
		if value, ok := strings.CutPrefix(in.Text(), name+" "); ok {
			found = value
		}
	}
	return found
}
