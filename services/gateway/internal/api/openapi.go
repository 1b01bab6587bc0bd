package api

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/labstack/echo/v4"

	"github.com/lovage-mq/lovage/internal/access"
)

const (
	tagTasks  = "Tasks"
	tagQueues = "Queues"
	tagDead   = "Dead letters"
	tagFleet  = "Catalog and workers"
	tagAudit  = "Audit"
	tagHealth = "Health"
	// tagCatalog holds one operation for every task of the catalog.
	tagCatalog = "Submit"

	apiDescription = "Durable background tasks over HTTP. Every task that workers have announced has an operation of its own under Submit. " +
		"Errors are application/problem+json with a stable type and say whether a retry can help."
)

//go:generate env LOVAGE_GENERATE=true go test -count=1 -run=^TestReferenceIsTheDocumentAndBreaksNobody$ .

// openAPI is the document about the fixed routes, taken apart so that the tasks
// of the catalog can be put in.
type openAPI struct {
	top     map[string]json.RawMessage
	paths   map[string]json.RawMessage
	schemas map[string]json.RawMessage
	// submit is the generic operation, the pattern of those of the tasks.
	submit     map[string]json.RawMessage
	parameters []json.RawMessage
	security   json.RawMessage
}

// newOpenAPI takes the document apart.
func newOpenAPI(doc *huma.OpenAPI) (*openAPI, error) {
	o := &openAPI{}
	raw, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	var components struct {
		Schemas  map[string]json.RawMessage `json:"schemas"`
		Security json.RawMessage            `json:"securitySchemes"`
	}
	var named struct {
		Post map[string]json.RawMessage `json:"post"`
	}
	var parameters []json.RawMessage
	for _, part := range []struct {
		from func() json.RawMessage
		into any
	}{
		{func() json.RawMessage { return raw }, &o.top},
		{func() json.RawMessage { return o.top["paths"] }, &o.paths},
		{func() json.RawMessage { return o.top["components"] }, &components},
		{func() json.RawMessage { return o.paths[routeNamed] }, &named},
		{func() json.RawMessage { return named.Post["parameters"] }, &parameters},
	} {
		if err := json.Unmarshal(part.from(), part.into); err != nil {
			return nil, fmt.Errorf("take the OpenAPI document apart: %w", err)
		}
	}
	o.schemas, o.security, o.submit = components.Schemas, components.Security, named.Post
	// The first parameter is the name in the path.
	o.parameters = parameters[1:]
	return o, nil
}

// with writes the document with an operation for every task of the snapshot.
func (o *openAPI) with(s *snapshot) []byte {
	paths, schemas := maps.Clone(o.paths), maps.Clone(o.schemas)
	for i, name := range s.names {
		key := "task." + componentKey(name) + "."
		if _, taken := schemas[key+"input"]; taken {
			key += strconv.Itoa(i) + "."
		}
		versions := s.tasks[name]
		schemas[key+"input"] = union(key+"input", versions, func(v version) json.RawMessage { return v.entry.Input })
		schemas[key+"result"] = union(key+"result", versions, func(v version) json.RawMessage { return v.entry.Output })
		paths["/v1/tasks/"+url.PathEscape(name)] = o.operation(name, key, versions[0])
	}
	top := maps.Clone(o.top)
	top["paths"] = must(paths)
	top["components"] = must(map[string]any{"schemas": schemas, "securitySchemes": o.security})
	return must(top)
}

// operation describes the submission of one task.
func (o *openAPI) operation(name, key string, v version) json.RawMessage {
	type object = map[string]any
	ref := func(schema string) object { return object{"$ref": "#/components/schemas/" + schema} }
	summary, _, _ := strings.Cut(strings.TrimSpace(v.entry.Description), "\n")
	done := object{"allOf": []object{ref("Task"), {"properties": object{"result": object{"anyOf": []object{ref(key + "result"), {"type": "null"}}}}}}}
	if len(v.entry.Output) == 0 {
		done = ref("Task")
	}
	responses := map[string]json.RawMessage{}
	_ = json.Unmarshal(o.submit["responses"], &responses)
	responses["200"] = must(object{
		"description": "The task is done: the client preferred to wait.",
		"content":     object{"application/json": object{"schema": done}},
	})
	op := maps.Clone(o.submit)
	op["operationId"] = must("submit-" + name)
	op["tags"] = must([]string{tagCatalog})
	op["summary"] = must(cmp.Or(summary, "Submit "+name))
	op["description"] = must(describe(v))
	op["parameters"] = must(o.parameters)
	op["requestBody"] = must(object{"required": true, "content": object{"application/json": object{"schema": ref(key + "input")}}})
	op["responses"] = must(responses)
	return must(object{"post": op})
}

func describe(v version) string {
	e := v.entry
	text := fmt.Sprintf("Runs `%s` on the queue `%s`, with at most %d retries.", e.Name, e.Queue, e.MaxRetries)
	if e.TimeLimit > 0 {
		text += fmt.Sprintf(" An attempt may take %g seconds.", e.TimeLimit)
	}
	if e.Alive == 0 {
		text += " No worker of it is alive at the moment: the task waits in its queue."
	}
	if e.Description != "" {
		text = strings.TrimSpace(e.Description) + "\n\n" + text
	}
	return text
}

// union is the schema of all versions: the one that they share, or any of several.
func union(key string, versions []version, of func(version) json.RawMessage) json.RawMessage {
	var distinct []json.RawMessage
	for _, v := range versions {
		if !slices.ContainsFunc(distinct, func(other json.RawMessage) bool { return bytes.Equal(other, of(v)) }) {
			distinct = append(distinct, of(v))
		}
	}
	at := "#/components/schemas/" + key
	if len(distinct) == 1 {
		return rebase(distinct[0], at)
	}
	for i, one := range distinct {
		distinct[i] = rebase(one, at+"/anyOf/"+strconv.Itoa(i))
	}
	return must(map[string]any{"anyOf": distinct})
}

// rebase makes a schema part of a document: its references, which begin at its
// own root, are made to begin at the place where it will be. Everything else
// stays as it is, the order of the fields too.
func rebase(schema json.RawMessage, at string) json.RawMessage {
	var compact bytes.Buffer
	if len(schema) == 0 || json.Compact(&compact, schema) != nil {
		return json.RawMessage("{}")
	}
	out := withoutKeys(compact.Bytes(), "$schema", "$id")
	// In JSON text these bytes cannot be part of a string: the quotes of one
	// would be escaped.
	out = bytes.ReplaceAll(out, []byte(`"$ref":"#`), []byte(`"$ref":"`+at))
	return out
}

// withoutKeys drops keys of the outermost object and keeps the order of the
// others.
func withoutKeys(object []byte, drop ...string) []byte {
	dec := json.NewDecoder(bytes.NewReader(object))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return object
	}
	out := []byte{'{'}
	for dec.More() {
		key, err := dec.Token()
		var value json.RawMessage
		if err != nil || dec.Decode(&value) != nil {
			return object
		}
		if slices.Contains(drop, key.(string)) {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(out, must(key)...), ':'), value...)
	}
	return append(out, '}')
}

// componentKey makes a name that may be the key of a component.
func componentKey(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
			return r
		}
		return '_'
	}, name)
}

// must encodes what is known to be encodable: maps of strings and of JSON that
// was decoded before.
func must(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("write OpenAPI: %v", err))
	}
	return raw
}

// serveOpenAPI is GET /openapi.json. Before the catalog was loaded it has the
// fixed routes only.
func (a *API) serveOpenAPI(c echo.Context) error {
	body, tag := a.catalog.bare, a.catalog.bareTag
	// The tasks of the catalog are not for everybody who may see the routes.
	if s := a.catalog.current.Load(); s != nil && !access.From(c.Request().Context()).Restricted() {
		body, tag = s.openAPI, s.etag
	}
	h := c.Response().Header()
	h.Set("ETag", tag)
	h.Set("Cache-Control", "no-cache")
	if matchesTag(c.Request().Header.Values("If-None-Match"), tag) {
		return c.NoContent(http.StatusNotModified)
	}
	return c.Blob(http.StatusOK, "application/json", body)
}
