package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const table = "# A\n\n## The promises\n\n| Promise | Test |\n| --- | --- |\n"

func TestRowsNameTestsThatExist(t *testing.T) {
	t.Parallel()
	have := map[string][]string{"TestA": {"pkg/a"}, "FuzzB": {"pkg/b", "internal/b"}}
	for name, readme := range map[string]string{
		"plain":     table + "| x | `TestA` |\n",
		"several":   table + "| x | `TestA`, `FuzzB` |\n| y | `FuzzB` |\n",
		"qualified": table + "| x | `pkg/b.FuzzB` and `b.FuzzB` |\n",
		"subtest":   table + "| x | `TestA/some case` |\n",
		"broke":     "## What broke others, and the test that holds it here\n\n| a | b | c |\n| --- | --- | --- |\n| x | y | `TestA` |\n",
		"elsewhere": table + "| x | `TestA` |\n\n## More\n\n| a | b |\n|---|---|\n| `TestNone` | |\n",
	} {
		_, err := check(readme, have)
		require.NoError(t, err, name)
	}
	for name, readme := range map[string]string{
		"no heading":      "# A\n\n| Promise | Test |\n|---|---|\n| x | `TestA` |\n",
		"no table":        "## The promises\n\n`TestA`\n",
		"unknown":         table + "| x | `TestNone` |\n",
		"one of two":      table + "| x | `TestA`, `TestNone` |\n",
		"row without":     table + "| x | `TestA` |\n| y | to be done |\n",
		"other directory": table + "| x | `pkg/b.TestA` |\n",
	} {
		_, err := check(readme, have)
		require.Error(t, err, name)
	}
}

func TestErrorsNameLineAndTest(t *testing.T) {
	t.Parallel()
	_, err := check(table+"| x | `TestA` |\n| y | `pkg/z.TestNone` |\n", map[string][]string{"TestA": {"."}})
	require.EqualError(t, err, "line 8: there is no test pkg/z.TestNone")
}

func TestFindsTestFunctionsOnly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, text := range map[string]string{
		"a_test.go":            "package a\nfunc TestA() {}\nfunc (x T) TestMethod() {}\n",
		"a.go":                 "package a\nfunc TestNotInATest() {}\n",
		"b/c/c_test.go":        "package c_test\n// func TestComment() {}\nfunc FuzzC() {}\n",
		"testdata/x_test.go":   "not Go",
		".cache/x_test.go":     "not Go",
		"b/c/testdata/_x/y.go": "not Go",
	} {
		path = filepath.Join(dir, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	found, err := tests(dir)
	require.NoError(t, err)
	require.Equal(t, map[string][]string{"TestA": {"."}, "FuzzC": {"b/c"}}, found)
}

func TestVerifyReadsTheFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "README.md")
	have := map[string][]string{"TestA": {"."}}
	_, err := verify(file, have)
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(file, []byte(table+"| x | `TestA` |\n"), 0o600))
	n, err := verify(file, have)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.NoError(t, os.WriteFile(file, []byte(table+"| x | `TestB` |\n"), 0o600))
	_, err = verify(file, have)
	require.ErrorContains(t, err, "TestB")
}
