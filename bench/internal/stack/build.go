package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// baseDir is where the programs of another revision are, below those of this one.
const baseDir = "base"

// build makes ours as the Makefile does, with the versions of their own module.
func (s *Stack) build(ctx context.Context) error {
	return errors.Join(
		goBuild(ctx, "-C", "..", "build", "-trimpath", "-buildvcs=false", "-o", s.dir, "./services/gateway", "./services/worker"),
		goBuild(ctx, "build", "-trimpath", "-buildvcs=false", "-o", s.dir, "./floor", "./drainer", "./asynq", "./river"),
	)
}

func goBuild(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	return output("build", cmd)
}

// output runs a command, which says in the error what it has printed.
func output(what string, cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", what, err, out)
	}
	return nil
}

// BuildBase builds the gateway of another revision, and the drainer of this one
// with the packages of that one. [Stack.Base] runs them.
func (s *Stack) BuildBase(ctx context.Context, revision string) (err error) {
	tree, to := filepath.Join(s.dir, "tree"), filepath.Join(s.dir, baseDir)
	if err := output("check out "+revision, exec.CommandContext(ctx, "git", "worktree", "add", "--detach", tree, revision)); err != nil {
		return err
	}
	defer func() {
		remove := exec.CommandContext(context.WithoutCancel(ctx), "git", "worktree", "remove", "--force", tree)
		err = errors.Join(err, output("remove checkout", remove))
	}()
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		return err
	}
	sum, err := os.ReadFile("go.sum")
	if err != nil {
		return err
	}
	file := filepath.Join(s.dir, "base.mod")
	pointed := strings.Replace(string(mod), "=> ../", "=> "+tree, 1)
	return errors.Join(
		os.MkdirAll(to, 0o700),
		os.WriteFile(file, []byte(pointed), 0o600),
		os.WriteFile(filepath.Join(s.dir, "base.sum"), sum, 0o600),
		goBuild(ctx, "-C", tree, "build", "-trimpath", "-buildvcs=false", "-o", to+"/", "./services/gateway"),
		goBuild(ctx, "build", "-modfile="+file, "-mod=mod", "-trimpath", "-buildvcs=false", "-o", to+"/", "./drainer"),
	)
}

// This is the stack with the programs of this revision.
func (s *Stack) This() Build { return Build{stack: s} }

// Base is the stack with the programs that [Stack.BuildBase] has built.
func (s *Stack) Base() Build { return Build{s, baseDir} }

// Build are programs of ours of one revision.
type Build struct {
	stack *Stack
	dir   string // below that of the stack
}
