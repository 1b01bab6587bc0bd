package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// headings are the sections with a table whose rows name tests.
var headings = []string{"The promises", "What broke others, and the test that holds it here", "Attacks tried, and the test for each"} //nolint:gochecknoglobals // a list

// testName finds the tests that a row names: `TestName`, with the directory of
// its package before it where that helps (`pkg/messages.FuzzDecode`), and with
// the name of a subtest behind it.
var testName = regexp.MustCompile("`(?:([A-Za-z0-9_./-]+)\\.)?((?:Test|Fuzz|Example|Benchmark)[A-Z_][A-Za-z0-9_]*)(?:/[^`]*)?`")

// reference is a test that the table names.
type reference struct {
	line int
	dir  string // of the package, empty for any
	name string
}

// references returns the tests that the table under one of the headings names.
// Every row has to name one.
func references(text string) ([]reference, error) {
	var found []reference
	var errs []error
	in, rows := false, 0
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			in = slices.Contains(headings, strings.TrimSpace(strings.TrimLeft(line, "#")))
			rows = 0
		}
		if !in || !strings.HasPrefix(line, "|") {
			continue
		}
		if rows++; rows <= 2 {
			continue // The head of the table and the line below it.
		}
		matches := testName.FindAllStringSubmatch(line, -1)
		if len(matches) == 0 {
			errs = append(errs, fmt.Errorf("line %d: this row names no test", i+1))
		}
		for _, m := range matches {
			found = append(found, reference{line: i + 1, dir: m[1], name: m[2]})
		}
	}
	if len(found) == 0 {
		errs = append(errs, fmt.Errorf("there is no table with tests under a heading of %q", headings))
	}
	return found, errors.Join(errs...)
}

// tests returns the directories that have a test function, by its name.
func tests(root string) (map[string][]string, error) {
	found := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if path != root && ignored(d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil {
				found[f.Name.Name] = append(found[f.Name.Name], filepath.ToSlash(dir))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for tests: %w", err)
	}
	return found, nil
}

// ignored directories are those that the go command ignores.
func ignored(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "vendor"
}

// check returns an error that names every test of the table that does not exist.
func check(text string, have map[string][]string) (int, error) {
	refs, err := references(text)
	errs := []error{err}
	for _, r := range refs {
		if !exists(have[r.name], r.dir) {
			errs = append(errs, fmt.Errorf("line %d: there is no test %s", r.line, strings.TrimPrefix(r.dir+"."+r.name, ".")))
		}
	}
	return len(refs), errors.Join(errs...)
}

// exists accepts the end of a directory's path for it, as people write it.
func exists(dirs []string, want string) bool {
	for _, dir := range dirs {
		if want == "" || dir == want || strings.HasSuffix(dir, "/"+want) {
			return true
		}
	}
	return false
}
