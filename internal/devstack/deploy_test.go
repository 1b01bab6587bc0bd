package devstack

import (
	"errors"
	"io"
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
				require.FileExists(t, filepath.Join(root, from))
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

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	require.NoError(t, err)
	return d
}

func TestImagesHaveNoShellAndNoRoot(t *testing.T) {
	t.Parallel()
	stages := regexp.MustCompile(`(?m)^FROM `).Split(source(t, "deploy/docker/Dockerfile"), -1)
	require.Len(t, stages, 4, "what comes before, the build, two images")
	require.Contains(t, stages[1], "CGO_ENABLED=0")
	for _, image := range stages[2:] {
		require.Regexp(t, `^(scratch|gcr\.io/distroless/static\S*) AS `, image)
		require.Regexp(t, `(?m)^USER [1-9][0-9]*:[1-9][0-9]*$`, image)
		require.NotContains(t, image, "RUN ")
	}
}

// deployment is what we promise about a Deployment.
type deployment struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Template struct {
			Metadata struct{ Labels map[string]string }
			Spec     struct {
				Grace           int `yaml:"terminationGracePeriodSeconds"`
				SecurityContext struct {
					NonRoot bool `yaml:"runAsNonRoot"`
					User    int  `yaml:"runAsUser"`
					Seccomp struct{ Type string }
				} `yaml:"securityContext"`
				Containers []container
			}
		}
	}
}

type container struct {
	Env            []struct{ Name, Value string }
	LivenessProbe  probe `yaml:"livenessProbe"`
	ReadinessProbe probe `yaml:"readinessProbe"`
	Lifecycle      struct {
		PreStop struct{ Sleep struct{ Seconds int } }
	}
	Resources       struct{ Requests, Limits map[string]string }
	SecurityContext struct {
		Escalation   *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnly     bool  `yaml:"readOnlyRootFilesystem"`
		Capabilities struct{ Drop []string }
	} `yaml:"securityContext"`
}

type probe struct {
	HTTPGet struct{ Path string } `yaml:"httpGet"`
}

func TestKubernetesManifestsKeepTheirPromises(t *testing.T) {
	t.Parallel()
	var k struct{ Resources []string }
	require.NoError(t, yaml.Unmarshal([]byte(source(t, "deploy/k8s/base/kustomization.yaml")), &k))
	kinds := map[string]int{}
	for _, resource := range k.Resources {
		documents := yaml.NewDecoder(strings.NewReader(source(t, "deploy/k8s/base/"+resource)))
		for {
			var d deployment
			err := documents.Decode(&d)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, resource)
			kinds[d.Kind]++
			if d.Kind == "Deployment" {
				checkDeployment(t, d)
			}
		}
	}
	require.Equal(t, map[string]int{"Deployment": 2, "Service": 2, "PodDisruptionBudget": 2, "NetworkPolicy": 2}, kinds)
}

func checkDeployment(t *testing.T, d deployment) {
	t.Helper()
	pod, name := d.Spec.Template.Spec, d.Metadata.Name
	require.True(t, pod.SecurityContext.NonRoot, name)
	require.NotZero(t, pod.SecurityContext.User, name)
	require.Len(t, pod.Containers, 1)
	c := pod.Containers[0]
	require.Equal(t, "/livez", c.LivenessProbe.HTTPGet.Path)
	require.Equal(t, "/readyz", c.ReadinessProbe.HTTPGet.Path)
	require.NotNil(t, c.SecurityContext.Escalation)
	require.False(t, *c.SecurityContext.Escalation)
	require.True(t, c.SecurityContext.ReadOnly)
	require.Equal(t, []string{"ALL"}, c.SecurityContext.Capabilities.Drop)
	require.NotEmpty(t, c.Resources.Requests["memory"])
	require.NotEmpty(t, c.Resources.Limits["memory"])

	grace := time.Duration(pod.Grace) * time.Second
	const requests = 30 * time.Second // The gateway gives those in flight as much.
	used := requests + time.Duration(c.Lifecycle.PreStop.Sleep.Seconds)*time.Second
	for _, e := range c.Env {
		if e.Name == "LOVAGE_DRAIN" {
			used = duration(t, e.Value)
		}
	}
	require.Greater(t, grace, used, name)
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
