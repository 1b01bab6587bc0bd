package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// document of a server with the given catalog.
func openAPIOf(t *testing.T, entries ...messages.CatalogEntry) (*server, map[string]any) {
	t.Helper()
	s := newServer(t)
	s.store.announce(nil, entries...)
	s.catalog.refresh(t.Context(), 0)
	w := s.ask(t, get, "/openapi.json", "")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "application/json", w.Header().Get("Content-Type"))
	return s, decode(t, w)
}

// requireValidOpenAPI checks the document against the schema of the OpenAPI
// Initiative, and every JSON Schema in its components against that of JSON
// Schema, references included.
func requireValidOpenAPI(t *testing.T, doc map[string]any) {
	t.Helper()
	file, err := os.Open("testdata/openapi-3.1.schema.json")
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	meta, err := jsonschema.UnmarshalJSON(file)
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.UseLoader(noLoader{})
	require.NoError(t, c.AddResource("urn:openapi", meta))
	schema, err := c.Compile("urn:openapi")
	require.NoError(t, err)
	require.NoError(t, schema.Validate(plainJSON(t, doc)))

	require.NoError(t, c.AddResource("urn:document", plainJSON(t, doc)))
	for name := range dig(t, doc, "components", "schemas") {
		_, err := c.Compile("urn:document#/components/schemas/" + name)
		require.NoError(t, err, name)
	}
	requireRefs(t, doc, doc)
}

func plainJSON(t *testing.T, v any) any {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	require.NoError(t, err)
	return out
}

// requireRefs finds every reference and what it refers to.
func requireRefs(t *testing.T, doc, node any) {
	t.Helper()
	switch v := node.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			require.True(t, strings.HasPrefix(ref, "#/"), ref)
			at := doc
			for token := range strings.SplitSeq(ref[2:], "/") {
				token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
				switch parent := at.(type) {
				case map[string]any:
					at = parent[token]
				case []any:
					var i int
					_, err := fmt.Sscan(token, &i)
					require.NoError(t, err)
					at = parent[i]
				}
				require.NotNil(t, at, ref)
			}
		}
		for _, child := range v {
			requireRefs(t, doc, child)
		}
	case []any:
		for _, child := range v {
			requireRefs(t, doc, child)
		}
	}
}

func dig(t *testing.T, v map[string]any, keys ...string) map[string]any {
	t.Helper()
	for _, k := range keys {
		next, ok := v[k].(map[string]any)
		require.True(t, ok, "%s in %v", k, keys)
		v = next
	}
	return v
}

func TestOpenAPIHasEveryTask(t *testing.T) {
	t.Parallel()
	newer := sleepEntry()
	newer.Input = json.RawMessage(`{"type":"object","properties":{"again":{"$ref":"#"}, "n":{"$ref":"#/$defs/N"}},"$defs":{"N":{"type":"integer"}}}`)
	newer.AnnouncedAt = newer.AnnouncedAt.Add(time.Hour)
	_, doc := openAPIOf(t, sleepEntry(), newer,
		messages.CatalogEntry{Name: "plain", Queue: "q"},
		messages.CatalogEntry{Name: "odd name/{x}", Queue: "q", Input: json.RawMessage(`{"type":"object","properties":{"z":{},"a":{}}}`)},
		messages.CatalogEntry{Name: "odd.name/{x}", Queue: "q"}, messages.CatalogEntry{Name: "odd_name__x_", Queue: "q"},
		messages.CatalogEntry{Name: "broken", Queue: "q", Input: json.RawMessage(`{"type`)},
		messages.CatalogEntry{Name: "rooted", Queue: "q", Alive: 1, Input: json.RawMessage(`{"$id":"urn:x","$ref":"#/$defs/In","$defs":{"In":{"type":"object"}}}`)},
	)
	requireValidOpenAPI(t, doc)
	require.Equal(t, "3.1.0", doc["openapi"])
	require.Equal(t, "1.2.3", dig(t, doc, "info")["version"])
	paths := dig(t, doc, "paths")
	for _, path := range []string{
		"/v1/tasks", "/v1/tasks/{name}", "/v1/tasks/{id}", "/v1/catalog", "/v1/workers", "/livez", "/readyz",
		"/v1/tasks/sleep_task", "/v1/tasks/plain", "/v1/tasks/odd%20name%2F%7Bx%7D",
	} {
		require.Contains(t, paths, path)
	}
	op := dig(t, paths, "/v1/tasks/sleep_task", "post")
	require.Equal(t, "Sleeps.", op["summary"])
	require.Contains(t, op["description"], "In seconds.")
	require.Contains(t, op["description"], "`default`")
	require.Equal(t, "submit-sleep_task", op["operationId"])
	raw, err := json.Marshal(op["parameters"])
	require.NoError(t, err)
	for _, o := range optionParams() {
		require.Contains(t, string(raw), `"name":"`+o.name+`"`)
	}
	require.NotContains(t, string(raw), `"in":"path"`)
	require.Equal(t, map[string]any{"$ref": "#/components/schemas/task.sleep_task.input"},
		dig(t, op, "requestBody", "content", "application/json", "schema"))
	require.Len(t, dig(t, doc, "components", "schemas", "task.sleep_task.input")["anyOf"], 2, "two versions are alive")
	require.NotContains(t, dig(t, doc, "components", "schemas"), "ErrorModel")
	require.NotContains(t, dig(t, doc, "components", "schemas", "task.rooted.input"), "$id")
}

func TestOpenAPIKeepsTheOrderOfFields(t *testing.T) {
	t.Parallel()
	s, _ := openAPIOf(t, messages.CatalogEntry{Name: "x", Queue: "q", Input: json.RawMessage(`{"properties": {"z": {}, "a": {}}}`)})
	require.Contains(t, s.ask(t, get, "/openapi.json", "").Body.String(), `{"properties":{"z":{},"a":{}}}`)
}

func TestOpenAPIChangesWithTheCatalog(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	w := s.ask(t, get, "/openapi.json", "")
	requireValidOpenAPI(t, decode(t, w))
	bare := w.Header().Get("ETag")
	require.Equal(t, http.StatusNotModified, s.ask(t, get, "/openapi.json", "", "If-None-Match: "+bare).Code)
	s.catalog.refresh(t.Context(), 0)
	w = s.ask(t, get, "/openapi.json", "", "If-None-Match: "+bare)
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "/v1/tasks/send_mail")
}

// requireSchema compares an answer with a schema of the document.
func (s *server) requireSchema(t *testing.T, name string, w *httptest.ResponseRecorder) {
	t.Helper()
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("urn:document", plainJSON(t, decode(t, s.ask(t, get, "/openapi.json", "")))))
	schema, err := c.Compile("urn:document#/components/schemas/" + name)
	require.NoError(t, err)
	answer, err := jsonschema.UnmarshalJSON(bytes.NewReader(w.Body.Bytes()))
	require.NoError(t, err)
	require.NoError(t, schema.Validate(answer), w.Body.String())
}

func TestAnswersAreAsTheDocumentSays(t *testing.T) {
	t.Parallel()
	s, _ := openAPIOf(t, sleepEntry())
	s.store.put(&messages.Result{TaskID: "t1", State: messages.Progress, Progress: &messages.ProgressInfo{Current: 1, Total: 2, Percent: 50}})
	s.store.workers = []messages.WorkerInfo{{Name: "w", Queues: []string{"q"}, Tasks: []string{"t"}}}
	s.store.page = Page{Results: []*messages.Result{{TaskID: "t", State: messages.Failure, Error: &messages.TaskError{Type: "E", Message: "m"}}}}
	for _, call := range []struct {
		schema, method, target, body string
	}{
		{"Task", get, "/v1/tasks/t1", ""},
		{"Task", post, "/v1/tasks/sleep_task", `{"duration":1}`},
		{"TaskList", get, "/v1/tasks", ""},
		{"CatalogList", get, "/v1/catalog", ""},
		{"WorkerList", get, "/v1/workers", ""},
		{"Health", get, "/readyz", ""},
		{"Alive", get, "/livez", ""},
		{"Problem", get, "/v1/tasks?limit=x", ""},
		{"Problem", post, "/v1/tasks/slep", `{}`},
		{"Problem", post, "/v1/tasks/sleep_task", `{}`},
	} {
		s.requireSchema(t, call.schema, s.ask(t, call.method, call.target, call.body))
	}
}
