// Package manifests reads what deploy/k8s says about our programs, for tests
// that compare it with the code. It renders nothing: it knows the base, and the
// settings that overlays add and take away.
package manifests

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/lovage-mq/lovage/internal/settings"
)

// Overlays lists the directories below deploy/k8s that can be applied.
func Overlays() []string {
	return []string{"base", "overlays/dev", "overlays/production", "overlays/keda"}
}

// Program is how one of our programs is run.
type Program struct {
	// Settings are environment variables, also those whose values come from
	// a secret and so are empty here.
	Settings map[string]string
	// Ports are those of the container, by name.
	Ports                        map[string]int
	Startup, Liveness, Readiness Probe
	// Grace is how long it may take to stop before it is killed.
	Grace time.Duration
	// Hooks tells whether something runs before SIGTERM.
	Hooks bool
}

// Probe is a request by which Kubernetes looks at a pod.
type Probe struct{ Path, Port string }

// Read returns the program of this name as an overlay sets it up. root is the
// checkout.
func Read(root, overlay, program string) (Program, error) {
	k8s := filepath.Join(root, "deploy/k8s")
	d, err := find(filepath.Join(k8s, "base", program+".yaml"))
	if err != nil {
		return Program{}, err
	}
	pod := d.Spec.Template.Spec
	if len(pod.Containers) != 1 {
		return Program{}, fmt.Errorf("%s has %d containers", program, len(pod.Containers))
	}
	c := pod.Containers[0]
	p := Program{
		Settings: map[string]string{}, Ports: map[string]int{},
		Startup: c.Startup.HTTPGet, Liveness: c.Liveness.HTTPGet, Readiness: c.Readiness.HTTPGet,
		Grace: time.Duration(pod.Grace) * time.Second, Hooks: len(c.Lifecycle) > 0,
	}
	for _, port := range c.Ports {
		p.Ports[port.Name] = port.ContainerPort
	}
	for _, e := range c.Env {
		p.Settings[e.Name] = e.Value
	}
	return p, addSettings(p.Settings, filepath.Join(k8s, overlay), program)
}

// Parse reads the settings into the options of the program, as its main does
// from the environment. Names that it does not know are an error.
func (p Program) Parse(options any) error {
	known := settings.Of(options)
	for name := range p.Settings {
		if !slices.ContainsFunc(known, func(s settings.Setting) bool { return s.Env == name }) {
			return fmt.Errorf("there is no setting %s", name)
		}
	}
	_, err := settings.Parse(options, nil, func(name string) (string, bool) {
		value := p.Settings[name]
		return value, value != ""
	})
	return err
}

// deployment is what is read of a Deployment.
type deployment struct {
	Kind     string
	Metadata struct{ Name string }
	Spec     struct {
		Template struct {
			Spec struct {
				Grace      int `yaml:"terminationGracePeriodSeconds"`
				Containers []struct {
					Env []struct {
						Name, Value string
						Patch       string `yaml:"$patch"`
					}
					Ports []struct {
						Name          string
						ContainerPort int `yaml:"containerPort"`
					}
					Startup   probe `yaml:"startupProbe"`
					Liveness  probe `yaml:"livenessProbe"`
					Readiness probe `yaml:"readinessProbe"`
					Lifecycle map[string]any
				}
			}
		}
	}
}

type probe struct {
	HTTPGet Probe `yaml:"httpGet"`
}

// find returns the Deployment in a file of several documents.
func find(path string) (d deployment, err error) {
	file, err := os.Open(path)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	documents := yaml.NewDecoder(file)
	for {
		var d deployment
		if err := documents.Decode(&d); errors.Is(err, io.EOF) {
			return d, fmt.Errorf("%s has no Deployment", path)
		} else if err != nil {
			return d, fmt.Errorf("%s: %w", path, err)
		}
		if d.Kind == "Deployment" {
			return d, nil
		}
	}
}

// addSettings adds what the ConfigMap of the program has, and what a patch in a
// file of its own says, in the kustomizations that this one is made of first.
func addSettings(settings map[string]string, directory, program string) error {
	text, err := os.ReadFile(filepath.Join(directory, "kustomization.yaml"))
	if err != nil {
		return err
	}
	var k struct {
		Resources    []string
		ConfigMapGen []struct {
			Name     string
			Literals []string
		} `yaml:"configMapGenerator"`
		Patches []struct{ Path string }
	}
	if err := yaml.Unmarshal(text, &k); err != nil {
		return fmt.Errorf("%s: %w", directory, err)
	}
	for _, resource := range k.Resources {
		if filepath.Ext(resource) == "" {
			if err := addSettings(settings, filepath.Join(directory, resource), program); err != nil {
				return err
			}
		}
	}
	for _, m := range k.ConfigMapGen {
		if m.Name != program {
			continue
		}
		for _, literal := range m.Literals {
			name, value, _ := strings.Cut(literal, "=")
			settings[name] = value
		}
	}
	for _, patch := range k.Patches {
		if patch.Path == "" {
			continue
		}
		d, err := find(filepath.Join(directory, patch.Path))
		if err != nil {
			return err
		}
		if d.Metadata.Name == program {
			d.patch(settings)
		}
	}
	return nil
}

// patch changes settings as this deployment does, which is a patch.
func (d deployment) patch(settings map[string]string) {
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, e := range c.Env {
			if e.Patch == "delete" {
				delete(settings, e.Name)
				continue
			}
			settings[e.Name] = e.Value
		}
	}
}
