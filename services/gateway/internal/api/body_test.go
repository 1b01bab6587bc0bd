package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestBadBodies(t *testing.T) {
	t.Parallel()
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}` }
	many := func(last string) string {
		var b strings.Builder
		b.WriteByte('{')
		for i := range 40 {
			b.WriteString(`"k` + strconv.Itoa(i) + `":1,`)
		}
		return b.String() + last + `:1}`
	}
	for _, c := range []struct {
		name, body string
		slug       slug
		detail     string
	}{
		{"white space", " \n\t", slugEmptyBody, "{}"},
		{"word", `hello`, slugMalformed, "line 1, column 1 (byte 0)"},
		{"cut off", "{\n\"a\": 1,\n", slugMalformed, "unexpected end of JSON input"},
		{"second line", "{\n \"a\": x}", slugMalformed, "line 2, column 7 (byte 8)"},
		{"trailing data", `{} {}`, slugMalformed, "after top-level value at line 1, column 4"},
		{"NaN", `{"a":NaN}`, slugMalformed, "column 6"},
		{"byte order mark", "\ufeff{}", slugMalformed, "byte 0"},
		{"not UTF-8", "{\"a\":\"\xff\"}", slugMalformed, "not UTF-8 at line 1, column 7"},
		{"too deep", deep(65), slugTooDeep, "64"},
		{"depth bomb", strings.Repeat("[", 1<<19), slugTooDeep, "byte 64"},
		{"object bomb", strings.Repeat(`{"a":`, 1<<16), slugTooDeep, "64"},
		{"key twice", `{"a":1,"b":{"a":1},"a":2}`, slugDuplicateKey, `the key "a" is given twice in one object, again at line 1, column 20`},
		{"key twice below", `[{"x":[{"a":1,"a":2}]}]`, slugDuplicateKey, `"a"`},
		{"key twice by escape", `{"a":1,"\u0061":2}`, slugDuplicateKey, `\u0061`},
		{"key twice among many", many(`"k3"`), slugDuplicateKey, `"k3"`},
		{"long key twice", `{"` + strings.Repeat("é", 50) + `":1,"` + strings.Repeat("é", 50) + `":1}`, slugDuplicateKey, "…"},
		{"many digits", `{"a":` + strings.Repeat("1", 1001) + `}`, slugNumberRange, "1000 digits"},
		{"big exponent", `{"a":1e999999}`, slugNumberRange, "±308"},
		{"small exponent", `{"a":-1.5E-309}`, slugNumberRange, "±308"},
		{"absurd exponent", `{"a":1e99999999999999999999}`, slugNumberRange, "±308"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			for _, target := range []string{"/v1/tasks/send_mail", "/v1/tasks"} {
				p := requireProblem(t, s.ask(t, post, target, c.body), http.StatusBadRequest, c.slug)
				require.Contains(t, p.Detail, c.detail)
			}
			require.Empty(t, s.publisher.sent)
		})
	}
}

func TestGoodBodiesPass(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, body := range []string{
		`{}`, " {\"a\": [1, -2.5e10, 1E+308, true, null, \"\\\"{[\\\\\"]}\n", `{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}],"":0}`,
		`{"a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`, `{"a":` + strings.Repeat("9", 1000) + `}`, `{"a:":1,"a":"b\":"}`,
		`{"é":1,"e\u0301":2}`,
	} {
		require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks/send_mail", body).Code, body)
	}
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for value, ok := range map[string]bool{
		"application/json": true, "Application/JSON; Charset=UTF-8": true, "application/json; charset=latin-1": false,
		"text/plain": false, "application/x-www-form-urlencoded": false, "application/json;;": false, "": false, "application/jsonp": false,
	} {
		w := s.ask(t, post, "/v1/tasks/send_mail", `{}`, "Content-Type: "+value)
		if ok {
			require.Equal(t, http.StatusAccepted, w.Code, value)
			continue
		}
		requireProblem(t, w, http.StatusUnsupportedMediaType, slugMediaType)
	}
	requireProblem(t, s.ask(t, post, "/v1/tasks/send_mail", `{}`, "Content-Encoding: gzip"), http.StatusUnsupportedMediaType, slugMediaType)
	require.Equal(t, http.StatusAccepted, s.ask(t, post, "/v1/tasks/send_mail", `{}`, "Content-Encoding: identity").Code)
}

func TestBodyLimitIsExactWithAndWithoutLength(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(o *Options) { o.MaxBody = 100 })
	fill := func(n int) string { return `{"a":"` + strings.Repeat("x", n-8) + `"}` }
	send := func(body string, length int64) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), post, "/v1/tasks/send_mail", strings.NewReader(body))
		r.Host, r.ContentLength = "localhost", length
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w
	}
	for _, length := range []int64{100, -1} {
		require.Equal(t, http.StatusAccepted, send(fill(100), length).Code)
	}
	for _, length := range []int64{101, -1} {
		w := send(fill(101), length)
		require.Equal(t, "close", w.Header().Get("Connection"))
		p := requireProblem(t, w, http.StatusRequestEntityTooLarge, slugTooLarge)
		require.Contains(t, p.Detail, "at most 100 bytes")
	}
}

// brokenBody fails in the middle.
type brokenBody struct{ err error }

func (b brokenBody) Read([]byte) (int, error) { return 0, b.err }

func TestBodyThatDoesNotArrive(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, c := range []struct {
		err    error
		status int
		slug   slug
	}{
		{os.ErrDeadlineExceeded, http.StatusRequestTimeout, slugSlowBody},
		{io.ErrUnexpectedEOF, http.StatusBadRequest, slugUnreadable},
		{errors.New("reset"), http.StatusBadRequest, slugUnreadable},
	} {
		r := httptest.NewRequestWithContext(t.Context(), post, "/v1/tasks/send_mail", brokenBody{c.err})
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		requireProblem(t, w, c.status, c.slug)
	}
}

func FuzzCheckJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1,"a":2}`, `[1e5,"\"",{"\u0061":null}]`, strings.Repeat("[", 70), `{"a":"\\"}`, "\"\xff\"", `"`, `{"a":1e400}`, `-`, `{"a":"b":}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := checkJSON(data)
		var p *problem
		if err != nil {
			require.ErrorAs(t, err, &p)
			require.Equal(t, http.StatusBadRequest, p.Status)
			return
		}
		require.True(t, json.Valid(data))
		require.True(t, utf8.Valid(data))
		d := json.NewDecoder(strings.NewReader(string(data)))
		d.UseNumber()
		requireUnambiguous(t, d, 0)
	})
}

// requireUnambiguous reads one value with the reader of the standard library.
func requireUnambiguous(t *testing.T, d *json.Decoder, depth int) {
	t.Helper()
	token, err := d.Token()
	require.NoError(t, err)
	open, nested := token.(json.Delim)
	if !nested {
		return
	}
	require.LessOrEqual(t, depth+1, maxDepth)
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			key, err := d.Token()
			require.NoError(t, err)
			name, _ := key.(string)
			require.False(t, seen[name], name)
			seen[name] = true
		}
		requireUnambiguous(t, d, depth+1)
	}
	_, err = d.Token()
	require.NoError(t, err)
}

func BenchmarkCheckJSON(b *testing.B) {
	data := []byte(`{"duration": 5, "label": "a", "nested": {"a": [1, 2, 3], "b": "some text of usual length"}}`)
	b.ReportAllocs()
	for b.Loop() {
		if err := checkJSON(data); err != nil {
			b.Fatal(err)
		}
	}
}
