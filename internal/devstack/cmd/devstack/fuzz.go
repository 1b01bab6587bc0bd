package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

type fuzzCommand struct {
	Time     string   `default:"10s" help:"How long each fuzz test runs, as go test's -fuzztime takes it."`
	Packages []string `arg:"" default:"./..." help:"Packages to look for fuzz tests in."`
}

// Run runs every fuzz test, one after the other as go test has it, and fails
// after the last one if any of them found something.
func (c fuzzCommand) Run(ctx context.Context, s *stack) error {
	tests, err := fuzzTests(ctx, s.root, c.Packages)
	if err != nil {
		return err
	}
	if len(tests) == 0 {
		return errors.New("fuzz: there is no fuzz test in these packages")
	}
	var failed []error
	for _, t := range tests {
		s.print("--- %s in %s, %s", t.name, t.pkg, c.Time)
		err := c.fuzz(ctx, s, t)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s in %s: %w", t.name, t.pkg, errors.New(err.Error())))
		}
	}
	return errors.Join(failed...)
}

type fuzzTest struct{ pkg, name string }

// fuzz runs one fuzz test, and again when it failed without a finding: the end
// of its time is now and then taken for a failure (golang/go#75804).
func (c fuzzCommand) fuzz(ctx context.Context, s *stack, t fuzzTest) error {
	var said bytes.Buffer
	heard := *s
	heard.out = io.MultiWriter(s.out, &said)
	command := []string{"go", "test", "-run=^$", "-fuzz=^" + t.name + "$", "-fuzztime=" + c.Time, t.pkg}
	err := heard.execute(ctx, command)
	if err == nil || ctx.Err() != nil || !endedByItsTime(said.String()) {
		return err
	}
	s.print("%s found nothing, its time was over; once more", t.name)
	return s.execute(ctx, command)
}

// endedByItsTime reports whether the output of a failed fuzz test names no
// other reason than the end of its time.
func endedByItsTime(output string) bool {
	return strings.Contains(output, "\n    context deadline exceeded\n") && !strings.Contains(output, "Failing input written")
}

// fuzzTests finds fuzz tests by reading the sources: to have go test list them
// would compile every package first.
func fuzzTests(ctx context.Context, root string, patterns []string) ([]fuzzTest, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"list", "-json=Dir,ImportPath,TestGoFiles,XTestGoFiles"}, patterns...)...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var found []fuzzTest
	for packages := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			Dir, ImportPath           string
			TestGoFiles, XTestGoFiles []string
		}
		if err := packages.Decode(&p); errors.Is(err, io.EOF) {
			return found, nil
		} else if err != nil {
			return nil, fmt.Errorf("list packages: %w", err)
		}
		for _, file := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			names, err := fuzzFunctions(filepath.Join(p.Dir, file))
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				found = append(found, fuzzTest{pkg: p.ImportPath, name: name})
			}
		}
	}
}

func fuzzFunctions(path string) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("look for fuzz tests: %w", err)
	}
	var names []string
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Fuzz") {
			names = append(names, f.Name.Name)
		}
	}
	return names, nil
}
