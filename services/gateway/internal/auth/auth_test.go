package auth

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/services/gateway/internal/api"
)

// newGate is a gate with one key.
func newGate(t *testing.T, change ...func(*Options)) (g *Gate, key access.Key, token string) {
	t.Helper()
	_, keys, key, token := newRing(t)
	o := Options{Keys: keys, Sessions: newStore()}
	for _, c := range change {
		c(&o)
	}
	return New(o), key, token
}

// newRing is a keyring with one key, of the scope admin where none is given.
func newRing(t *testing.T, scopes ...access.Scope) (file access.File, keys *access.Keyring, key access.Key, token string) {
	t.Helper()
	if len(scopes) == 0 {
		scopes = []access.Scope{access.Admin}
	}
	key, token, err := access.New(access.Key{Name: "ops", Scopes: scopes})
	require.NoError(t, err)
	file = access.File{Path: filepath.Join(t.TempDir(), "keys.json")}
	require.NoError(t, file.Save(t.Context(), key))
	keys = access.NewKeyring(nil, zap.NewNop(), file)
	require.NoError(t, keys.Refresh(t.Context()))
	return file, keys, key, token
}

func read(t *testing.T, res *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return string(body)
}

// request is a GET from an address.
func request(t *testing.T, from, authorization string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/v1/tasks", http.NoBody)
	r.RemoteAddr = from
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	return r
}

func TestABearerIsLetIn(t *testing.T) {
	t.Parallel()
	g, key, token := newGate(t)
	for _, good := range []string{"Bearer " + token, "bearer " + token, "BEARER  " + token + " "} {
		grant, err := g.Identify(request(t, "192.0.2.1:1", good))
		require.NoError(t, err, good)
		require.Equal(t, key.ID, grant.KeyID)
	}
	for _, none := range []string{"", token, "Basic " + token, "Bearer" + token} {
		_, err := g.Identify(request(t, "192.0.2.1:1", none))
		require.ErrorIs(t, err, api.ErrNoCredentials, none)
	}
	_, err := g.Identify(request(t, "192.0.2.1:1", "Bearer "+token+"x"))
	require.ErrorIs(t, err, access.ErrUnknown)
}

func TestWhoGuessesIsLockedOutAndNobodyElse(t *testing.T) {
	t.Parallel()
	g, _, token := newGate(t)
	const guesser = "192.0.2.1:1"
	for range tries {
		_, err := g.Identify(request(t, guesser, "Bearer guess"))
		require.ErrorIs(t, err, access.ErrUnknown)
	}
	var locked *api.LockedError
	_, err := g.Identify(request(t, "192.0.2.1:2", "Bearer guess"))
	require.ErrorAs(t, err, &locked, "another port is no other place")
	require.Positive(t, locked.RetryAfter)
	_, err = g.Identify(request(t, "192.0.2.2:1", "Bearer guess"))
	require.ErrorIs(t, err, access.ErrUnknown, "another address is")
	_, err = g.Identify(request(t, guesser, "Bearer "+token))
	require.NoError(t, err, "a whole key is no guess, and whoever shares an address with a guesser goes on")
}

func TestTheWaitDoublesAndIsForgotten(t *testing.T) {
	t.Parallel()
	var l lockout
	now := time.Now()
	for range tries {
		require.Zero(t, l.failed("a", now))
	}
	for want := firstWait; want < longestWait; want *= 2 {
		require.Equal(t, want, l.failed("a", now))
		require.Equal(t, want, l.failed("a", now), "a try in the wait is none, and makes it no longer")
		require.Equal(t, want, l.locked("a", now))
		now = now.Add(want)
		require.Zero(t, l.locked("a", now))
	}
	require.Equal(t, longestWait, l.failed("a", now))
	now = now.Add(longestWait)
	require.Equal(t, longestWait, l.failed("a", now))
	now = now.Add(forgetAfter + time.Minute)
	require.Zero(t, l.failed("b", now))
	require.Zero(t, l.failed("a", now))
	l.forget("a")
	require.Len(t, l.counts, 1)
}

func TestTheMemoryOfGuessesIsBounded(t *testing.T) {
	t.Parallel()
	var l lockout
	now := time.Now()
	for i := range mostOrigins + 100 {
		l.failed(fmt.Sprint(i), now)
	}
	require.LessOrEqual(t, len(l.counts), mostOrigins+1)
	require.Positive(t, l.failed("one more", now), "those from elsewhere share an account")
}

func TestWhereARequestComesFrom(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"192.0.2.1:1234":          "192.0.2.1",
		"[::ffff:192.0.2.1]:1":    "::ffff:192.0.2.1",
		"[2001:db8:1:2:3:4:5:6]:": "2001:db8:1:2::",
		"[2001:db8:1:2::1]:80":    "2001:db8:1:2::",
		"@":                       "@",
	} {
		r := request(t, address, "")
		r.Header.Set("X-Forwarded-For", "198.51.100.1")
		require.Equal(t, want, origin(r), "what a client says about itself is not believed")
	}
}
