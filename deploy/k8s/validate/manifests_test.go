package validate

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	security "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/yaml"
)

// overlays are what can be given to `kubectl apply -k`, with the secrets that
// somebody has to make before.
var overlays = map[string][]string{
	"base":                {"lovage-connections", "lovage-keys"},
	"overlays/dev":        nil,
	"overlays/production": {"lovage-connections", "lovage-keys", "lovage-prometheus", "lovage-tls", "rabbitmq-default-user"},
	"overlays/keda":       {"lovage-connections", "lovage-keys", "lovage-prometheus", "lovage-tls", "rabbitmq-default-user"},
}

func TestOverlaysAreValid(t *testing.T) {
	t.Parallel()
	v := newValidator(t)
	for directory := range overlays {
		for _, r := range render(t, directory).Resources() {
			require.NoError(t, check(v, document(t, r)), "%s: %s", directory, r.CurId())
		}
	}
}

func TestPodsAreRestricted(t *testing.T) {
	t.Parallel()
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks())
	require.NoError(t, err)
	restricted := security.LevelVersion{Level: security.LevelRestricted, Version: security.LatestVersion()}
	for directory := range overlays {
		for _, w := range workloads(t, render(t, directory)) {
			pod := w.Spec.Template
			result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
			require.True(t, result.Allowed, "%s: %s: %s", directory, w.Name, result.ForbiddenDetail())
			require.False(t, *pod.Spec.AutomountServiceAccountToken, w.Name)
			for _, c := range pod.Spec.Containers {
				require.Positive(t, c.Resources.Requests.Cpu().Sign(), w.Name)
				require.Positive(t, c.Resources.Requests.Memory().Sign(), w.Name)
				require.Positive(t, c.Resources.Limits.Memory().Sign(), w.Name)
				if w.Name != "rabbitmq" { // Its image writes beside its data.
					require.True(t, *c.SecurityContext.ReadOnlyRootFilesystem, w.Name)
				}
			}
		}
	}
}

// What is named is there, or is a secret that docs/kubernetes.md asks for.
func TestReferencesLeadSomewhere(t *testing.T) {
	t.Parallel()
	for directory, given := range overlays {
		rendered := render(t, directory)
		there := map[string]bool{}
		for _, r := range rendered.Resources() {
			there[r.GetKind()+"/"+r.GetName()] = true
		}
		secrets := map[string]bool{}
		for _, name := range given {
			secrets["Secret/"+name] = false
		}
		need := func(kind, name string) {
			if _, outside := secrets[kind+"/"+name]; outside {
				secrets[kind+"/"+name] = true
				return
			}
			require.True(t, there[kind+"/"+name], "%s: there is no %s %s", directory, kind, name)
		}
		for _, r := range rendered.Resources() {
			for kind, names := range references(t, r) {
				for _, name := range names {
					need(kind, name)
				}
			}
		}
		for name, used := range secrets {
			require.True(t, used, "%s: nothing uses %s", directory, name)
		}
	}
}

// references are the names of others in r, by their kind.
func references(t *testing.T, r *resource.Resource) map[string][]string {
	t.Helper()
	switch r.GetKind() {
	case "Deployment", "StatefulSet":
		return podReferences(workload(t, r).Spec.Template.Spec)
	case "HorizontalPodAutoscaler", "ScaledObject":
		return map[string][]string{"Deployment": {text(t, r, "spec.scaleTargetRef.name")}}
	case "TriggerAuthentication":
		return map[string][]string{"Secret": {text(t, r, "spec.secretTargetRef.0.name"), text(t, r, "spec.secretTargetRef.1.name")}}
	case "Ingress":
		return map[string][]string{
			"Secret":  {text(t, r, "spec.tls.0.secretName")},
			"Service": {text(t, r, "spec.rules.0.http.paths.0.backend.service.name")},
		}
	case "ServiceMonitor":
		if name := bearer(t, r); name != "" {
			return map[string][]string{"Secret": {name}}
		}
	}
	return nil
}

func podReferences(pod corev1.PodSpec) map[string][]string {
	found := map[string][]string{}
	if pod.ServiceAccountName != "" {
		found["ServiceAccount"] = []string{pod.ServiceAccountName}
	}
	for _, volume := range pod.Volumes {
		if volume.Secret != nil {
			found["Secret"] = append(found["Secret"], volume.Secret.SecretName)
		}
		if volume.ConfigMap != nil {
			found["ConfigMap"] = append(found["ConfigMap"], volume.ConfigMap.Name)
		}
	}
	for _, c := range pod.Containers {
		for _, from := range c.EnvFrom {
			found["ConfigMap"] = append(found["ConfigMap"], from.ConfigMapRef.Name)
		}
		for _, e := range c.Env {
			if e.ValueFrom != nil {
				found["Secret"] = append(found["Secret"], e.ValueFrom.SecretKeyRef.Name)
			}
		}
	}
	return found
}

// What selects pods selects some: those of a workload, or those that the
// Cluster Operator makes.
func TestSelectorsSelectSomething(t *testing.T) {
	t.Parallel()
	for directory := range overlays {
		rendered := render(t, directory)
		pods := map[string]bool{}
		for _, w := range workloads(t, rendered) {
			require.Equal(t, w.Spec.Selector.MatchLabels["app.kubernetes.io/name"], w.Spec.Template.Labels["app.kubernetes.io/name"])
			pods[w.Spec.Template.Labels["app.kubernetes.io/name"]] = true
		}
		for _, r := range rendered.Resources() {
			if r.GetKind() == "RabbitmqCluster" {
				pods[r.GetName()] = true
			}
		}
		for _, r := range rendered.Resources() {
			at := map[string]string{"Service": "spec.selector", "PodDisruptionBudget": "spec.selector", "NetworkPolicy": "spec.podSelector", "ServiceMonitor": "spec.selector"}[r.GetKind()]
			if at == "" {
				continue
			}
			for _, name := range selected(t, r, at) {
				require.True(t, pods[name], "%s: %s selects no pod: %s", directory, r.CurId(), name)
			}
		}
	}
}

// selected are the names of the applications that a selector is for.
func selected(t *testing.T, r *resource.Resource, at string) []string {
	t.Helper()
	value, err := r.GetFieldValue(at)
	require.NoError(t, err)
	selector, err := yaml.Marshal(value)
	require.NoError(t, err)
	var s struct {
		MatchLabels      map[string]string
		MatchExpressions []struct{ Values []string }
		Name             string `json:"app.kubernetes.io/name"`
	}
	require.NoError(t, yaml.Unmarshal(selector, &s))
	names := []string{s.Name, s.MatchLabels["app.kubernetes.io/name"]}
	for _, e := range s.MatchExpressions {
		names = append(names, e.Values...)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == "" })
	require.NotEmpty(t, names, r.CurId())
	return names
}

// A validator that finds nothing would be of no use: each kind of ours with a
// field that does not exist, and some with a value that is not allowed.
func TestMistakesAreFound(t *testing.T) {
	t.Parallel()
	v := newValidator(t)
	kinds := map[string]bool{}
	for _, r := range render(t, "overlays/keda").Resources() {
		before, after, found := strings.Cut(string(document(t, r)), "\nspec:\n")
		if !found || kinds[r.GetKind()] {
			continue
		}
		kinds[r.GetKind()] = true
		require.ErrorContains(t, check(v, []byte(before+"\nspec:\n  mispelt: true\n"+after)), "mispelt", r.CurId())
	}
	require.Subset(t, slices.Collect(maps.Keys(kinds)), []string{"Deployment", "ScaledObject", "TriggerAuthentication", "ServiceMonitor", "RabbitmqCluster"})
	for _, wrong := range []string{
		"{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {replicas: many}}",
		"{apiVersion: keda.sh/v1alpha1, kind: ScaledObject, metadata: {name: x}, spec: {triggers: []}}",
		"{apiVersion: rabbitmq.com/v1beta1, kind: RabbitmqCluster, metadata: {name: x}, spec: {replicas: -1}}",
	} {
		require.Error(t, check(v, []byte(wrong)), wrong)
	}
}

func document(t *testing.T, r *resource.Resource) []byte {
	t.Helper()
	text, err := r.AsYAML()
	require.NoError(t, err)
	return text
}

// workloads are what has a template of pods. A StatefulSet is read as a
// Deployment: what is looked at is the same.
func workloads(t *testing.T, rendered resmap.ResMap) (list []appsv1.Deployment) {
	t.Helper()
	for _, r := range rendered.Resources() {
		if r.GetKind() == "Deployment" || r.GetKind() == "StatefulSet" {
			list = append(list, workload(t, r))
		}
	}
	require.NotEmpty(t, list)
	return list
}

func workload(t *testing.T, r *resource.Resource) (w appsv1.Deployment) {
	t.Helper()
	require.NoError(t, yaml.Unmarshal(document(t, r), &w))
	return w
}

func text(t *testing.T, r *resource.Resource, path string) string {
	t.Helper()
	value, err := r.GetFieldValue(path)
	require.NoError(t, err, r.CurId())
	return value.(string)
}
