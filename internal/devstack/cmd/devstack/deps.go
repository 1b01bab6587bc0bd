package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// dependency is a package of the distribution and how to see that it is there.
type dependency struct {
	packages  []string
	installed func(ctx context.Context) bool
}

// serverDependencies are what the stack needs besides Go.
func serverDependencies() []dependency {
	return []dependency{
		{[]string{"rabbitmq-server"}, func(context.Context) bool { _, err := devstack.RabbitMQPrograms(); return err == nil }},
		{[]string{"redis-server"}, func(context.Context) bool { _, err := devstack.RedisProgram(); return err == nil }},
	}
}

// testDependencies are what the tests need beyond that: Celery as the other side
// of the wire, for the Python of the distribution, a C compiler for the race
// detector, promtool for the alert rules, and a browser for the console.
func testDependencies() []dependency {
	return []dependency{
		{[]string{"python3-celery", "python3-redis"}, succeeds("/usr/bin/python3", "-c", "import celery, redis")},
		{[]string{"gcc", "libc6-dev"}, succeeds("gcc", "--version")},
		{[]string{"prometheus"}, succeeds("promtool", "--version")},
		{[]string{"chromium"}, browserInstalled},
	}
}

// benchDependencies are the other task systems that a benchmark compares with, as
// the distribution has them, and what they run on.
func benchDependencies() []dependency {
	return []dependency{
		{
			[]string{"python3-celery", "python3-redis", "python3-fastapi", "python3-uvicorn"},
			succeeds("/usr/bin/python3", "-c", "import celery, redis, fastapi, uvicorn"),
		},
		{[]string{"python3-uvloop", "python3-httptools"}, succeeds("/usr/bin/python3", "-c", "import uvloop, httptools")},
		{[]string{"postgresql"}, postgresInstalled},
	}
}

// browserInstalled looks for the names that chromedp looks for.
func browserInstalled(context.Context) bool {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if _, err := exec.LookPath(name); err == nil {
			return true
		}
	}
	return false
}

func postgresInstalled(context.Context) bool {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // the pattern is a good one
	_, err := exec.LookPath("initdb")
	return len(found) > 0 || err == nil
}

func succeeds(program string, args ...string) func(context.Context) bool {
	return func(ctx context.Context) bool { return exec.CommandContext(ctx, program, args...).Run() == nil }
}

type depsCommand struct {
	Test  bool `help:"Also what the tests need."`
	Bench bool `help:"Also what the benchmarks compare with, where that can be installed."`
}

// Run installs what is missing, or says what to install.
func (c depsCommand) Run(ctx context.Context, s *stack) error {
	needed := serverDependencies()
	if c.Test {
		needed = append(needed, testDependencies()...)
	}
	if err := s.install(ctx, missing(ctx, needed)); err != nil || !c.Bench {
		return err
	}
	// Each by itself: the benchmarks leave out what is not there.
	for _, d := range benchDependencies() {
		if err := s.install(ctx, missing(ctx, []dependency{d})); err != nil {
			s.print("%v", err)
		}
	}
	return nil
}

// missing returns the packages of what is not installed.
func missing(ctx context.Context, needed []dependency) []string {
	var packages []string
	for _, d := range needed {
		if !d.installed(ctx) {
			packages = append(packages, d.packages...)
		}
	}
	return packages
}

// errCannotInstall means that this user or this system has no way to install.
var errCannotInstall = errors.New("nothing can be installed here")

// install installs packages through apt-get without letting them start services.
func (s *stack) install(ctx context.Context, packages []string) error {
	if len(packages) == 0 {
		return nil
	}
	begin := time.Now()
	apt, err := exec.LookPath("apt-get")
	if err != nil || s.uid != 0 {
		return fmt.Errorf("%w: install these and try again: %s\n"+
			"(on Debian or Ubuntu: sudo apt-get install %[2]s; this is done by itself as root there)",
			errCannotInstall, strings.Join(packages, " "))
	}
	s.print("installing %s", strings.Join(packages, " "))
	remove, err := forbidServices(s.policy)
	if err != nil {
		return err
	}
	defer remove()
	args := append([]string{"install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"}, packages...)
	if out, err := aptGet(ctx, apt, "update", "-q"); err != nil {
		s.print("apt-get update: %v\n%s", err, out) // The lists at hand may do.
	}
	if out, err := aptGet(ctx, apt, args...); err != nil {
		return fmt.Errorf("install %s: %w\n%s", strings.Join(packages, " "), err, out)
	}
	s.print("installed after %.0f s", time.Since(begin).Seconds())
	return nil
}

func aptGet(ctx context.Context, apt string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, apt, args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	out, err := cmd.CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n"), err
}

// forbidServices keeps packages from starting services while they are installed.
// A policy that is there already stays as it is.
func forbidServices(path string) (remove func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if errors.Is(err, os.ErrExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("forbid services: %w", err)
	}
	remove = func() { _ = os.Remove(path) }
	_, err = f.WriteString("#!/bin/sh\nexit 101\n")
	// The mask of this process must not take the permission to execute it.
	if err = errors.Join(err, f.Chmod(0o755), f.Close()); err != nil {
		remove()
		return nil, fmt.Errorf("forbid services: %w", err)
	}
	return remove, nil
}

// prepare installs the servers, or decides for Docker where that is not possible.
func (s *stack) prepare(ctx context.Context, st *state) (docker bool, err error) {
	return s.decide(ctx, st, missing(ctx, serverDependencies()))
}

// decide is for Docker where it was so before, or where packages are missing
// that cannot be installed.
func (s *stack) decide(ctx context.Context, st *state, packages []string) (docker bool, err error) {
	if st.Docker {
		return true, nil
	}
	err = s.install(ctx, packages)
	if errors.Is(err, errCannotInstall) && dockerAnswers(ctx) {
		s.print("the servers are not installed here: using Docker")
		return true, nil
	}
	return false, err
}
