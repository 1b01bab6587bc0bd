package api

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// glanceSchemas are what inputs are fuzzed against.
func glanceSchemas() []string {
	return []string{
		sleepSchema,
		`{"type":"object","properties":{"n":{"type":"integer","minimum":-3,"exclusiveMaximum":2.5},"s":{"type":["string","null"],"minLength":2,"maxLength":3},
			"l":{"type":"array","minItems":1,"maxItems":3,"items":{"type":"number","exclusiveMinimum":0}},"b":{"type":"boolean"},"e":{"enum":["a","é"]},
			"p":{"pattern":"^a+$"},"f":{"format":"date"}},"required":["n","x"]}`,
		`{"properties":{"o":{"type":"object","properties":{"a":{"maximum":0.000001}},"required":["a"],"additionalProperties":false}},"additionalProperties":{"type":"string"}}`,
		`{"properties":{"a":{"anyOf":[{"type":"string"},{"type":"null"}]},"b":true,"c":false,"d":{"const":1},"e":{"enum":[1,"1"]},"g":{"multipleOf":0.1}}}`,
		`{"$schema":"http://json-schema.org/draft-04/schema#","properties":{"n":{"minimum":1,"exclusiveMinimum":true},"l":{"items":{"type":"string"}}}}`,
		`{"items":{"type":"integer"},"prefixItems":[{"type":"string"}],"minimum":1e300}`,
		`{"minProperties":1,"unevaluatedProperties":false}`, `{}`, `true`,
	}
}

// FuzzGlance checks that whatever is recognized at a glance is taken by the
// library as well.
func FuzzGlance(f *testing.F) {
	for _, s := range []string{
		`{"duration":1}`, `{"duration":1.5,"label":"a"}`, `{"duration":300.000001}`, `{"duration":0.9999999}`, `{"duration":"1"}`,
		`{"n":1,"x":null,"s":"ab","l":[1,2.5],"b":true,"e":"\u00e9","p":"aa","f":"2026-01-31"}`, `{"n":-3.0,"x":1}`, `{"n":2.5}`, `{"s":"äöü"}`,
		`{"o":{"a":-1}}`, `{"o":{"a":0.000001,"b":1}}`, `{"z":1}`, `{"l":["x"]}`, `[1,2]`, `["a",1]`, `-0`, `123456789012.123456`, `1234567890123`,
		` {"z":[]}`, "\t\"ab\" ", `{"nested":{"c~d":1,"a/b":2},"duration":2}`, `{"when":"2026-01-31T12:00:00Z","duration":2}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, input string) {
		if checkJSON([]byte(input)) != nil {
			return
		}
		for _, text := range glanceSchemas() {
			schema, err := compileSchema([]byte(text))
			require.NoError(t, err)
			if newGlance(schema).fits([]byte(input)) {
				require.Empty(t, inputErrors(schema, []byte(input)), "%s", text)
			}
		}
	})
}

func TestGlanceRecognizesWhatIsUsual(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		schema, input string
		fits          bool
	}{
		{sleepSchema, `{"duration":1}`, true},
		{sleepSchema, `{"duration":300, "label":"a", "serial":-12345678901234567890}`, true},
		{sleepSchema, `{"duration":1.5,"when":"2026-01-31T12:00:00Z"}`, true},
		{sleepSchema, `{"duration":0.5}`, false},
		{sleepSchema, `{"duration":300.5}`, false},
		{sleepSchema, `{"duration":1,"label":"c"}`, false},
		{sleepSchema, `{"duration":1,"more":1}`, false},
		{sleepSchema, `{"label":"a"}`, false},
		{sleepSchema, `{"duration":1,"when":"today"}`, false},
		{sleepSchema, `{"duration":1,"nested":{"c~d":1}}`, false}, // left to the library
		{`{"properties":{"l":{"type":"array","items":{"type":"string"},"minItems":1}}}`, `{"l":["a","b"],"any":1}`, true},
		{`{"properties":{"l":{"type":"array","items":{"type":"string"},"minItems":1}}}`, `{"l":[]}`, false},
		{`{"type":"object","additionalProperties":true}`, `{"a":1}`, true},
		{`{"exclusiveMinimum":0}`, `0.000001`, true},
		{`{"exclusiveMinimum":0}`, `0`, false},
		{sleepSchema, "\n {\"duration\":1}\n", true},
		{`{"properties":{"a":{"type":"string"}}}`, ` {"a":1}`, false},
		{`{"maxLength":2}`, `"ab" `, true},
	} {
		schema, err := compileSchema([]byte(c.schema))
		require.NoError(t, err)
		require.Equal(t, c.fits, newGlance(schema).fits([]byte(c.input)), "%s of %s", c.input, c.schema)
	}
}
