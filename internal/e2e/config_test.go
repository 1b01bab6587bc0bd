package e2e_test

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestConfigurationIsPrintedWithoutSecrets(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"gateway", "worker"} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(binDir, name), "--print-config", "--result-ttl=1h")
		cmd.Env = []string{"LOVAGE_AMQP_URL=amqp://lovage:s3cret@rabbitmq/", "LOVAGE_REDIS_URL=redis://:s3cret@redis/0"}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Contains(t, string(out), "LOVAGE_AMQP_URL=amqp://lovage:***@rabbitmq/\n")
		require.Contains(t, string(out), "LOVAGE_REDIS_URL=redis://:***@redis/0\n")
		require.Contains(t, string(out), "LOVAGE_RESULT_TTL=1h0m0s\n")
		require.NotContains(t, string(out), "s3cret")
	}
}

// What cannot be read and what makes no sense are told together, and the rest is
// printed all the same.
func TestEverythingThatIsWrongIsToldAtOnce(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"--print-config"}} {
		cmd := exec.CommandContext(t.Context(), filepath.Join(binDir, "worker"), args...)
		cmd.Env = []string{
			"LOVAGE_DRAIN=soon", "LOVAGE_CONCURRENCY=0", "LOVAGE_LEASE=1ms", "LOVAGE_LOG_LEVEL=loud",
			"LOVAGE_AMQP_URL=amqp://lovage:s3cret@rabbitmq:port/", "LOVAGE_REDIS_URL=rabbit://:s3cret@redis/0",
		}
		out, err := cmd.CombinedOutput()
		require.Error(t, err)
		for _, variable := range []string{"DRAIN", "CONCURRENCY", "LEASE", "LOG_LEVEL", "AMQP_URL", "REDIS_URL"} {
			require.Regexp(t, "(?m)^LOVAGE_"+variable+": ", string(out))
		}
		require.NotContains(t, string(out), "s3cret")
		if args != nil {
			require.Contains(t, string(out), "LOVAGE_QUEUE=default\n")
		}
	}
}

func TestLogLevelIsSwitchedAtRunTime(t *testing.T) {
	t.Parallel()
	s := &stack{t: t}
	p := s.start("gateway", "LOVAGE_LISTEN=127.0.0.1:0", "LOVAGE_AMQP_URL=amqp://127.0.0.1:1/", "LOVAGE_REDIS_URL=redis://127.0.0.1:1")
	s.url = "http://" + p.await("gateway listens")["address"].(string)
	quiet := func() int {
		s.do(http.MethodGet, "/openapi.json", nil, nil)
		n := 0
		for _, line := range p.log() {
			if line["level"] == "debug" {
				n++
			}
		}
		return n
	}
	require.Zero(t, quiet())
	p.signal(syscall.SIGUSR1)
	require.Equal(t, "debug", p.await("log level changed")["to"])
	s.eventually(func() bool { return quiet() > 0 }, "lines of level debug")
	p.signal(syscall.SIGUSR1)
	p.find("log level changed to info", func(string) bool {
		last := ""
		for _, line := range p.log() {
			if line["msg"] == "log level changed" {
				last = line["to"].(string)
			}
		}
		return last == "info"
	})
}
