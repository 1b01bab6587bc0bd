package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// dockerAnswers reports whether an engine runs that we may use, with compose.
func dockerAnswers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	return succeeds("docker", "info")(ctx) && succeeds("docker", "compose", "version")(ctx)
}

// composeUp starts the same stack as containers and returns when it answers.
func (s *stack) composeUp(ctx context.Context, st *state) error {
	err := st.change(func() error {
		if st.Docker {
			return nil
		}
		st.Docker = true
		return choosePorts(ctx, &st.Ports)
	})
	if err != nil {
		return err
	}
	if err := s.compose(ctx, st, "up", "--detach", "--build", "--wait"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		err := ready(ctx, st.url())
		if err == nil {
			err = knowsLiveWorker(ctx, st.url())
		}
		if err == nil {
			return nil
		}
		if cause := sleep(ctx, 200*time.Millisecond); cause != nil {
			return fmt.Errorf("the gateway at %s does not get ready: %w", st.url(), err)
		}
	}
}

// choosePorts settles what the containers publish on 127.0.0.1.
func choosePorts(ctx context.Context, p *ports) error {
	for _, port := range []*int{&p.AMQP, &p.Management, &p.Redis, &p.Gateway} {
		reserved, err := devstack.ReservePort(ctx, *port)
		if err != nil {
			return err
		}
		*port = reserved.Number()
		defer reserved.Release()
	}
	return nil
}

// compose runs docker compose over our two files, with its output shown.
func (s *stack) compose(ctx context.Context, st *state, args ...string) error {
	files := []string{
		"compose", "--project-directory", s.root,
		"-f", filepath.Join(s.root, "docker-compose.yaml"), "-f", filepath.Join(s.root, "deploy/docker/compose.devstack.yaml"),
	}
	cmd := exec.CommandContext(ctx, "docker", append(files, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.root, s.out, s.out
	p := st.ports()
	cmd.Env = append(os.Environ(),
		fmt.Sprint("LOVAGE_GATEWAY_PORT=", p.Gateway), fmt.Sprint("LOVAGE_CONSOLE_PORT=", p.Management),
		fmt.Sprint("LOVAGE_AMQP_PORT=", p.AMQP), fmt.Sprint("LOVAGE_REDIS_PORT=", p.Redis))
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("docker compose %s: %w", args[0], err)
	}
	return nil
}
