package results_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/results"
)

// secured is a Redis that speaks TLS as well, and only to clients that show a
// certificate of its authority.
type secured struct {
	t         *testing.T
	authority *devstack.Authority
	plain     redis.UniversalClient
	address   string
	server    *devstack.RedisInstance
	cert, key string // of a client
}

func startSecured(t *testing.T) *secured {
	t.Helper()
	s := &secured{t: t, authority: devstack.NewAuthority(t), server: devstack.RedisServer(t)}
	s.plain = open(t, s.server.URL())
	dir := t.TempDir()
	port, err := devstack.ReservePort(t.Context(), 0)
	require.NoError(t, err)
	t.Cleanup(port.Release)
	cert, key := filepath.Join(dir, "redis.pem"), filepath.Join(dir, "redis.key")
	s.authority.Issue("redis", cert, key)
	s.cert, s.key = filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key")
	s.authority.Issue("client", s.cert, s.key)
	// The port is the last: the listener is made with the rest.
	err = s.plain.Do(t.Context(), "config", "set", "tls-ca-cert-file", s.authority.File, "tls-cert-file", cert, "tls-key-file", key,
		"tls-auth-clients", "yes", "tls-port", port.Number()).Err()
	require.NoError(t, err)
	s.address = port.Address()
	return s
}

func (s *secured) with(change ...func(*results.Address)) results.Address {
	a := results.Address{URL: "rediss://" + s.address + "/0", CAFile: s.authority.File, CertFile: s.cert, KeyFile: s.key}
	for _, c := range change {
		c(&a)
	}
	return a
}

// ping connects anew.
func (s *secured) ping(a results.Address) error {
	s.t.Helper()
	client, err := results.OpenWith(a)
	if err != nil {
		return err
	}
	defer func() { require.NoError(s.t, client.Close()) }()
	return client.Ping(s.t.Context()).Err()
}

func TestRedisIsReachedOverTLSWithACertificateOfOurOwn(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	require.NoError(t, s.ping(s.with()))
	require.ErrorContains(t, s.ping(s.with(func(a *results.Address) { a.CAFile = "" })), "certificate", "the system does not know that authority")
	require.Error(t, s.ping(s.with(func(a *results.Address) { a.CertFile, a.KeyFile = "", "" })), "Redis asks for a certificate")
	stranger := devstack.NewAuthority(t)
	require.ErrorContains(t, s.ping(s.with(func(a *results.Address) { a.CAFile = stranger.File })), "certificate", "somebody else pretends to be Redis")
	cert, key := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	stranger.Issue("client", cert, key)
	require.Error(t, s.ping(s.with(func(a *results.Address) { a.CertFile, a.KeyFile = cert, key })))
	require.Error(t, s.ping(results.Address{URL: "redis://" + s.address + "/0"}), "without TLS nobody answers")

	for _, wrong := range []func(*results.Address){
		func(a *results.Address) { a.CAFile += "x" },
		func(a *results.Address) { a.CAFile = s.key },
		func(a *results.Address) { a.KeyFile = "" },
		func(a *results.Address) { a.URL = s.server.URL() },
		func(a *results.Address) { a.URLFile = "missing" },
	} {
		_, err := results.OpenWith(s.with(wrong))
		require.Error(t, err, "it is found at the start")
	}
}

// A password and a certificate are changed while the client lives.
func TestCredentialsOfRedisAreReadAtEveryConnect(t *testing.T) {
	t.Parallel()
	s := startSecured(t)
	file := filepath.Join(t.TempDir(), "url")
	write := func(password string) {
		u := url.URL{Scheme: "rediss", User: url.UserPassword("lovage", password), Host: s.address, Path: "/0"}
		require.NoError(t, os.WriteFile(file, fmt.Appendln(nil, u.String()), 0o600))
		require.NoError(t, s.plain.Do(t.Context(), "acl", "setuser", "lovage", "on", "resetpass", ">"+password, "~*", "&*", "+@all").Err())
	}
	write("first/:@ one")
	client, err := results.OpenWith(s.with(func(a *results.Address) { a.URL, a.URLFile = "", file }))
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	require.NoError(t, client.Ping(t.Context()).Err())
	who := client.Do(t.Context(), "acl", "whoami").Val()
	require.Equal(t, "lovage", who)

	write("second")
	s.authority.Issue("renewed", s.cert, s.key)
	require.NoError(t, s.plain.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err())
	require.Eventually(t, func() bool { return client.Ping(t.Context()).Err() == nil }, 30*time.Second, 20*time.Millisecond)
	require.Equal(t, "lovage", client.Do(t.Context(), "acl", "whoami").Val())
}
