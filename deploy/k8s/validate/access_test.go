package validate

import (
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/yaml"
)

// What is deployed asks for keys, except where the name says that it is no place
// for strangers.
func TestOnlyTheDevOverlayIsOpen(t *testing.T) {
	t.Parallel()
	for directory := range overlays {
		rendered := render(t, directory)
		all, err := rendered.AsYaml()
		require.NoError(t, err)
		open := directory == "overlays/dev"
		require.Equal(t, open, strings.Contains(string(all), "LOVAGE_INSECURE_NO_AUTH"), directory)
		require.Equal(t, !open, strings.Contains(string(all), "LOVAGE_API_KEYS_FILE"), directory)
		require.Equal(t, !open, strings.Contains(string(all), "lovage-keys"), directory)
		if open {
			require.NotContains(t, kind(rendered, "Ingress"), "gateway", directory)
			continue
		}
		checkKeys(t, workload(t, kind(rendered, "Deployment")["gateway"]).Spec.Template.Spec)
	}
}

// checkKeys looks whether the file of the keys is where the gateway is told that
// it is, and whether the gateway may read it and learns of its changes.
func checkKeys(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	c := pod.Containers[0]
	var file string
	for _, e := range c.Env {
		if e.Name == "LOVAGE_API_KEYS_FILE" {
			file = e.Value
		}
	}
	for _, mount := range c.VolumeMounts {
		if mount.MountPath != path.Dir(file) {
			continue
		}
		require.True(t, mount.ReadOnly)
		require.Empty(t, mount.SubPath, "such a file does not change")
		for _, volume := range pod.Volumes {
			if volume.Name != mount.Name {
				continue
			}
			secret := volume.Secret
			require.Equal(t, "lovage-keys", secret.SecretName)
			require.Equal(t, path.Base(file), secret.Items[0].Path)
			require.Nil(t, secret.Optional, "without keys no pod starts")
			require.EqualValues(t, 0o440, *secret.DefaultMode)
			require.Equal(t, pod.SecurityContext.RunAsGroup, pod.SecurityContext.FSGroup, "it is the group that may read")
			return
		}
	}
	require.Fail(t, "no volume has the file of the keys", file)
}

// Metrics of the gateway are for those with a key, which goes to nobody else.
func TestPrometheusShowsItsKeyToTheGatewayOnly(t *testing.T) {
	t.Parallel()
	monitors := kind(render(t, "overlays/production"), "ServiceMonitor")
	require.NotEmpty(t, monitors)
	for name, m := range monitors {
		selects := selected(t, m, "spec.selector")
		require.Equal(t, []string{name}, selects)
		if name == "gateway" {
			require.Equal(t, "lovage-prometheus", bearer(t, m))
			continue
		}
		require.Empty(t, bearer(t, m), name)
	}
}

// bearer is the name of the secret that a ServiceMonitor shows, if any.
func bearer(t *testing.T, monitor *resource.Resource) string {
	t.Helper()
	var m struct {
		Spec struct {
			Endpoints []struct {
				Authorization struct{ Credentials corev1.SecretKeySelector }
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(document(t, monitor), &m))
	require.NotEmpty(t, m.Spec.Endpoints)
	return m.Spec.Endpoints[0].Authorization.Credentials.Name
}
