package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// readyTime bounds the wait for a service that was started. A broker that has
// just come up under load is the slowest part of it.
const readyTime = 60 * time.Second

// service is one of our programs.
type service struct {
	name string
	// source is its package.
	source string
	// port is where it answers /readyz.
	port func(*ports) *int
	// env is added to its environment.
	env []string
	// ready is asked once /readyz says that RabbitMQ and Redis are up.
	ready func(ctx context.Context, url string) error
}

func (v service) portIn(st *state) int {
	p := st.ports()
	return *v.port(&p)
}

// shippedServices are the gateway and one worker. Running tasks get ten seconds
// at the end, since nobody wants to wait longer for the end of a demonstration.
func shippedServices() []service {
	return []service{
		{
			name: "gateway", source: "./services/gateway", port: func(p *ports) *int { return &p.Gateway },
			ready: knowsLiveWorker,
		},
		{
			name: "worker", source: "./services/worker", port: func(p *ports) *int { return &p.Worker },
			env: []string{"LOVAGE_DRAIN=10s"},
		},
	}
}

func (s *stack) binary(name string) string { return filepath.Join(s.root, "bin", name) }

// buildServices builds the programs into bin.
func (s *stack) buildServices(ctx context.Context) error {
	for _, service := range s.services {
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-o", s.binary(service.name), service.source)
		cmd.Dir = s.source
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", service.name, err, bytes.TrimSpace(out))
		}
	}
	return nil
}

// startService starts a service, unless this very build runs already with the
// same settings, and returns when it answers.
func (s *stack) startService(ctx context.Context, st *state, v service) error {
	build, err := s.fingerprint(st, v)
	if err != nil {
		return err
	}
	p, running := st.process(v.name)
	if running && st.build(v.name) == build {
		s.print("%s runs (pid %d)", v.name, p.PID())
		return s.awaitService(ctx, st, v, p)
	}
	if running {
		s.print("%s has changed: starting it again", v.name)
		if err := s.stop(ctx, st, v.name, readyTime); err != nil {
			return err
		}
	}
	if p, err = s.spawnService(ctx, st, v); err != nil {
		return err
	}
	if err := s.awaitService(ctx, st, v, p); err != nil {
		return err
	}
	s.print("%s is up (pid %d)", v.name, p.PID())
	return nil
}

func (s *stack) spawnService(ctx context.Context, st *state, v service) (*devstack.Process, error) {
	reserved, err := devstack.ReservePort(ctx, v.portIn(st))
	if err != nil {
		return nil, err
	}
	defer reserved.Release()
	err = st.change(func() error {
		*v.port(&st.Ports) = reserved.Number()
		return nil
	})
	if err != nil {
		return nil, err
	}
	build, err := s.fingerprint(st, v)
	if err != nil {
		return nil, err
	}
	p, err := devstack.Spawn(ctx, devstack.Spec{
		Path: s.binary(v.name), Dir: s.root, Log: s.run("log", v.name+".log"), Env: serviceEnvironment(st, v),
	})
	if err != nil {
		return nil, err
	}
	return p, st.started(v.name, p, build)
}

// serviceEnvironment is ours and the caller's settings, except where they say
// what the stack has to say.
func serviceEnvironment(st *state, v service) []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains([]string{
			"LOVAGE_URL", "LOVAGE_WORKER_URL", "LOVAGE_METRICS_URL", "LOVAGE_RABBITMQ_CONSOLE", "LOVAGE_RUN_ONCE",
			"LOVAGE_LISTEN", "LOVAGE_METRICS_LISTEN", "LOVAGE_AMQP_URL", "LOVAGE_MANAGEMENT_URL", "LOVAGE_REDIS_URL",
		}, name)
	})
	for _, e := range v.env {
		name, _, _ := strings.Cut(e, "=")
		if _, set := os.LookupEnv(name); !set {
			env = append(env, e)
		}
	}
	listen := fmt.Sprint("127.0.0.1:", v.portIn(st))
	env = append(env, "LOVAGE_LISTEN="+listen, "LOVAGE_METRICS_LISTEN="+listen)
	return append(env, slices.DeleteFunc(st.environment(), func(e string) bool { return strings.HasPrefix(e, "LOVAGE_URL=") })...)
}

// fingerprint changes with the program and with its settings.
func (s *stack) fingerprint(st *state, v service) (string, error) {
	program, err := os.Open(s.binary(v.name))
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", v.name, err)
	}
	defer func() { _ = program.Close() }()
	h := sha256.New()
	if _, err := io.Copy(h, program); err != nil {
		return "", fmt.Errorf("look at %s: %w", v.name, err)
	}
	for _, e := range serviceEnvironment(st, v) {
		if strings.HasPrefix(e, "LOVAGE_") {
			_, _ = fmt.Fprintln(h, e)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8]), nil
}

// awaitService returns when the service says that it is connected to everything.
func (s *stack) awaitService(ctx context.Context, st *state, v service, p *devstack.Process) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTime, fmt.Errorf("%s does not get ready", v.name))
	defer cancel()
	url := fmt.Sprint("http://127.0.0.1:", v.portIn(st))
	for {
		err := ready(ctx, url)
		if err == nil && v.ready != nil {
			err = v.ready(ctx, url)
		}
		if err == nil {
			return nil
		}
		if !p.Alive() {
			return fmt.Errorf("%s has ended:\n%s", v.name, lastLines(s.run("log", v.name+".log")))
		}
		if cause := sleep(ctx, 100*time.Millisecond); cause != nil {
			return fmt.Errorf("%w: %w\n%s", cause, err, lastLines(s.run("log", v.name+".log")))
		}
	}
}

// ready asks /readyz, which reports RabbitMQ and Redis without depending on them.
func ready(ctx context.Context, url string) error {
	var h struct{ Status, RabbitMQ, Redis string }
	if err := getJSON(ctx, url+"/readyz", &h); err != nil {
		return err
	}
	if h.Status != "ok" || h.RabbitMQ != "up" || h.Redis != "up" {
		return fmt.Errorf("status %s, rabbitmq %s, redis %s", h.Status, h.RabbitMQ, h.Redis)
	}
	return nil
}

// knowsLiveWorker returns an error until the gateway's catalog has a task that a
// live worker runs.
func knowsLiveWorker(ctx context.Context, url string) error {
	var catalog struct {
		Tasks []struct{ Alive int } `json:"tasks"`
	}
	if err := getJSON(ctx, url+"/v1/catalog", &catalog); err != nil {
		return err
	}
	for _, task := range catalog.Tasks {
		if task.Alive > 0 {
			return nil
		}
	}
	return fmt.Errorf("no worker is alive yet")
}

// getJSON reads one JSON document over a connection of its own.
func getJSON(ctx context.Context, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := plainClient().Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// plainClient goes straight to the loopback address, whatever proxy is set.
func plainClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
}

// lastLines returns the end of a log.
func lastLines(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-10):], []byte("\n")))
}
