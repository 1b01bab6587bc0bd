package api

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/apidoc"
)

const (
	documentPath  = "../../../../docs/openapi.json"
	referencePath = "../../../../docs/api.md"
	// generated is where the reference begins that is not written by hand.
	generated = "<!-- Generated from openapi.json by make generate: everything below. -->\n"
)

// docs/openapi.json is what clients were promised, without the tasks of a
// catalog, and docs/api.md ends with a reference made of it. With LOVAGE_GENERATE
// this test writes both; a change that breaks clients is refused also then.
func TestReferenceIsTheDocumentAndBreaksNobody(t *testing.T) {
	t.Parallel()
	now := bareDocument(t)
	promised, err := os.ReadFile(documentPath)
	require.NoError(t, err)
	broken, err := apidoc.Breaking(promised, now)
	require.NoError(t, err)
	require.Empty(t, broken, "clients of docs/openapi.json break; if that is meant, take it out of that file by hand")

	reference, err := apidoc.Reference(now)
	require.NoError(t, err)
	page, err := os.ReadFile(referencePath)
	require.NoError(t, err)
	guide, _, found := strings.Cut(string(page), generated)
	require.True(t, found, "docs/api.md says where the reference begins")
	want := guide + generated + "\n" + reference
	if os.Getenv("LOVAGE_GENERATE") != "" {
		require.NoError(t, os.WriteFile(documentPath, now, 0o600))
		require.NoError(t, os.WriteFile(referencePath, []byte(want), 0o600))
		return
	}
	require.Equal(t, string(promised), string(now), "make generate brings docs/openapi.json up to date")
	require.Equal(t, want, string(page), "make generate brings docs/api.md up to date")
}

// bareDocument is /openapi.json of a gateway that knows no task.
func bareDocument(t *testing.T) []byte {
	t.Helper()
	s := newServer(t)
	w := s.ask(t, get, "/openapi.json", "")
	require.Equal(t, http.StatusOK, w.Code)
	doc := decode(t, w)
	dig(t, doc, "info")["version"] = "v1"
	text, err := json.MarshalIndent(doc, "", " ")
	require.NoError(t, err)
	return append(text, '\n')
}
