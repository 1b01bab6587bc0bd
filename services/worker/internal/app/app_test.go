package app

import (
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/lovage-mq/lovage/pkg/worker"
)

func TestProbesAndMetricsAreWhereTheyAreWanted(t *testing.T) {
	t.Parallel()
	const probes, metrics = "127.0.0.1:8081", "127.0.0.1:9091"
	all, probesOnly, metricsOnly := []string{"/livez", "/readyz", "/metrics"}, []string{"/livez", "/readyz"}, []string{"/metrics"}
	for _, c := range []struct {
		config Config
		want   map[string][]string
	}{
		{Config{}, map[string][]string{}},
		{Config{Listen: probes}, map[string][]string{probes: probesOnly}},
		{Config{MetricsListen: metrics}, map[string][]string{metrics: metricsOnly}},
		{Config{Listen: probes, MetricsListen: metrics}, map[string][]string{probes: probesOnly, metrics: metricsOnly}},
		{Config{Listen: probes, MetricsListen: probes}, map[string][]string{probes: all}},
	} {
		got := map[string][]string{}
		for addr, mux := range pages(c.config, worker.New(worker.Options{}), prometheus.NewRegistry()) {
			for _, path := range all {
				answer := httptest.NewRecorder()
				mux.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
				if answer.Code == http.StatusOK {
					got[addr] = append(got[addr], path)
				}
			}
		}
		require.Equal(t, c.want, got)
	}
}

func TestAddressThatIsTakenIsAnError(t *testing.T) {
	t.Parallel()
	taken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(taken.Close)
	err := Run(t.Context(), Config{
		Listen: "127.0.0.1:0", MetricsListen: taken.Listener.Addr().String(), Queue: "q", AMQPURL: "amqp://127.0.0.1", RedisURL: "redis://127.0.0.1", Concurrency: 1, MaxResult: 1,
		Drain: time.Second, Lease: time.Second, ResultTTL: time.Second, SleepMax: time.Second,
	}, zaptest.NewLogger(t))
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	require.ErrorContains(t, err, "LOVAGE_METRICS_LISTEN")
}
