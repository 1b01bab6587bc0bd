package e2e_test

import (
	"net/http"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/client"
)

// Keys made on the command line are asked for by the gateway, whether they are
// in Redis or in a file, and a key that was revoked lets nobody in.
func TestAGatewayAsksForKeys(t *testing.T) {
	t.Parallel()
	for name, where := range map[string]func(s *stack) (keys, gateway string){
		"in Redis": func(s *stack) (string, string) { return "LOVAGE_REDIS_URL=" + s.redis, "LOVAGE_API_KEYS_REDIS=true" },
		"in a file": func(s *stack) (string, string) {
			file := "LOVAGE_API_KEYS_FILE=" + filepath.Join(s.t.TempDir(), "keys")
			return file, file
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStackWithout(t)
			keys, setting := where(s)
			s.lovageEnv = []string{keys}
			admin := s.newKey("ada", "--scope", "admin")
			s.header = http.Header{"Authorization": {"Bearer " + admin}}
			s.gateway(setting)
			s.worker()

			s.header = nil
			for _, path := range []string{"/v1/tasks", "/v1/catalog", "/metrics", "/openapi.json", "/docs", "/console"} {
				status, body := s.do(http.MethodGet, path, nil, nil)
				require.Equal(t, http.StatusUnauthorized, status, "%s: %s", path, body)
			}
			got := s.lovage("list")
			require.Equal(t, 4, got.code, "%+v", got)
			require.Contains(t, got.err, "LOVAGE_API_KEY")

			shop := s.newKey("shop", "--scope", "submit", "--task", "sleep_*")
			s.lovageEnv = append(s.lovageEnv, "LOVAGE_API_KEY="+shop)
			s.eventually(func() bool { return s.lovage("submit", "sleep_task", "-i", "duration=1").code == 0 }, "the new key is known")
			require.Equal(t, 4, s.lovage("list").code, "it is for submitting")
			require.Equal(t, 4, s.lovage("submit", "http_request", "-i", "url=http://localhost").code, "and for some tasks")
			require.Zero(t, s.lovage("keys", "revoke", "shop").code)
			s.eventually(func() bool { return s.lovage("submit", "sleep_task", "-i", "duration=1").code == 4 }, "the key counts no longer")

			s.header = http.Header{"Authorization": {"Bearer " + admin}}
			s.lovageEnv = []string{keys, "LOVAGE_API_KEY=" + admin}
			require.Zero(t, s.lovage("queues", "pause", "default").code)
			s.eventually(func() bool {
				var entries []client.AuditEntry
				s.told(&entries, "audit", "-n", "1")
				return len(entries) == 1 && entries[0].Who == "ada" && entries[0].Action == "pause-queue" && entries[0].Outcome == "ok"
			}, "it is in the audit")
			status, metrics := s.do(http.MethodGet, "/metrics", nil, nil)
			require.Equal(t, http.StatusOK, status)
			require.Contains(t, string(metrics), "lovage_")
		})
	}
}

// newStackWithout is a stack whose gateway is still to be started.
func newStackWithout(t *testing.T) *stack {
	t.Helper()
	return &stack{t: t, amqp: devstack.VHost(t), redis: devstack.Redis(t)}
}

// newKey makes a key on the command line.
func (s *stack) newKey(args ...string) string {
	s.t.Helper()
	got := s.lovage(append([]string{"keys", "create"}, args...)...)
	require.Zero(s.t, got.code, "%+v", got)
	return got.out[:len(got.out)-1]
}
