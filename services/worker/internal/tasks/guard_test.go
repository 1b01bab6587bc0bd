package tasks

import (
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/outbound"
)

func TestRequestRefusesHostsThatAreNotAllowed(t *testing.T) {
	t.Parallel()
	base, _ := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("called") })
	for _, url := range []string{base, "http://example.org/", "ftp://a", "http://a b/", "http://user:pw@a/"} {
		for _, allow := range [][]string{nil, {"example.com"}, {"127.0.0.1:1"}} {
			_, err := get(t, newTestRequester(t, Config{HTTPAllow: allow}), url)
			requirePermanent(t, err)
			require.NotContains(t, err.Error(), "pw")
		}
	}
	_, err := get(t, newTestRequester(t, Config{}), base)
	require.EqualError(t, err, "no host may be called: name the allowed ones in LOVAGE_HTTP_ALLOW")
}

// counted starts a server that counts its calls.
func counted(t *testing.T) (port string, calls *atomic.Int32) {
	t.Helper()
	calls = new(atomic.Int32)
	_, host := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		_, _ = io.WriteString(w, "hello")
	})
	_, port, err := net.SplitHostPort(host)
	require.NoError(t, err)
	return port, calls
}

func TestNameThatLeadsToAPrivateAddressIsRefused(t *testing.T) {
	t.Parallel()
	port, calls := counted(t)
	names := &nameServer{answers: map[string][][]string{"api.test.": {{"127.0.0.1"}}}}
	resolver := names.resolver(t)

	_, err := get(t, newTestRequester(t, Config{HTTPAllow: []string{"api.test"}, Resolver: resolver}), "http://api.test:"+port)
	requirePermanent(t, err)
	require.ErrorContains(t, err, "leads to a private or reserved address")
	require.ErrorContains(t, err, "private:api.test")
	require.NotContains(t, err.Error(), "127.0.0.1")
	require.Zero(t, calls.Load())

	for i, allow := range [][]string{{"private:api.test"}, {"private:*.test:" + port}, {"api.test", "127.0.0.0/8"}, {"api.test", "127.0.0.1:" + port}} {
		out, err := get(t, newTestRequester(t, Config{HTTPAllow: allow, Resolver: resolver}), "http://api.test:"+port)
		require.NoError(t, err)
		require.Equal(t, "hello", out.Body)
		require.EqualValues(t, i+1, calls.Load())
	}
}

// The first look-up is harmless, the one that counts is not.
func TestNameThatChangesItsAddressIsRefused(t *testing.T) {
	t.Parallel()
	port, calls := counted(t)
	names := &nameServer{answers: map[string][][]string{"api.test.": {{"127.0.0.1"}, {"127.0.0.2"}}}}
	r := newTestRequester(t, Config{HTTPAllow: []string{"api.test", "127.0.0.1"}, Resolver: names.resolver(t)})

	_, err := get(t, r, "http://api.test:"+port)
	require.NoError(t, err)
	r.client.CloseIdleConnections()
	_, err = get(t, r, "http://api.test:"+port)

	requirePermanent(t, err)
	require.ErrorContains(t, err, "private or reserved address")
	require.EqualValues(t, 1, calls.Load())
}

func TestOneGoodAddressDoesNotOpenTheOthers(t *testing.T) {
	t.Parallel()
	port, calls := counted(t) // on 127.0.0.1
	names := &nameServer{answers: map[string][][]string{"api.test.": {{"127.0.0.2", "127.0.0.1"}}}}
	r := newTestRequester(t, Config{HTTPAllow: []string{"api.test", "127.0.0.2"}, Resolver: names.resolver(t)})

	_, err := get(t, r, "http://api.test:"+port)

	require.Error(t, err, "nobody listens at the good one")
	require.Zero(t, calls.Load())
}

func TestUnknownNameIsRetried(t *testing.T) {
	t.Parallel()
	r := newTestRequester(t, Config{HTTPAllow: []string{"api.test"}, Resolver: (&nameServer{}).resolver(t)})
	_, err := get(t, r, "http://api.test/")
	requireTemporary(t, err)
	require.ErrorContains(t, err, "no such host")
}

func TestNoProxyDialsInOurPlace(t *testing.T) {
	t.Parallel()
	transport, isTransport := outbound.NewClient(outbound.AllowList{}, nil).Transport.(*http.Transport)
	require.True(t, isTransport)
	require.Nil(t, transport.Proxy)
}
