package validate

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/yaml"
)

func TestDevKeepsEveryOutcomeAndNeedsNothing(t *testing.T) {
	t.Parallel()
	dev := render(t, "overlays/dev")
	for _, w := range workloads(t, dev) {
		for _, c := range w.Spec.Template.Spec.Containers {
			if w.Name == "redis" {
				require.Contains(t, strings.Join(c.Args, " "), "--appendonly yes --appendfsync always --maxmemory-policy noeviction")
			}
		}
	}
	require.Empty(t, kind(dev, "HorizontalPodAutoscaler"))
	checkConsumerTimeout(t, dev, settings(t, dev, "rabbitmq-settings")["rabbitmq.conf"])
}

func TestProductionSurvivesANode(t *testing.T) {
	t.Parallel()
	production := render(t, "overlays/production")
	rabbitmq := kind(production, "RabbitmqCluster")["rabbitmq"]
	replicas, err := rabbitmq.GetFieldValue("spec.replicas")
	require.NoError(t, err)
	require.EqualValues(t, 3, replicas)
	checkConsumerTimeout(t, production, text(t, rabbitmq, "spec.rabbitmq.additionalConfig"))

	least, err := kind(production, "HorizontalPodAutoscaler")["gateway"].GetFieldValue("spec.minReplicas")
	require.NoError(t, err)
	require.EqualValues(t, 2, least)
	for _, w := range workloads(t, production) {
		require.Contains(t, kind(production, "PodDisruptionBudget"), w.Name)
		require.NotEmpty(t, w.Spec.Template.Spec.TopologySpreadConstraints, w.Name)
	}
	require.Contains(t, kind(production, "PodDisruptionBudget"), "rabbitmq")

	host := text(t, kind(production, "Ingress")["gateway"], "spec.rules.0.host")
	require.Contains(t, strings.Split(settings(t, production, "gateway")["LOVAGE_ALLOWED_HOSTS"], ","), host)
}

func TestKEDADecidesHowManyWorkersThereAre(t *testing.T) {
	t.Parallel()
	keda := render(t, "overlays/keda")
	for _, w := range workloads(t, keda) {
		require.Nil(t, w.Spec.Replicas, "an apply would undo what was decided for %s", w.Name)
	}
	var s struct {
		Spec struct {
			MinReplicaCount *int
			Triggers        []struct{ Metadata map[string]string }
		}
	}
	require.NoError(t, yaml.Unmarshal(document(t, kind(keda, "ScaledObject")["worker"]), &s))
	require.Zero(t, *s.Spec.MinReplicaCount)
	worker := settings(t, keda, "worker")
	values := map[string]string{}
	for _, trigger := range s.Spec.Triggers {
		m := trigger.Metadata
		require.Equal(t, worker["LOVAGE_QUEUE"], m["queueName"])
		// Over AMQP, or told not to count what is unacknowledged, it would take
		// away workers that have work.
		require.Equal(t, "http", m["protocol"])
		require.NotContains(t, m, "excludeUnacknowledged")
		values[m["mode"]] = m["value"]
	}
	require.Len(t, values, 2)
	require.NotEmpty(t, values["MessageRate"])
	require.Greater(t, number(t, values["QueueLength"]), number(t, worker["LOVAGE_CONCURRENCY"]), "one busy worker would ask for another")
}

// checkConsumerTimeout compares the workers' setting with RabbitMQ's.
func checkConsumerTimeout(t *testing.T, rendered resmap.ResMap, config string) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^consumer_timeout = (\d+)$`).FindStringSubmatch(config)
	require.Len(t, line, 2, config)
	timeout, err := time.ParseDuration(settings(t, rendered, "worker")["LOVAGE_CONSUMER_TIMEOUT"])
	require.NoError(t, err)
	require.EqualValues(t, number(t, line[1]), timeout.Milliseconds())
}

// settings are what is in a ConfigMap.
func settings(t *testing.T, rendered resmap.ResMap, name string) map[string]string {
	t.Helper()
	r := kind(rendered, "ConfigMap")[name]
	require.NotNil(t, r, name)
	return r.GetDataMap()
}

// hash is what kustomize adds to the name of a ConfigMap that it makes.
var hash = regexp.MustCompile("-[a-z0-9]{10}$")

// kind are the resources of one kind, by the name that they have in the files.
func kind(rendered resmap.ResMap, wanted string) map[string]*resource.Resource {
	found := map[string]*resource.Resource{}
	for _, r := range rendered.Resources() {
		if r.GetKind() == wanted {
			found[hash.ReplaceAllString(r.GetName(), "")] = r
		}
	}
	return found
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	require.NoError(t, err)
	return n
}
