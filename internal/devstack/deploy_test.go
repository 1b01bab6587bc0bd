package devstack

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"
)

// root is the checkout, seen from this package.
const root = "../.."

func source(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return string(text)
}

// composeFile is what we promise about docker-compose.yaml.
type composeFile struct {
	Services map[string]struct {
		Image         string
		ContainerName string `yaml:"container_name"`
		Build         struct{ Dockerfile, Target string }
		Command       []string
		Ports         []string
		Volumes       []string
		Environment   map[string]string
		StopGrace     string `yaml:"stop_grace_period"`
		HealthCheck   struct{ Test []string }
		DependsOn     map[string]struct{ Condition string } `yaml:"depends_on"`
	}
	Volumes map[string]any
}

func TestComposeFileKeepsItsPromises(t *testing.T) {
	t.Parallel()
	var c composeFile
	require.NoError(t, yaml.Unmarshal([]byte(source(t, "docker-compose.yaml")), &c))
	var more composeFile
	require.NoError(t, yaml.Unmarshal([]byte(source(t, "deploy/docker/compose.devstack.yaml")), &more))
	for name := range more.Services {
		require.Contains(t, c.Services, name)
	}
	dockerfile := source(t, "deploy/docker/Dockerfile")

	for name, s := range c.Services {
		require.Empty(t, s.ContainerName, "%s could not be scaled", name)
		for _, port := range append(s.Ports, more.Services[name].Ports...) {
			require.True(t, strings.HasPrefix(port, "127.0.0.1:"), "%s publishes %s to everybody", name, port)
		}
		for _, volume := range s.Volumes {
			from, _, _ := strings.Cut(volume, ":")
			if strings.HasPrefix(from, "./") {
				_, err := os.Stat(filepath.Join(root, from))
				require.NoError(t, err, name)
			} else {
				require.Contains(t, c.Volumes, from)
			}
		}
		if s.Build.Target == "" {
			require.NotEmpty(t, s.HealthCheck.Test, name)
			require.NotEmpty(t, s.Volumes, "%s keeps nothing", name)
			continue
		}
		require.FileExists(t, filepath.Join(root, s.Build.Dockerfile))
		require.Contains(t, dockerfile, " AS "+s.Build.Target+"\n")
		require.Contains(t, dockerfile, `CMD ["/`+s.Build.Target+`", "health"]`)
		for _, needed := range []string{"rabbitmq", "redis"} {
			require.Equal(t, "service_healthy", s.DependsOn[needed].Condition, name)
		}
	}
	worker := c.Services["worker"]
	require.Empty(t, worker.Ports, "it could not be scaled")
	require.Greater(t, duration(t, worker.StopGrace), duration(t, worker.Environment["LOVAGE_DRAIN"]))
	require.Equal(t, "localhost,127.0.0.1", c.Services["gateway"].Environment["LOVAGE_ALLOWED_HOSTS"])
	redis := strings.Join(c.Services["redis"].Command, " ")
	require.Contains(t, redis, "--appendonly yes --appendfsync always --maxmemory-policy noeviction")
}

// Prometheus asks each program where compose lets it listen.
func TestPrometheusAsksWhereComposeLetsThemListen(t *testing.T) {
	t.Parallel()
	var c composeFile
	require.NoError(t, yaml.Unmarshal([]byte(source(t, "docker-compose.yaml")), &c))
	var p struct {
		ScrapeConfigs []struct {
			JobName       string                       `yaml:"job_name"`
			StaticConfigs []struct{ Targets []string } `yaml:"static_configs"`
			DNS           []struct {
				Names []string
				Port  string
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(source(t, "deploy/prometheus/prometheus.yml")), &p))
	asked := map[string]string{}
	for _, s := range p.ScrapeConfigs {
		for _, fixed := range s.StaticConfigs {
			name, port, _ := strings.Cut(fixed.Targets[0], ":")
			asked[name] = port
		}
		for _, found := range s.DNS {
			asked[found.Names[0]] = found.Port
		}
	}
	for name, at := range map[string]string{
		"gateway": c.Services["gateway"].Environment["LOVAGE_LISTEN"], "worker": c.Services["worker"].Environment["LOVAGE_METRICS_LISTEN"],
	} {
		require.Equal(t, "0.0.0.0:"+asked[name], at, name)
	}
	require.Contains(t, c.Services, "rabbitmq")
	require.Equal(t, "15692", asked["rabbitmq"], "that of its plugin")
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	require.NoError(t, err)
	return d
}

func TestImagesHaveNoShellAndNoRoot(t *testing.T) {
	t.Parallel()
	stages := regexp.MustCompile(`(?m)^FROM `).Split(source(t, "deploy/docker/Dockerfile"), -1)
	require.Len(t, stages, 5, "what comes before, the build, three images")
	require.Contains(t, stages[1], "CGO_ENABLED=0")
	require.Contains(t, stages[1], "-tags=grpcnotrace,nodev", "as make release-check builds them, which measures them")
	require.Contains(t, stages[1], "version.release=$VERSION")
	require.Contains(t, stages[1], "version.commit=$COMMIT")
	for _, image := range stages[2:] {
		require.Regexp(t, `^(scratch|gcr\.io/distroless/static\S*) AS `, image)
		require.Regexp(t, `(?m)^USER [1-9][0-9]*:[1-9][0-9]*$`, image)
		require.NotContains(t, image, "RUN ")
	}
}

func TestShippedSettingsOfRabbitMQAreAccepted(t *testing.T) {
	t.Parallel()
	definitions, err := filepath.Abs(filepath.Join(root, "deploy/rabbitmq/definitions.json"))
	require.NoError(t, err)
	config := strings.ReplaceAll(source(t, "deploy/rabbitmq/rabbitmq.conf"), "/etc/rabbitmq/definitions.json", definitions)
	r, err := StartRabbitMQ(t.Context(), RabbitMQOptions{Config: config})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	declare(t, r.URL())

	require.NoError(t, r.Broker().call(t.Context(), http.MethodGet, "/api/policies/%2F/lovage-dead-letters", ""))
	out, err := r.Ctl(t.Context(), "eval", "application:get_env(rabbit, consumer_timeout).")
	require.NoError(t, err)
	require.Contains(t, out, "86400000")
}
