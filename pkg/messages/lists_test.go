package messages_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestListsHoldEveryConstantOfTheirType(t *testing.T) {
	t.Parallel()
	declared := stringConstants(t)
	states := []string{}
	for _, state := range messages.States() {
		states = append(states, string(state))
	}
	require.Equal(t, declared["State"], states)
	reasons := []string{}
	for _, reason := range messages.Reasons() {
		reasons = append(reasons, string(reason))
	}
	require.Equal(t, declared["Reason"], reasons)
}

// stringConstants returns the values of the package's typed string constants
// by type, in their order in the source.
func stringConstants(t *testing.T) map[string][]string {
	t.Helper()
	names, err := filepath.Glob("*.go")
	require.NoError(t, err)
	out := map[string][]string{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if kind, value, ok := stringConstant(n); ok {
				out[kind] = append(out[kind], value)
			}
			return true
		})
	}
	return out
}

// stringConstant returns the type and the value of a declaration such as
// `Pending State = "PENDING"`.
func stringConstant(n ast.Node) (kind, value string, ok bool) {
	spec, ok := n.(*ast.ValueSpec)
	if !ok || len(spec.Values) != 1 {
		return "", "", false
	}
	named, ok := spec.Type.(*ast.Ident)
	literal, isLiteral := spec.Values[0].(*ast.BasicLit)
	if !ok || !isLiteral || literal.Kind != token.STRING {
		return "", "", false
	}
	value, err := strconv.Unquote(literal.Value)
	return named.Name, value, err == nil
}

func TestFinalStates(t *testing.T) {
	t.Parallel()
	final := []messages.State{}
	for _, state := range messages.States() {
		if state.Final() {
			final = append(final, state)
		}
	}
	require.Equal(t, []messages.State{messages.Success, messages.Failure, messages.Revoked}, final)
	require.False(t, messages.State("CUSTOM").Final())
}
