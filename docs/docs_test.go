// Package docs_test keeps the documentation equal to the code.
package docs_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range pages(t) {
		for _, found := range link.FindAllStringSubmatch(withoutCode(read(t, page)), -1) {
			if strings.Contains(found[1], "://") {
				continue
			}
			target, anchor, _ := strings.Cut(found[1], "#")
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
				_, err := os.Stat(path)
				require.NoError(t, err, "%s links to %s", page, found[1])
			}
			if anchor != "" {
				require.Contains(t, anchors(read(t, path)), anchor, "%s links to %s", page, found[1])
			}
		}
	}
}

// pages are all pages of the documentation, relative to this directory.
func pages(t *testing.T) []string {
	t.Helper()
	list := []string{"../README.md", "../CHANGELOG.md", "../SECURITY.md"}
	for _, pattern := range []string{"*.md", "decisions/*.md"} {
		more, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, more)
		list = append(list, more...)
	}
	return list
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

func withoutCode(page string) string {
	return regexp.MustCompile("(?s)```.*?```|`[^`\n]*`").ReplaceAllString(page, "")
}

// anchors are the names that GitHub gives to the headings of a page.
func anchors(page string) []string {
	var names []string
	page = regexp.MustCompile("(?s)```.*?```").ReplaceAllString(page, "")
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// The task in the README is the example of package worker, and the program
// around it compiles.
func TestReadmeProgramIsTheExampleAndCompiles(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(read(t, "../README.md"), -1)
	require.Len(t, blocks, 1)
	program := blocks[0][1]
	want := declarations(t, "../pkg/worker/example_test.go", nil)
	got := declarations(t, "README.md", program)
	for _, name := range []string{"GreetIn", "GreetOut", "greet"} {
		require.Equal(t, want[name], got[name], name)
	}
	require.Equal(t, strings.Replace(want["Example"], "func Example()", "func main()", 1), got["main"])

	requireCompiles(t, program)
}

func requireCompiles(t *testing.T, program string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "main.go")
	require.NoError(t, os.WriteFile(path, []byte(program), 0o600))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", os.DevNull, path)
	cmd.Dir = ".."
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// The page about the client has a program that compiles, and names every call.
func TestTheClientIsDocumented(t *testing.T) {
	t.Parallel()
	page := read(t, "client.md")
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(page, -1)
	require.Len(t, blocks, 1)
	requireCompiles(t, blocks[0][1])
	files, err := filepath.Glob("../pkg/client/*.go")
	require.NoError(t, err)
	calls := 0
	for _, path := range files {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv != nil && f.Name.IsExported() && receiverOf(f) == "Client" {
				require.Contains(t, page, "`"+f.Name.Name+"`")
				calls++
			}
		}
	}
	require.Greater(t, calls, 20)
}

func receiverOf(f *ast.FuncDecl) string {
	pointer, ok := f.Recv.List[0].Type.(*ast.StarExpr)
	if !ok {
		return ""
	}
	return nameOf(pointer.X)
}

// declarations are the types and functions of a Go file as source text, without
// the field Queue of the worker's options: the README's worker runs beside the
// one that ships, and so needs a queue of its own.
func declarations(t *testing.T, path string, source any) map[string]string {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, source, parser.SkipObjectResolution)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if literal, ok := n.(*ast.CompositeLit); ok {
			literal.Elts = slices.DeleteFunc(literal.Elts, isQueue)
		}
		return true
	})
	found := map[string]string{}
	for _, declaration := range file.Decls {
		var text bytes.Buffer
		require.NoError(t, format.Node(&text, files, declaration))
		// What was taken out leaves its line, or the alignment it asked for.
		plain := strings.Join(strings.Fields(text.String()), " ")
		switch d := declaration.(type) {
		case *ast.FuncDecl:
			found[d.Name.Name] = plain
		case *ast.GenDecl:
			if spec, ok := d.Specs[0].(*ast.TypeSpec); ok {
				found[spec.Name.Name] = plain
			}
		}
	}
	return found
}

func isQueue(e ast.Expr) bool {
	pair, ok := e.(*ast.KeyValueExpr)
	if !ok {
		return false
	}
	key, ok := pair.Key.(*ast.Ident)
	return ok && key.Name == "Queue"
}

func TestEveryProblemIsDocumented(t *testing.T) {
	t.Parallel()
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| (\\d+) \\| (yes|no) \\|").FindAllStringSubmatch(read(t, "api.md"), -1) {
		documented[row[1]] = row[2] + " " + row[3]
	}
	require.Equal(t, problems(t), documented)
}

// problems reads the table of the API's problems: status and retryable by slug.
func problems(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../services/gateway/internal/api/problem.go", nil, parser.SkipObjectResolution)
	require.NoError(t, err)
	slugs := map[string]string{}
	found := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ValueSpec:
			if kind, ok := n.Type.(*ast.Ident); ok && kind.Name == "slug" {
				slugs[n.Names[0].Name] = unquoted(t, n.Values[0])
			}
		case *ast.CompositeLit:
			if n.Type == nil && len(n.Elts) == 6 {
				found[slugOf(t, slugs, n.Elts[0])] = strconv.Itoa(statusOf(t, n.Elts[1])) + map[string]string{"true": " yes", "false": " no"}[nameOf(n.Elts[3])]
			}
		}
		return true
	})
	require.Greater(t, len(found), 20)
	return found
}

func slugOf(t *testing.T, slugs map[string]string, e ast.Expr) string {
	t.Helper()
	if name := nameOf(e); name != "" {
		return slugs[name]
	}
	return unquoted(t, e)
}

func unquoted(t *testing.T, e ast.Expr) string {
	t.Helper()
	literal, ok := e.(*ast.BasicLit)
	require.True(t, ok)
	text, err := strconv.Unquote(literal.Value)
	require.NoError(t, err)
	return text
}

func nameOf(e ast.Expr) string {
	if name, ok := e.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}

// statusOf finds the number of a constant such as http.StatusNotFound.
func statusOf(t *testing.T, e ast.Expr) int {
	t.Helper()
	selector, ok := e.(*ast.SelectorExpr)
	require.True(t, ok)
	for code := 400; code < 600; code++ {
		if "Status"+strings.ReplaceAll(http.StatusText(code), " ", "") == selector.Sel.Name {
			return code
		}
	}
	require.Fail(t, "no status of this name", selector.Sel.Name)
	return 0
}
