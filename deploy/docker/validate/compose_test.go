// Package validate checks docker-compose.yaml against the schema of the Compose
// specification, which Docker's own loader has built in. It is a module of its own:
// Lovage does not need what it brings along.
package validate

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

const root = "../../.."

// load reads files as `docker compose` does, offline, with nothing in the
// environment.
func load(ctx context.Context, profiles []string, files ...types.ConfigFile) (*types.Project, error) {
	directory, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	return loader.LoadWithContext(ctx, types.ConfigDetails{WorkingDir: directory, ConfigFiles: files, Environment: types.Mapping{}},
		loader.WithProfiles(profiles))
}

func file(t *testing.T, path string) types.ConfigFile {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	require.NoError(t, err)
	return types.ConfigFile{Filename: path, Content: text}
}

func TestComposeFileIsValid(t *testing.T) {
	t.Parallel()
	base, devstack := file(t, "docker-compose.yaml"), file(t, "deploy/docker/compose.devstack.yaml")
	standard := []string{"gateway", "rabbitmq", "redis", "worker"}
	for _, c := range []struct {
		profiles []string
		files    []types.ConfigFile
		want     []string
	}{
		{nil, []types.ConfigFile{base}, standard},
		{nil, []types.ConfigFile{base, devstack}, standard},
		{[]string{"observability"}, []types.ConfigFile{base}, append([]string{"grafana", "prometheus"}, standard...)},
	} {
		p, err := load(t.Context(), c.profiles, c.files...)
		require.NoError(t, err)
		require.ElementsMatch(t, c.want, slices.Collect(maps.Keys(p.Services)))
		for _, s := range p.Services {
			for _, v := range s.Volumes {
				if v.Type == types.VolumeTypeBind {
					_, err := os.Stat(v.Source)
					require.NoError(t, err, "%s mounts what is not there", s.Name)
				}
			}
		}
	}
}

// The gateway asks nobody for a key there, and the servers have passwords that
// everybody knows.
func TestPortsArePublishedOnThisMachineOnly(t *testing.T) {
	t.Parallel()
	p, err := load(t.Context(), []string{"observability"}, file(t, "docker-compose.yaml"), file(t, "deploy/docker/compose.devstack.yaml"))
	require.NoError(t, err)
	for _, s := range p.Services {
		require.Empty(t, s.NetworkMode, s.Name)
		for _, port := range s.Ports {
			require.Equal(t, "127.0.0.1", port.HostIP, "%s: %d", s.Name, port.Target)
		}
	}
	require.NotEmpty(t, p.Services["gateway"].Ports)
}

// A check that finds nothing would be of no use.
func TestMistakesAreFound(t *testing.T) {
	t.Parallel()
	base := file(t, "docker-compose.yaml")
	for _, c := range []struct{ what, by string }{
		{"    restart: unless-stopped\n", "    restat: unless-stopped\n"},
		{"    read_only: true\n", "    read_only: perhaps\n"},
		{"      redis:\n        condition: service_healthy\n", "      nobody:\n        condition: service_healthy\n"},
		{"      - redis:/data\n", "      - nowhere:/data\n"},
	} {
		require.Contains(t, string(base.Content), c.what)
		wrong := types.ConfigFile{Filename: base.Filename, Content: []byte(strings.Replace(string(base.Content), c.what, c.by, 1))}
		_, err := load(t.Context(), nil, wrong)
		require.Error(t, err, c.by)
	}
}
