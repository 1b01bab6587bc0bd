package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeySyntax(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 255)
	for header, want := range map[string]string{
		`"8e03978e-40d5-43e8-bc93-6894a57f9324"`: "8e03978e-40d5-43e8-bc93-6894a57f9324",
		`8e03978e-40d5-43e8-bc93-6894a57f9324`:   "8e03978e-40d5-43e8-bc93-6894a57f9324",
		`"a \"b\" \\ c, d;"`:                     `a "b" \ c, d;`,
		`abc+/=:_~`:                              `abc+/=:_~`,
		" \tx\t":                                 "x",
		long:                                     long,
		`"` + long + `"`:                         long,
	} {
		key, err := idempotencyKey(http.Header{"Idempotency-Key": {header}})
		require.NoError(t, err, header)
		require.Equal(t, want, key)
	}
	key, err := idempotencyKey(http.Header{})
	require.NoError(t, err)
	require.Empty(t, key)
}

func TestMalformedKeyIsRefused(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"":                                   "1 to 255",
		`""`:                                 "1 to 255",
		strings.Repeat("x", 256):             "1 to 255",
		`"` + strings.Repeat("x", 256):       "closing quote",
		`"`:                                  "closing quote",
		`"a`:                                 "closing quote",
		`"a"b"`:                              "closing quote",
		`"a";p=1`:                            "closing quote",
		`"a\"`:                               "closing quote",
		`"a\`:                                `followed by`,
		`"a\n"`:                              `followed by`,
		`"ä"`:                                "printable ASCII",
		"\"a\tb\"":                           "printable ASCII",
		"ä":                                  "visible ASCII",
		"a b":                                "visible ASCII",
		"a,b":                                "visible ASCII",
		`a"`:                                 "visible ASCII",
		`"` + strings.Repeat("x", 256) + `"`: "1 to 255",
	} {
		s := newServer(t)
		p := requireProblem(t, s.ask(t, post, sleepTask, `{"duration":1}`, "Idempotency-Key: "+header), http.StatusBadRequest, slugBadKey)
		require.Len(t, p.Errors, 1, header)
		require.Equal(t, "Idempotency-Key", p.Errors[0].Header)
		require.Contains(t, p.Errors[0].Detail, want, header)
		require.Zero(t, s.keys.reserved)
		require.Empty(t, s.publisher.sent)
	}
}
