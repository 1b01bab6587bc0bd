package apidoc_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/apidoc"
)

const document = `{
  "tags": [{"name": "Tasks"}],
  "paths": {"/v1/tasks": {"post": {
    "operationId": "submit", "summary": "Submit", "tags": ["Tasks"],
    "parameters": [
      {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 200}},
      {"name": "state", "in": "query", "schema": {"type": "string", "enum": ["A", "B"]}}
    ],
    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/In"}}}},
    "responses": {
      "202": {"description": "Accepted.", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Task"}}}},
      "default": {"description": "A problem."}
    }
  }}},
  "components": {"schemas": {
    "In": {"type": "object", "additionalProperties": false, "required": ["name"], "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}},
    "Task": {"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "at": {"type": ["string", "null"], "format": "date-time"},
      "children": {"type": "array", "items": {"$ref": "#/components/schemas/Task"}}}}
  }}
}`

func breaking(t *testing.T, was, is string) string {
	t.Helper()
	require.Contains(t, document, was)
	found, err := apidoc.Breaking([]byte(document), []byte(strings.Replace(document, was, is, 1)))
	require.NoError(t, err)
	return strings.Join(found, "\n")
}

func TestWhatBreaksClientsIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ was, is, want string }{
		{`"/v1/tasks"`, `"/v1/jobs"`, "POST /v1/tasks: is gone"},
		{`"post"`, `"put"`, "POST /v1/tasks: is gone"},
		{`"operationId": "submit"`, `"operationId": "send"`, "operationId is send, was submit"},
		{`"name": "limit"`, `"name": "most"`, "parameter query limit is gone"},
		{`"in": "query", "schema": {"type": "integer"`, `"in": "query", "required": true, "schema": {"type": "integer"`, "parameter query limit is required"},
		{`"maximum": 200`, `"maximum": 100`, "maximum is 100, was 200"},
		{`"minimum": 1`, `"minimum": 2`, "minimum is 2, was 1"},
		{`["A", "B"]`, `["A"]`, "B is refused"},
		{`"202"`, `"201"`, "answer 202 is gone"},
		{`"n": {"type": "integer"}`, `"n": {"type": "string"}`, "request In.n: the type integer is refused"},
		{`, "n": {"type": "integer"}`, ``, "request In: n is gone"},
		{`"required": ["name"]`, `"required": ["name", "n"]`, "request In: n is required"},
		{`"required": ["id"]`, `"required": []`, "answer Task: id is no longer in every answer"},
		{`"id": {"type": "string"}`, `"id": {"type": "integer"}`, "answer Task.id: the type integer is new"},
		{`"id": {"type": "string"}`, `"id": {"type": ["string", "null"]}`, "answer Task.id: the type null is new"},
		{`, "format": "date-time"`, ``, "answer Task.at: the format is <nil>, was date-time"},
		{`"at":`, `"when":`, "answer Task: at is gone"},
	} {
		require.Contains(t, breaking(t, c.was, c.is), c.want, c.is)
	}
}

func TestWhatIsAddedBreaksNobody(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{`{"post"`, `{"get": {"operationId": "list"}, "post"`},
		{`"parameters": [`, `"parameters": [{"name": "new", "in": "query", "schema": {"type": "string"}},`},
		{`"maximum": 200`, `"maximum": 500`},
		{`["A", "B"]`, `["A", "B", "C"]`},
		{`"n": {"type": "integer"}`, `"n": {"type": ["integer", "string"]}, "more": {"type": "string"}`},
		{`"required": ["name"]`, `"required": []`},
		{`"id": {"type": "string"}`, `"id": {"type": "string"}, "more": {"type": "string"}`},
		{`["string", "null"]`, `"string"`},
		{`"required": ["id"]`, `"required": ["id", "at"]`},
		{`"default": {`, `"500": {"description": "A bug."}, "default": {`},
	} {
		require.Empty(t, breaking(t, c[0], c[1]), c[1])
	}
}

func TestReferenceHasEveryCallAndField(t *testing.T) {
	t.Parallel()
	text, err := apidoc.Reference([]byte(document))
	require.NoError(t, err)
	for _, want := range []string{
		"### POST /v1/tasks\n\nSubmit.", "| `limit` | query | integer, at least 1, at most 200 |  |\n", "one of `A`, `B`",
		"Body: `application/json`, [In](#in).", "| 202 | [Task](#task) | Accepted. |\n", "| any other | none | A problem. |\n",
		"### Task\n", "| `at` | date-time or null |  |\n", "| `children` | array of [Task](#task) |  |\n", "| `id` | string, required |  |\n",
	} {
		require.Contains(t, text, want)
	}
}
