package messages

import (
	"bytes"
	"compress/zlib"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestParseTime(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"2026-11-21T01:14:33.871606+00:00": "2026-11-21T01:14:33.871606Z",
		"2026-11-21T01:14:33.871606Z":      "2026-11-21T01:14:33.871606Z",
		"2026-11-21T01:14:33.871606":       "2026-11-21T01:14:33.871606Z",
		"2026-11-21T01:14:33":              "2026-11-21T01:14:33Z",
		"2026-11-21T01:14:33.":             "2026-11-21T01:14:33Z",
		"2026-11-21T01:14:33.5z":           "2026-11-21T01:14:33.5Z",
		"2026-11-21t01:14:33,25Z":          "2026-11-21T01:14:33.25Z",
		"2026-11-21 01:14:33.123456789":    "2026-11-21T01:14:33.123456Z",
		"2026-11-21T01:14":                 "2026-11-21T01:14:00Z",
		"2026-11-21T01:14+02":              "2026-11-20T23:14:00Z",
		"2026-11-21T01:14:33.871606-05:30": "2026-11-21T06:44:33.871606Z",
		"2026-11-21T01:14:33+0530":         "2026-11-20T19:44:33Z",
		"2026-11-21":                       "2026-11-21T00:00:00Z",
		"2028-02-29T00:00:00Z":             "2028-02-29T00:00:00Z",
		"9999-12-31T23:59:59.999999Z":      "9999-12-31T23:59:59.999999Z",
		"0001-01-01T00:00:00.000001Z":      "0001-01-01T00:00:00.000001Z",
	} {
		got, err := parseTime(s)
		require.NoError(t, err, s)
		require.Equal(t, want, got.Format(time.RFC3339Nano), s)
		again, err := parseTime(formatTime(got))
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
	for _, s := range []string{
		"", "x", "2026", "2026-11", "2026-1-1", "2026-13-01", "2026-00-01", "2026-02-29", "2026-11-00",
		"2026-11-21T", "2026-11-21T1", "2026-11-21T24:00", "2026-11-21T01:60", "2026-11-21T01:00:60", "2026-11-21T01:14:33.1234567891",
		"2026-11-21T01:14:33.12x", "2026-11-21T01:14:33ZZ", "2026-11-21T01:14:33+", "2026-11-21T01:14:33+1", "2026-11-21T01:14:33+24:00",
		"2026-11-21T01:14:33+01:60", "2026-11-21T01:14:33+01:0", "2026/11/21", "-2026-11-21", "+2026-11-21", "2026-11-21T01:14:33 UTC",
		"0000-01-01T00:00:00", "0001-01-01T00:00:00", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "２０26-11-21",
	} {
		_, err := parseTime(s)
		require.Error(t, err, s)
	}
}

func TestPythonRepr(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		`[]`: `()`, `[1]`: `(1,)`, `[1, 2]`: `(1, 2)`, `[[1], {"a": [2]}]`: `([1], {'a': [2]})`, ` [ 1 , 2 ] `: `(1, 2)`,
		`[true, false, null, -1.5e3]`: `(True, False, None, -1.5e3)`,
		`["a'b", "a\"b", "a'\"b"]`:    `("a'b", 'a"b', 'a\'"b')`,
		`["\n\t\r\\\u0000\u007f"]`:    `('\n\t\r\\\x00\x7f',)`,
		`["ünï €\u2028\ud83d\ude00"]`: `('ünï €\u2028😀',)`,
		`["\u00a0\udb40\udc01"]`:      `('\xa0\U000e0001',)`,
	} {
		require.Equal(t, want, pythonRepr([]byte(raw), true), raw)
	}
	require.Equal(t, `{'k': 2, 'n': None}`, pythonRepr([]byte(`{"k":2,"n":null}`), false))
	require.Equal(t, `{}`, pythonRepr([]byte(`{}`), false))
}

func TestPythonReprIsBounded(t *testing.T) {
	t.Parallel()
	for _, long := range []string{
		`["` + strings.Repeat("x", 1<<16) + `"]`,
		`["` + strings.Repeat("€", 1<<16) + `"]`,
		`["` + strings.Repeat(`\\`, 1<<16) + `"]`,
		`["` + strings.Repeat(`\u20ac`, 1<<16) + `"]`,
		`["a` + strings.Repeat(`\ud83d\ude00`, 1<<16) + `"]`,
		`[` + strings.Repeat("1,", 1<<16) + `1]`,
		strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		`[` + strings.Repeat("1", 1<<16) + `]`,
		`["` + strings.Repeat("\x7f", 6144) + `"]`,
	} {
		got := pythonRepr([]byte(long), true)
		require.LessOrEqual(t, len(got), maxRepr)
		require.Greater(t, len(got), maxRepr-4)
		require.True(t, strings.HasSuffix(got, "..."))
		require.True(t, utf8.ValidString(got))
	}
	exact := `["` + strings.Repeat("x", maxRepr-5) + `"]`
	require.Len(t, pythonRepr([]byte(exact), true), maxRepr)
}

func TestReprOfTheVectors(t *testing.T) {
	t.Parallel()
	require.Equal(t, `{'task': {'task': 'proj.xsum', 'args': [], 'kwargs': {}, 'options': {}, 'subtask_type': None, 'immutable': False}, 'it': [[1, 2], [3]]}`,
		pythonRepr([]byte(`{"task": {"task": "proj.xsum", "args": [], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false}, "it": [[1, 2], [3]]}`), false))
}

func TestWalksAgreeWithTheStandardLibrary(t *testing.T) {
	t.Parallel()
	array := []byte(" [ 1 ,\"a\\\\\", \"\\\\\\\"]\" ,[ ], {\"x\":[1,{}]} , null,true,-1e5 ]\n")
	var want []json.RawMessage
	require.NoError(t, json.Unmarshal(array, &want))
	got := slices.Collect(elements(array))
	require.Len(t, got, len(want))
	for i := range want {
		require.Equal(t, string(want[i]), string(got[i]))
	}

	object := []byte(` { "a" : 1 , "\"}" :[ {} ], "c":"}" , "" : {"d":null}}`)
	var wantObject map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(object, &wantObject))
	gotObject := map[string]json.RawMessage{}
	for name, value := range members(object) {
		gotObject[text(name)] = value
	}
	require.Equal(t, wantObject, gotObject)
}

func TestDepth(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]int{`1`: 0, `"[["`: 0, `[]`: 1, `[1,[2]]`: 2, `{"a":[{}],"b":[]}`: 3, `[[],[[]],[]]`: 3} {
		end, depth := valueEnd([]byte(raw), 0)
		require.Equal(t, want, depth, raw)
		require.Len(t, raw, end)
	}
}

func TestInflateUpToTheLimit(t *testing.T) {
	t.Parallel()
	var bomb bytes.Buffer
	w := zlib.NewWriter(&bomb)
	_, err := w.Write(make([]byte, 10_000))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	require.Less(t, bomb.Len(), 100)

	out, err := inflate(bomb.Bytes(), 10_000)
	require.NoError(t, err)
	require.Len(t, out, 10_000)
	_, err = inflate(bomb.Bytes(), 9_999)
	require.ErrorIs(t, err, ErrTooLarge)
}

func TestClipKeepsUTF8(t *testing.T) {
	t.Parallel()
	for n := range 10 {
		got := clip("aü€😀", n)
		require.LessOrEqual(t, len(got), n)
		require.True(t, utf8.ValidString(got))
		require.True(t, strings.HasPrefix("aü€😀", got))
	}
	require.Equal(t, "aü€😀", clip("aü€😀", 10))
	require.Equal(t, "a\uFFFD", clip("a\xff", 10))
}
