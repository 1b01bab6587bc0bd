//go:build outage

// Package outage_test breaks what the gateway depends on, one thing at a time
// and under load, and looks at the gateway as its clients do.
package outage_test

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// binDir holds the programs, built once for all tests.
//
//nolint:gochecknoglobals // TestMain has no other way to hand it to the tests
var binDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lovage-outage-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	build := exec.Command("go", "build", "-o", dir, "../../services/gateway", "./noopworker", "./ledgerworker", "./bystander") //nolint:noctx // TestMain has no context
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	binDir = dir
	return m.Run()
}
