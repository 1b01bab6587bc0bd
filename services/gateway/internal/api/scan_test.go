package api

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzSoundJSON compares the one glance with the many.
func FuzzSoundJSON(f *testing.F) {
	for _, s := range []string{
		`{"task":"a","args":[1,-2.5,"\u00e9é\n"],"kwargs":{"a":{},"b":[]},"options":null}`, ` [ true , false ] `, `{"a":1,"a":2}`,
		`{"a":1,"\u0061":2}`, `01`, `-`, `1.`, `1e5`, `"\x"`, `"\u12"`, `nul`, `truex`, "\"\xff\"", "[1,]", `{"a"}`, `{,}`, "\x00", "1\x00", `[[]]]`, `"\ud800"`,
		strings.Repeat("[", 65) + strings.Repeat("]", 65), strings.Repeat("[", 64) + strings.Repeat("]", 64), strings.Repeat("1", 1001),
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if soundJSON([]byte(text)) {
			require.NoError(t, faultOf([]byte(text)))
		}
	})
}

func TestSoundJSONRecognizesWhatIsUsual(t *testing.T) {
	t.Parallel()
	for text, sound := range map[string]bool{
		`{"task":"sleep_task","kwargs":{"duration":1.5,"label":"é\n"},"options":{"queue":"q"}}`: true,
		` [{"a":1}, {"a":2}, -0, null, true, false, "", {}, []] `:                               true,
		strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth):                           true,
		strings.Repeat("[", maxDepth+1) + strings.Repeat("]", maxDepth+1):                       false,
		`{"a":{"a":1},"b":{"a":1}}`:                                                             true,
		`{"a":1,"b":2,"a":3}`:                                                                   false,
		`1e5`:                                                                                   false, // left to the other
		``:                                                                                      false,
	} {
		require.Equal(t, sound, soundJSON([]byte(text)), text)
	}
}

func TestMembersAndElementsAreThoseOfTheText(t *testing.T) {
	t.Parallel()
	var got []string
	for key, value := range members([]byte(` { "a" : [1, {"b":"]"}] , "c\"" :-1.5,"d":{},"e" : "x" } `)) {
		got = append(got, string(key), string(value))
	}
	require.Equal(t, []string{`"a"`, `[1, {"b":"]"}]`, `"c\""`, `-1.5`, `"d"`, `{}`, `"e"`, `"x"`}, got)
	got = nil
	for value := range elements([]byte(` [ 1 ,"," ,[ ], {"a":[1]},null ] `)) {
		got = append(got, string(value))
	}
	require.Equal(t, []string{`1`, `","`, `[ ]`, `{"a":[1]}`, `null`}, got)
	for range members([]byte(`{ }`)) {
		require.Fail(t, "there are none")
	}
	for range elements([]byte(`[ ]`)) {
		require.Fail(t, "there are none")
	}
}
