package app

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/internal/manifests"
)

func TestManifestsFitTheGateway(t *testing.T) {
	t.Parallel()
	for _, overlay := range manifests.Overlays() {
		p, err := manifests.Read("../../../..", overlay, "gateway")
		require.NoError(t, err)
		var s options
		require.NoError(t, p.Parse(&s), overlay)
		require.NoError(t, s.Validate(), overlay)
		require.Equal(t, fmt.Sprintf(":%d", p.Ports["http"]), s.Listen)
		open := overlay == "overlays/dev"
		require.Equal(t, open, s.InsecureNoAuth, overlay)
		require.Equal(t, !open, s.secured(), overlay)
		require.Subset(t, s.AllowedHosts, []string{"gateway", "gateway.lovage.svc"}, "other pods address it so")
		for _, probe := range []manifests.Probe{p.Startup, p.Liveness, p.Readiness} {
			require.Equal(t, "http", probe.Port)
		}

		// From SIGTERM on: other nodes may send requests for some seconds yet.
		const endpoints = 5 * time.Second
		require.False(t, p.Hooks, "the gateway waits by itself")
		require.GreaterOrEqual(t, s.ShutdownDelay, 2*endpoints)
		const behind = 3 * 2 * time.Second // publishes, records, spans
		require.Greater(t, p.Grace, s.ShutdownDelay+max(stopTimeout, s.PublishTimeout, s.MaxPublishTimeout)+behind, overlay)
	}
}

// What the probes ask is answered although they have no key, and neither RabbitMQ
// nor Redis is there. Prometheus needs one that reads.
func TestProbesOfTheManifestsAreAnswered(t *testing.T) {
	t.Parallel()
	p, err := manifests.Read("../../../..", "base", "gateway")
	require.NoError(t, err)
	c := defaults(t)
	c.Listen = "127.0.0.1:0"
	c.AMQPURL, c.RedisURL = "amqp://127.0.0.1:1/", "redis://127.0.0.1:1/0"
	c.APIKeysFile = filepath.Join(t.TempDir(), "keys.json")
	key, token, err := access.New(access.Key{Name: "prometheus", Scopes: []access.Scope{access.Read}})
	require.NoError(t, err)
	require.NoError(t, access.File{Path: c.APIKeysFile}.Save(t.Context(), key))
	core, log := observer.New(zap.InfoLevel)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c, zap.New(core)) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})

	var address string
	require.Eventually(t, func() bool {
		for _, line := range log.FilterMessage("gateway listens").All() {
			address = line.ContextMap()["address"].(string)
		}
		return address != ""
	}, 30*time.Second, time.Millisecond)
	ask := func(path, token string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, http.NoBody)
		require.NoError(t, err)
		req.Host = "10.1.2.3:8080" // a pod is asked by its address
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	for _, probe := range []manifests.Probe{p.Startup, p.Liveness, p.Readiness} {
		require.Equal(t, http.StatusOK, ask(probe.Path, ""), probe.Path)
	}
	require.Equal(t, http.StatusUnauthorized, ask("/metrics", ""))
	require.Equal(t, http.StatusOK, ask("/metrics", token))
	require.NotEqual(t, p.Liveness.Path, p.Readiness.Path)
}
