package api

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

func TestBatchGoesOnBehindAMalformedLine(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	lines := batchOf(t, s, "\n"+sleepItem("a")+"\n{\"task\": x}\n\n  \n}\n\xff\n"+sleepItem("b")+"\n{", asLines)
	require.Equal(t, []int{202, 400, 400, 400, 202, 400}, statuses(lines))
	require.Contains(t, lines[1].problem(t).Detail, "line 1, column 10 (byte 9)")
	require.Equal(t, "b", lines[4].TaskID)
}

func TestBatchArrayEndsWhereItCannotBeRead(t *testing.T) {
	t.Parallel()
	good := sleepItem("a")
	for name, c := range map[string]struct{ body, detail string }{
		"malformed item":    {"[" + good + ",\n {\"task\": x}," + good + "]", "line 1, column 10 (byte 9) of the item that begins at line 2, column 2 (byte 75)"},
		"unclosed item":     {"[" + good + `,{"task":"x"`, "unexpected end of the array at line 1, column 85 (byte 84)"},
		"unclosed string":   {"[" + good + ",{\"task\":\"x\n\"}]", "in string literal at line 1, column 84 (byte 83)"},
		"comma at the end":  {"[" + good + ",]", "invalid character ']' looking for the beginning of an item at line 1, column 74 (byte 73)"},
		"two commas":        {"[" + good + ",,]", "invalid character ','"},
		"data behind":       {"[" + good + "]\n x", "invalid character 'x' after the array at line 2, column 2"},
		"wrong bracket":     {"[" + good + ",{]}]", "of the item that begins at"},
		"two items as one":  {"[" + good + ",{} {}]", "of the item that begins at"},
		"array behind":      {"[" + good + "][]", "after the array"},
		"not UTF-8":         {"[" + good + ",\"\xff\"]", "not UTF-8"},
		"no item before it": {"[" + good + ",x", "unexpected end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lines := batchOf(t, newServer(t), c.body, asArray)
			require.Equal(t, []int{202, 400}, statuses(lines))
			p := lines[1].problem(t)
			require.Equal(t, problemPrefix+string(slugMalformed), p.Type)
			require.Contains(t, p.Detail, c.detail)
		})
	}
}

func TestBatchSkipsAHugeLineWithoutKeepingIt(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	huge := io.LimitReader(endless('x'), 8<<20)
	body := io.MultiReader(strings.NewReader(sleepItem("a")+"\n"), huge, strings.NewReader("\n"+sleepItem("b")))
	r := httptest.NewRequestWithContext(t.Context(), post, routeBatch, body)
	r.Host = "localhost"
	r.Header.Set("Content-Type", ndjsonType)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	require.Equal(t, 3, bytes.Count(w.Body.Bytes(), []byte{'\n'}))
	require.Contains(t, w.Body.String(), `{"index":1,"status":413,`)
	require.Contains(t, w.Body.String(), `{"index":2,"status":202,"task_id":"b"`)
}

// endless is a reader of one byte.
type endless byte

func (b endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(b)
	}
	return len(p), nil
}

func TestSplittersKeepNothingOfWhatIsTooLong(t *testing.T) {
	t.Parallel()
	const limit = 100 << 10
	lines := newLineSplitter(io.MultiReader(io.LimitReader(endless('x'), 8<<20), strings.NewReader("\n{}")), limit)
	p, more := lines.next()
	require.True(t, more)
	require.ErrorContains(t, p.err, string(slugTooLarge))
	require.LessOrEqual(t, cap(lines.long), 2*limit)
	p, _ = lines.next()
	require.Equal(t, "{}", string(p.raw))

	array := newArraySplitter(io.MultiReader(strings.NewReader("[\""), io.LimitReader(endless('x'), 8<<20), strings.NewReader("\",{}]")), limit)
	require.NoError(t, array.begin())
	p, more = array.next()
	require.True(t, more)
	require.ErrorContains(t, p.err, string(slugTooLarge))
	require.LessOrEqual(t, cap(array.item), 2*limit)
	p, _ = array.next()
	require.Equal(t, "{}", string(p.raw))
	_, more = array.next()
	require.False(t, more)
}

func FuzzSplitters(f *testing.F) {
	f.Add(`[{"task":"a"}, {"b":[1,2,"]"]}]`)
	f.Add("{\"a\":1}\n\n{\"b\":\"\\\"\"}\r\n")
	f.Add("[1,2,,]")
	f.Fuzz(func(t *testing.T, body string) {
		const limit = 64
		var whole []json.RawMessage
		valid := json.Unmarshal([]byte(body), &whole) == nil && whole != nil
		items, ok := split(newArraySplitter(iotest.OneByteReader(strings.NewReader(body)), limit))
		if !valid {
			require.False(t, ok, "%q", items)
		} else if ok {
			require.Len(t, items, len(whole))
			for i, raw := range whole {
				require.Equal(t, string(raw), items[i])
			}
		}
		items, _ = split(newLineSplitter(strings.NewReader(body), limit))
		for _, item := range items {
			require.LessOrEqual(t, len(item), limit)
			require.True(t, json.Valid([]byte(item)))
		}
	})
}

// split returns the good items, and whether there were no others.
func split(s splitter) (items []string, ok bool) {
	if s.begin() != nil {
		return nil, false
	}
	ok = true
	for p, more := s.next(); more; p, more = s.next() {
		if ok = ok && p.err == nil; p.err == nil {
			items = append(items, string(p.raw))
		}
		if p.last {
			break
		}
	}
	return items, ok
}

func TestBatchDoesNotSubmitHalfALine(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	body := io.MultiReader(strings.NewReader(sleepItem("a")+"\n"+sleepItem("b")), iotest.ErrReader(io.ErrUnexpectedEOF))
	r := httptest.NewRequestWithContext(t.Context(), post, routeBatch, body)
	r.Host = "localhost"
	r.Header.Set("Content-Type", ndjsonType)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	require.Contains(t, w.Body.String(), `{"index":1,"status":400,"problem":{"type":"`+problemPrefix+string(slugUnreadable))
	require.Equal(t, "a", s.publisher.last(t).task.ID)
}
