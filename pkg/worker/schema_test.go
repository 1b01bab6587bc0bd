package worker

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/invopop/jsonschema"
	"github.com/stretchr/testify/require"
)

type resizeIn struct {
	Source  string            `json:"source" jsonschema:"description=Where the image is\\, as a URL,minLength=1,maxLength=200,pattern=^https?://"`
	Width   int               `json:"width" jsonschema:"minimum=1,maximum=4096,default=256"`
	Quality float64           `json:"quality,omitempty" jsonschema:"exclusiveMinimum=0,maximum=1"`
	Format  string            `json:"format" jsonschema:"enum=png,enum=jpeg,default=png"`
	Keep    bool              `json:"keep" jsonschema:"default=true"`
	Tags    []string          `json:"tags,omitempty" jsonschema:"maxItems=3"`
	Labels  map[string]string `json:"labels,omitempty"`
	Box     *box              `json:"box,omitempty"`
	Note    *string           `json:"note" jsonschema:"nullable"`
	Raw     json.RawMessage   `json:"raw,omitempty"`
	At      time.Time         `json:"at,omitzero"`
	hidden  int
	Skipped int `json:"-"`
}

type box struct {
	X int `json:"x" jsonschema:"minimum=0"`
	Y int `json:"y" jsonschema:"minimum=0"`
}

const resizeSchema = `{
  "type": "object",
  "additionalProperties": false,
  "required": ["source", "note"],
  "properties": {
    "source": {"type": "string", "description": "Where the image is, as a URL", "minLength": 1, "maxLength": 200, "pattern": "^https?://"},
    "width": {"type": "integer", "minimum": 1, "maximum": 4096, "default": 256},
    "quality": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "format": {"type": "string", "enum": ["png", "jpeg"], "default": "png"},
    "keep": {"type": "boolean", "default": true},
    "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "box": {
      "type": "object", "additionalProperties": false, "required": ["x", "y"],
      "properties": {"x": {"type": "integer", "minimum": 0}, "y": {"type": "integer", "minimum": 0}}
    },
    "note": {"oneOf": [{"type": "string"}, {"type": "null"}]},
    "raw": true,
    "at": {"type": "string", "format": "date-time"}
  }
}`

type resizeOut struct {
	URL   string `json:"url" jsonschema:"description=Where the result is"`
	Bytes int    `json:"bytes"`
}

func TestHandleDerivesTheSchemasFromTheTypes(t *testing.T) {
	t.Parallel()
	_ = resizeIn{}.hidden
	w := New(Options{})
	Handle(w, "resize_image", func(context.Context, resizeIn) (resizeOut, error) { return resizeOut{}, nil },
		WithQueue("images"), WithDescription("Resizes an image"), WithMaxRetries(5),
		WithTimeLimit(time.Minute), WithSoftTimeLimit(1500*time.Millisecond))
	Handle(w, "ping", func(context.Context, *struct{}) (any, error) { return nil, nil })

	entries := w.Catalog()

	require.Len(t, entries, 2)
	ping, resize := entries[0], entries[1]
	require.Equal(t, "resize_image", resize.Name)
	require.Equal(t, "images", resize.Queue)
	require.Equal(t, "Resizes an image", resize.Description)
	require.Equal(t, 5, resize.MaxRetries)
	require.InDelta(t, 60, resize.TimeLimit, 0)
	require.InDelta(t, 1.5, resize.SoftTimeLimit, 0)
	require.WithinDuration(t, time.Now(), resize.AnnouncedAt, time.Minute)
	require.JSONEq(t, resizeSchema, string(resize.Input))
	require.JSONEq(t, `{"type": "object", "additionalProperties": false, "required": ["url", "bytes"], "properties": {
		"url": {"type": "string", "description": "Where the result is"}, "bytes": {"type": "integer"}}}`, string(resize.Output))
	require.Equal(t, []string{"source", "width", "quality", "format", "keep", "tags", "labels", "box", "note", "raw", "at"}, resize.Params)
	require.JSONEq(t, `{"type": "object", "additionalProperties": false, "properties": {}}`, string(ping.Input))
	require.Equal(t, []string{}, ping.Params, "null would not be a list")
	require.Empty(t, ping.Output)
	require.Equal(t, []string{"default", "images"}, w.Queues())
	require.Equal(t, []string{"ping", "resize_image"}, w.Tasks())
}

func TestSchemaKeepsTheOrderOfTheFields(t *testing.T) {
	t.Parallel()
	type in struct {
		Zebra int `json:"zebra"`
		Apple int `json:"apple"`
		Mango int `json:"mango"`
	}
	w := New(Options{})
	Handle(w, "ordered", func(context.Context, in) (any, error) { return nil, nil })

	schema := string(w.Catalog()[0].Input)

	require.Less(t, strings.Index(schema, `"zebra":`), strings.Index(schema, `"apple":`))
	require.Less(t, strings.Index(schema, `"apple":`), strings.Index(schema, `"mango":`))
}

// Options here and the one in the field have one name: a reflector that goes
// by names takes one for the other.
type nestedNames struct {
	Same struct {
		In nestedNames2 `json:"in"`
	} `json:"same"`
}

type nestedNames2 struct {
	ID   netip.Addr     `json:"id"`
	Num  json.Number    `json:"num"`
	Any  map[string]any `json:"any"`
	Self describedType  `json:"self"`
}

type describedType struct{ text string }

func (d *describedType) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &d.text) }

func TestSchemaOfTypesThatEncodeThemselvesIsNotThatOfTheirFields(t *testing.T) {
	t.Parallel()
	w := New(Options{})
	Handle(w, "t", func(context.Context, nestedNames) (any, error) { return nil, nil })

	require.JSONEq(t, `{"type":"object","additionalProperties":false,"required":["same"],"properties":{"same":{
		"type":"object","additionalProperties":false,"required":["in"],"properties":{"in":{
			"type":"object","additionalProperties":false,"required":["id","num","any","self"],"properties":{
				"id":{"type":"string"},"num":{"type":"number"},"any":{"type":"object"},"self":true}}}}}}`,
		string(w.Catalog()[0].Input))
}

type recursive struct {
	Children []recursive `json:"children"`
}

func TestHandleOmitsTheSchemaOfARecursiveResult(t *testing.T) {
	t.Parallel()
	w := New(Options{})
	Handle(w, "tree", func(context.Context, struct{}) (recursive, error) { return recursive{}, nil })

	require.Empty(t, w.Catalog()[0].Output)
}

func TestHandlePanicsOnMistakesInTheProgram(t *testing.T) {
	t.Parallel()
	type badNumber struct {
		N int `json:"n" jsonschema:"minimum=one"`
	}
	type badDefault struct {
		N int `json:"n" jsonschema:"minimum=5,default=3"`
	}
	type comma struct {
		N int `json:"n" jsonschema:"description=Seconds, at most 3"`
	}
	type typo struct {
		Deep struct {
			N []int `json:"n" jsonschema:"minItem=3"`
		} `json:"deep"`
	}
	type textMinimum struct {
		S string `json:"s" jsonschema:"minimum=3"`
	}
	type badBool struct {
		B bool `json:"b" jsonschema:"default=yes"`
	}
	type pattern struct {
		S string `json:"s" jsonschema:"pattern=["`
	}
	type channel struct {
		C chan int `json:"c"`
	}
	type badCount struct {
		S string `json:"s" jsonschema:"maxLength=many"`
	}
	type mapDefault struct {
		M map[string]int `json:"m" jsonschema:"default=1"`
	}
	type listDefault struct {
		L []int `json:"l" jsonschema:"default=1"`
	}
	tests := map[string]struct {
		register func(w *Worker)
		says     string
	}{
		"taken name":        {func(w *Worker) { ok[struct{}](w, "taken"); ok[struct{}](w, "taken") }, "registered already"},
		"empty name":        {func(w *Worker) { ok[struct{}](w, "") }, "a name is made of"},
		"name with a slash": {func(w *Worker) { ok[struct{}](w, "a/b") }, "a name is made of"},
		"name of dots":      {func(w *Worker) { ok[struct{}](w, "..") }, "a name is made of"},
		"long name":         {func(w *Worker) { ok[struct{}](w, strings.Repeat("a", 201)) }, "more than 200 bytes"},
		"after the start":   {func(w *Worker) { w.seal(); ok[struct{}](w, "late") }, "before Run"},
		"no function":       {func(w *Worker) { Handle[struct{}, any](w, "t", nil) }, "function is nil"},
		"number as input":   {func(w *Worker) { ok[int](w, "t") }, "int is not a struct"},
		"time as input":     {func(w *Worker) { ok[time.Time](w, "t") }, "time.Time is not a struct"},
		"map as input":      {func(w *Worker) { ok[map[string]any](w, "t") }, "is not a struct"},
		"recursive input":   {func(w *Worker) { ok[recursive](w, "t") }, "contains itself"},
		"channel":           {func(w *Worker) { ok[channel](w, "t") }, "no JSON Schema"},
		"bad number":        {func(w *Worker) { ok[badNumber](w, "t") }, `field N: jsonschema tag: minimum: "one" is not a number`},
		"default too small": {func(w *Worker) { ok[badDefault](w, "t") }, "default"},
		"unescaped comma":   {func(w *Worker) { ok[comma](w, "t") }, `unknown keyword " at most 3"`},
		"unknown keyword":   {func(w *Worker) { ok[typo](w, "t") }, `field Deep: field N: jsonschema tag: unknown keyword "minItem=3"`},
		"minimum of a text": {func(w *Worker) { ok[textMinimum](w, "t") }, "does not apply to string"},
		"bad bool":          {func(w *Worker) { ok[badBool](w, "t") }, "neither true nor false"},
		"bad count":         {func(w *Worker) { ok[badCount](w, "t") }, `"many" is not a count`},
		"default of a map":  {func(w *Worker) { ok[mapDefault](w, "t") }, "default: does not apply to map[string]int"},
		"default of a list": {func(w *Worker) { ok[listDefault](w, "t") }, "must be of type integer, is string"},
		"no properties":     {func(w *Worker) { ok[anything](w, "t") }, "does not describe itself as an object"},
		"result no JSON has": {func(w *Worker) {
			Handle(w, "t", func(context.Context, struct{}) (channel, error) { return channel{}, nil })
		}, "result: "},
		"bad pattern":        {func(w *Worker) { ok[pattern](w, "t") }, "compile schema"},
		"bad queue":          {func(w *Worker) { ok[struct{}](w, "t", WithQueue("a.dead")) }, "queue"},
		"negative retries":   {func(w *Worker) { ok[struct{}](w, "t", WithMaxRetries(-1)) }, "must not be negative"},
		"soft limit too big": {func(w *Worker) { ok[struct{}](w, "t", WithTimeLimit(1), WithSoftTimeLimit(1)) }, "soft time limit must be below"},
		"zero limit":         {func(w *Worker) { ok[struct{}](w, "t", WithTimeLimit(0)) }, "must be positive"},
		"index of nothing":   {func(w *Worker) { ok[struct{}](w, "t", WithIndex("user_id")) }, `the input has no field "user_id"`},
		"index twice": {func(w *Worker) {
			ok[struct {
				ID int `json:"id"`
			}](w, "t", WithIndex("id", "id"))
		}, `field "id" is indexed twice`},
		"index of many":   {func(w *Worker) { ok[struct{}](w, "t", WithIndex("1", "2", "3", "4", "5", "6", "7", "8", "9")) }, "at most 8 fields"},
		"zero soft limit": {func(w *Worker) { ok[struct{}](w, "t", WithSoftTimeLimit(0)) }, "must be positive"},
		"bad backoff":     {func(w *Worker) { ok[struct{}](w, "t", WithBackoff(Backoff{Factor: 0.5})) }, "Factor"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				text, isText := recover().(string)
				require.True(t, isText, "panics with a sentence")
				require.Contains(t, text, "worker: register task")
				require.Contains(t, text, tt.says)
			}()
			tt.register(New(Options{}))
		})
	}
}

// anything describes itself by a schema that says nothing.
type anything struct{}

func (anything) JSONSchema() *jsonschema.Schema { return &jsonschema.Schema{} }

// ok registers a task that does nothing.
func ok[In any](w *Worker, name string, opts ...HandleOption) {
	Handle(w, name, func(context.Context, In) (any, error) { return nil, nil }, opts...)
}
