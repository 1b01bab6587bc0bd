package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/manifests"
	"github.com/lovage-mq/lovage/pkg/worker"
)

func TestManifestsFitTheWorker(t *testing.T) {
	t.Parallel()
	for _, overlay := range manifests.Overlays() {
		p, err := manifests.Read("../../../..", overlay, "worker")
		require.NoError(t, err)
		var s options
		require.NoError(t, p.Parse(&s), overlay)
		require.NoError(t, s.Validate(), overlay)

		port := fmt.Sprintf(":%d", p.Ports["http"])
		mux := pages(s.Config, worker.New(worker.Options{}), prometheus.NewRegistry())[port]
		require.NotNil(t, mux, "nothing listens on %s", port)
		for _, probe := range []manifests.Probe{p.Startup, p.Liveness, p.Readiness, {Path: "/metrics", Port: "http"}} {
			require.Equal(t, "http", probe.Port)
			answer := httptest.NewRecorder()
			mux.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, probe.Path, http.NoBody))
			require.Equal(t, http.StatusOK, answer.Code, probe.Path)
		}

		// What docs/operations.md asks for: a worker that is killed leaves its
		// leases behind.
		const closing = 15 * time.Second
		require.False(t, p.Hooks, "a worker that stops has no clients to wait for")
		require.GreaterOrEqual(t, p.Grace, s.Drain+closing, overlay)
	}
}
