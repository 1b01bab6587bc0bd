package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

type vulnCommand struct {
	Version string `arg:"" help:"Version of govulncheck."`
}

// Run looks for known vulnerabilities. Where govulncheck or its database cannot
// be had it says so and succeeds: that is the network's fault and not the code's.
func (c vulnCommand) Run(ctx context.Context, s *stack) error {
	program, out, err := c.program(ctx, s)
	if err != nil {
		s.print("%s\ngovulncheck %s cannot be installed (%v): NOTHING WAS CHECKED.", bytes.TrimSpace(out), c.Version, err)
		return nil
	}
	cmd := exec.CommandContext(ctx, program, "./...")
	cmd.Dir = s.root
	out, err = cmd.CombinedOutput()
	s.print("%s", bytes.TrimSpace(out))
	if err != nil && unreachable(out) {
		s.print("The vulnerability database cannot be reached: NOTHING WAS CHECKED.")
		return nil
	}
	return wrapped("govulncheck", err)
}

// program returns govulncheck in this version, installing it if it is not there.
func (c vulnCommand) program(ctx context.Context, s *stack) (path string, out []byte, err error) {
	dir := filepath.Join(s.root, ".cache", "govulncheck-"+c.Version)
	path = filepath.Join(dir, "govulncheck")
	if _, err := os.Stat(path); err == nil {
		return path, nil, nil
	}
	cmd := exec.CommandContext(ctx, "go", "install", "golang.org/x/vuln/cmd/govulncheck@"+c.Version)
	cmd.Dir = s.root
	cmd.Env = append(os.Environ(), "GOBIN="+dir)
	out, err = cmd.CombinedOutput()
	if err != nil {
		return "", out, fmt.Errorf("go install: %w", err)
	}
	return path, out, nil
}

// unreachable recognises how govulncheck says that it could not get its database.
func unreachable(out []byte) bool {
	return bytes.Contains(out, []byte("govulncheck: fetching vulnerabilities:"))
}
