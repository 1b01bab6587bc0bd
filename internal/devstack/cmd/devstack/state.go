package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// ports are those the stack was given the last time, or would like the first time.
type ports struct {
	AMQP       int `json:"amqp"`
	Management int `json:"management"`
	Dist       int `json:"dist"`
	EPMD       int `json:"epmd"`
	Redis      int `json:"redis"`
	Gateway    int `json:"gateway"`
	Worker     int `json:"worker"`
}

func usualPorts() ports {
	return ports{AMQP: 5672, Management: 15672, Redis: 6379, Gateway: 8080, Worker: 8081}
}

// record is a process of the stack, as written down when it was started.
type record struct {
	PID     int    `json:"pid"`
	Started string `json:"started"`
	Build   string `json:"build,omitempty"` // of a service: which build runs
}

// state is what one command leaves to the next. It is written at every change,
// so that whatever was started can be found again.
type state struct {
	dir string

	mu        sync.Mutex
	Ports     ports             `json:"ports"`
	Processes map[string]record `json:"processes"`
	Docker    bool              `json:"docker,omitempty"` // the stack runs under docker compose
}

// loadState reads the state, or returns that of a stack never started.
func loadState(dir string) (*state, error) {
	s := &state{dir: dir, Ports: usualPorts(), Processes: map[string]record{}}
	text, err := os.ReadFile(s.file())
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("read state in %s: %w", s.file(), err)
	}
	if s.Processes == nil {
		s.Processes = map[string]record{}
	}
	return s, nil
}

func (s *state) file() string { return filepath.Join(s.dir, "state.json") }

func (s *state) pidFile(name string) string { return filepath.Join(s.dir, name+".pid") }

// process returns the running process of this name, if it is still the one that
// was recorded.
func (s *state) process(name string) (*devstack.Process, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.Processes[name]
	return devstack.Attach(r.PID, r.Started)
}

// ports returns a copy of the ports.
func (s *state) ports() ports {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Ports
}

// build returns which build of a service was started last.
func (s *state) build(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Processes[name].Build
}

// started writes down a process and its pid file.
func (s *state) started(name string, p *devstack.Process, build string) error {
	return s.change(func() error {
		s.Processes[name] = record{PID: p.PID(), Started: p.Started(), Build: build}
		return writeFile(s.pidFile(name), strconv.Itoa(p.PID())+"\n")
	})
}

// stopped forgets a process and removes its pid file.
func (s *state) stopped(name string) error {
	return s.change(func() error {
		delete(s.Processes, name)
		if err := os.Remove(s.pidFile(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove pid file: %w", err)
		}
		return nil
	})
}

// change applies f and writes the state.
func (s *state) change(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := f(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return writeFile(s.file(), string(text)+"\n")
}

// writeFile replaces a file as a whole, so that no reader finds half of it.
func writeFile(path, text string) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// environment is where the stack answers, under the names that .run/env uses.
func (s *state) environment() []string {
	p := s.ports()
	return []string{
		fmt.Sprint("LOVAGE_URL=http://127.0.0.1:", p.Gateway),
		fmt.Sprintf("LOVAGE_AMQP_URL=amqp://guest:guest@127.0.0.1:%d/", p.AMQP),
		fmt.Sprintf("LOVAGE_REDIS_URL=redis://127.0.0.1:%d/0", p.Redis),
		fmt.Sprint("LOVAGE_RABBITMQ_CONSOLE=http://127.0.0.1:", p.Management),
		fmt.Sprintf("LOVAGE_MANAGEMENT_URL=http://guest:guest@127.0.0.1:%d", p.Management),
	}
}

// writeEnvironment writes .run/env: lines of NAME=VALUE, and at the end one that
// exports them all to a shell that sources the file. The worker's probes and
// metrics cannot be reached in a container.
func (s *state) writeEnvironment() error {
	lines := s.environment()
	if !s.Docker {
		worker := fmt.Sprint("http://127.0.0.1:", s.ports().Worker)
		lines = append(lines, "LOVAGE_WORKER_URL="+worker, "LOVAGE_METRICS_URL="+worker+"/metrics")
	}
	export := []string{"export"}
	for _, line := range lines {
		name, _, _ := strings.Cut(line, "=")
		export = append(export, name)
	}
	lines = append(lines, strings.Join(export, " "))
	return writeFile(filepath.Join(s.dir, "env"), strings.Join(lines, "\n")+"\n")
}

func (s *state) url() string { return fmt.Sprint("http://127.0.0.1:", s.ports().Gateway) }
