package worker

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// decodeTask runs a task's arguments through the schema of In.
func decodeTask[In any](t *testing.T, args, kwargs string) (In, error) {
	t.Helper()
	schema, err := newInputSchema(reflect.TypeFor[In]())
	require.NoError(t, err)
	var in In
	err = schema.decode(&messages.Task{Args: json.RawMessage(args), Kwargs: json.RawMessage(kwargs)}, &in)
	return in, err
}

func TestInputMapsPositionalArgumentsToFieldsInOrder(t *testing.T) {
	t.Parallel()
	type in struct {
		From  string  `json:"from"`
		Count int64   `json:"count" jsonschema:"minimum=1,default=7"`
		Rate  float64 `json:"rate" jsonschema:"default=0.5"`
		On    bool    `json:"on" jsonschema:"default=true"`
		Unit  string  `json:"unit" jsonschema:"default=a\"b"`
		Deep  *struct {
			N int8 `json:"n"`
		} `json:"deep,omitempty"`
	}
	tests := map[string]struct {
		args, kwargs string
		want         in
	}{
		"by position":         {`["a", 2, 1.5, false]`, ``, in{From: "a", Count: 2, Rate: 1.5, Unit: `a"b`}},
		"by name":             {``, `{"from": "a", "count": 2}`, in{From: "a", Count: 2, Rate: 0.5, On: true, Unit: `a"b`}},
		"both":                {`["a"]`, `{"on": false}`, in{From: "a", Count: 7, Rate: 0.5, Unit: `a"b`}},
		"a zero is no gap":    {`["", 1, 0]`, ``, in{Count: 1, On: true, Unit: `a"b`}},
		"2^53+1 survives":     {`["a", 9007199254740993]`, ``, in{From: "a", Count: 9007199254740993, Rate: 0.5, On: true, Unit: `a"b`}},
		"2^63-1 survives":     {`["a", 9223372036854775807]`, ``, in{From: "a", Count: 9223372036854775807, Rate: 0.5, On: true, Unit: `a"b`}},
		"an integer as float": {`["a", 5.0]`, ``, in{From: "a", Count: 5, Rate: 0.5, On: true, Unit: `a"b`}},
		"with an exponent":    {`["a", 5e2]`, ``, in{From: "a", Count: 500, Rate: 0.5, On: true, Unit: `a"b`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decodeTask[in](t, tt.args, tt.kwargs)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestInputFillsADefaultIntoAnEmptyObject(t *testing.T) {
	t.Parallel()
	type in struct {
		N int `json:"n" jsonschema:"default=3"`
		M int `json:"m" jsonschema:"default=4"`
	}
	for _, kwargs := range []string{``, `{}`, ` { } `} {
		got, err := decodeTask[*in](t, ``, kwargs)
		require.NoError(t, err)
		require.Equal(t, &in{N: 3, M: 4}, got)
	}
}

func TestInvalidInputNamesEveryFieldAtFault(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		args, kwargs string
		want         string
	}{
		"several": {
			``, `{"source": "ftp://x", "width": 5000, "quality": 0, "format": "gif", "keep": "yes", "tags": ["a", 1], "box": {"x": -1}, "note": 3, "b/c": 1, "at": "today"}`,
			"invalid input: /at: is not a valid date-time; /box/x: must be at least 0; /box/y: is required; /b~1c: is not a known field; " +
				"/format: value must be one of 'png', 'jpeg'; /keep: must be of type boolean, is string; /note: must be of type string, is number; " +
				"/quality: must be more than 0; /source: must match the pattern ^https?://; /tags/1: must be of type string, is number; /width: must be at most 4096",
		},
		"nothing given":   {``, ``, "invalid input: /note: is required; /source: is required"},
		"too many":        {`[1,2,3,4,5,6,7,8,9,10,11,12]`, ``, "invalid input: args: takes at most 11 values, got 12"},
		"given twice":     {`["http://a"]`, `{"source": "http://b"}`, "invalid input: kwargs.source: is given by position as well"},
		"twice by name":   {``, `{"note": null, "source": "http://a", "source": "http://b"}`, "invalid input: /source: is given twice"},
		"twice, deep":     {``, `{"raw": [{"a": 1, "a": 2}]}`, "invalid input: /raw/0/a: is given twice"},
		"wrong case":      {``, `{"note": null, "Source": "http://a"}`, "invalid input: /Source: is not a known field; /source: is required"},
		"huge exponent":   {``, `{"note": null, "source": "http://a", "width": 1e2000000000}`, "invalid input: /width: is a number out of range"},
		"tiny exponent":   {``, `{"raw": 1e-9999999}`, "invalid input: /raw: is a number out of range"},
		"does not fit":    {``, `{"note": null, "source": "http://a", "width": 1.5}`, "invalid input: /width: must be of type integer, is number"},
		"too long a text": {``, `{"note": null, "source": ""}`, "invalid input: /source: must have at least 1 characters, has 0; /source: must match the pattern ^https?://"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := decodeTask[resizeIn](t, tt.args, tt.kwargs)
			var invalid *InvalidInputError
			require.ErrorAs(t, err, &invalid)
			require.EqualError(t, err, tt.want)
			var field *messages.InvalidError
			require.ErrorAs(t, err, &field, "each complaint can be found")
		})
	}
}

func TestInvalidInputNamesAFieldThatOnlyGoRefuses(t *testing.T) {
	t.Parallel()
	type in struct {
		N    int8      `json:"n"`
		When time.Time `json:"when,omitzero"`
		Deep []struct {
			U uint8 `json:"u"`
		} `json:"deep,omitempty"`
	}
	_, err := decodeTask[in](t, `[300]`, ``)
	require.EqualError(t, err, "invalid input: /n: does not fit into int8")

	_, err = decodeTask[in](t, `[1]`, `{"deep": [{"u": -1}]}`)
	require.EqualError(t, err, "invalid input: /deep/u: does not fit into uint8")
}

func TestEveryKeywordHasAComplaint(t *testing.T) {
	t.Parallel()
	type in struct {
		A int      `json:"a,omitempty" jsonschema:"exclusiveMaximum=5"`
		B float64  `json:"b,omitempty" jsonschema:"multipleOf=0.5"`
		C string   `json:"c,omitempty" jsonschema:"maxLength=3"`
		D []string `json:"d,omitempty" jsonschema:"minItems=2,uniqueItems=true"`
	}
	_, err := decodeTask[in](t, ``, `{"a": 5, "b": 0.7, "c": "geheim", "d": ["x"]}`)
	require.EqualError(t, err, "invalid input: /a: must be less than 5; /b: must be a multiple of 0.5; "+
		"/c: must have at most 3 characters, has 6; /d: minItems: got 1, want 2")
}

func TestIntegersInPlainFormAreFoundAtAnyDepth(t *testing.T) {
	t.Parallel()
	type in struct {
		List []int `json:"list"`
		Deep struct {
			N int64 `json:"n"`
		} `json:"deep"`
		Raw json.RawMessage `json:"raw"`
	}
	got, err := decodeTask[in](t, ``, `{"list": [1.0, 2e1, 3], "deep": {"n": 9007199254740993.0}, "raw": 1.0}`)
	require.NoError(t, err)
	require.Equal(t, []int{1, 20, 3}, got.List)
	require.EqualValues(t, 9007199254740993, got.Deep.N)
	require.Equal(t, "1.0", string(got.Raw), "no integer, so as it was")
}

func TestInvalidInputTextIsBounded(t *testing.T) {
	t.Parallel()
	kwargs := map[string]int{}
	for i := range 1000 {
		kwargs[string(rune('a'+i%26))+time.Duration(i).String()] = i
	}
	raw, err := json.Marshal(kwargs)
	require.NoError(t, err)

	_, err = decodeTask[struct{}](t, ``, string(raw))

	require.ErrorContains(t, err, "and 950 more")
	require.Less(t, len(err.Error()), 5000)
}

func TestOneOfSeveralFormsIsOneComplaint(t *testing.T) {
	t.Parallel()
	type in struct {
		URL  string `json:"url,omitempty" jsonschema:"oneof_required=url"`
		Data string `json:"data,omitempty" jsonschema:"oneof_required=data"`
	}
	_, err := decodeTask[in](t, ``, `{}`)
	require.EqualError(t, err, "invalid input: must have one of several forms: url is required, or data is required")

	_, err = decodeTask[in](t, `["a", "b"]`, ``)
	require.EqualError(t, err, "invalid input: must have exactly one of several forms, has more than one")

	_, err = decodeTask[in](t, `["a"]`, ``)
	require.NoError(t, err)
}

func TestNullableFieldTakesNull(t *testing.T) {
	t.Parallel()
	got, err := decodeTask[resizeIn](t, ``, `{"source": "http://a", "note": null}`)
	require.NoError(t, err)
	require.Nil(t, got.Note)
}

// A value must not depend on who decodes it: what the handler gets is what was
// validated.
func TestRawFieldsAreUntouched(t *testing.T) {
	t.Parallel()
	raw := `{"n": 12345678901234567890.10, "z": [], "a": "<&>"}`
	got, err := decodeTask[resizeIn](t, ``, `{"source": "http://a", "note": null, "raw": `+raw+`}`)
	require.NoError(t, err)
	require.Equal(t, raw, string(got.Raw))
}

func FuzzInput(f *testing.F) {
	schema, err := newInputSchema(reflect.TypeFor[resizeIn]())
	require.NoError(f, err)
	f.Add(`[]`, `{}`)
	f.Add(`["http://a", 1, 0.5, "png"]`, `{"note": null, "box": {"x": 1e2, "y": 1.0}}`)
	f.Add(`[1e999999999]`, `{"box": {"x": 1, "x": 2}}`)
	f.Fuzz(func(t *testing.T, args, kwargs string) {
		var in resizeIn
		err := schema.decode(&messages.Task{Args: json.RawMessage(args), Kwargs: json.RawMessage(kwargs)}, &in)
		if err != nil {
			var invalid *InvalidInputError
			require.ErrorAs(t, err, &invalid)
			return
		}
		require.Regexp(t, `^https?://`, in.Source)
		require.True(t, in.Width >= 1 && in.Width <= 4096)
	})
}

func BenchmarkCall(b *testing.B) {
	w := New(Options{})
	Handle(w, "resize", func(context.Context, resizeIn) (resizeOut, error) { return resizeOut{}, nil })
	task := &messages.Task{Name: "resize", Kwargs: json.RawMessage(`{"source": "http://a", "note": null, "width": 17, "tags": ["a", "b"]}`)}
	b.ReportAllocs()
	for b.Loop() {
		_ = w.handle(b.Context(), task, nil)
	}
}
