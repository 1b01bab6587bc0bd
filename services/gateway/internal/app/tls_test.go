package app

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/internal/service"
)

// alone runs a gateway that finds neither RabbitMQ nor Redis and returns its
// address.
func alone(t *testing.T, change func(*Config)) (address string, log *observer.ObservedLogs) {
	t.Helper()
	c := defaults(t)
	c.Listen = "127.0.0.1:0"
	c.AMQPURL, c.RedisURL = "amqp://127.0.0.1:1/", "redis://127.0.0.1:1/0"
	change(&c)
	core, log := observer.New(zap.InfoLevel)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, c, zap.New(core)) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
	require.Eventually(t, func() bool {
		for _, line := range log.FilterMessage("gateway listens").All() {
			address = line.ContextMap()["address"].(string)
		}
		return address != ""
	}, 30*time.Second, time.Millisecond)
	return address, log
}

// secured runs a gateway with TLS and returns its address, its files and a client
// that trusts its authority.
func secured(t *testing.T) (address, cert, key string, authority *devstack.Authority, client *http.Client, log *observer.ObservedLogs) {
	t.Helper()
	authority = devstack.NewAuthority(t)
	cert, key = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	authority.Issue("gateway", cert, key)
	address, log = alone(t, func(c *Config) { c.TLSCertFile, c.TLSKeyFile = cert, key })
	trusted := x509.NewCertPool()
	text, err := os.ReadFile(authority.File)
	require.NoError(t, err)
	require.True(t, trusted.AppendCertsFromPEM(text))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return address, cert, key, authority, &http.Client{Transport: transport}, log
}

func TestTheListenerSpeaksTLS(t *testing.T) {
	t.Parallel()
	address, _, _, _, client, _ := secured(t)
	res, err := client.Get("https://" + address + "/livez") //nolint:noctx // a test
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	require.Equal(t, http.StatusOK, res.StatusCode)
	require.Equal(t, "HTTP/2.0", res.Proto)
	require.Equal(t, "max-age=31536000", res.Header.Get("Strict-Transport-Security"))
	require.Empty(t, res.Header.Get("Server"))
	require.NoError(t, service.Healthy(t.Context(), address, true))
	require.Error(t, service.Healthy(t.Context(), address, false), "nobody is answered without TLS")

	_, err = http.DefaultClient.Get("https://" + address + "/livez") //nolint:noctx,bodyclose // it fails
	require.ErrorContains(t, err, "certificate")
	_, err = (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}}).DialContext(t.Context(), "tcp", address)
	require.Error(t, err, "TLS 1.1 is too old")
}

func TestABatchIsAnsweredOverHTTP2(t *testing.T) {
	t.Parallel()
	address, _, _, _, client, _ := secured(t)
	in, out := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/v1/batches", in)
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-ndjson")
	go func() { _, _ = out.Write([]byte(`{"task":"a","options":{"queue":"q"}}` + "\n")) }()
	res, err := client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	require.Equal(t, "HTTP/2.0", res.Proto)
	answers := bufio.NewScanner(res.Body)
	require.True(t, answers.Scan(), "while the client still writes")
	require.Contains(t, answers.Text(), "broker-unavailable")
	_, err = out.Write([]byte(`{"task":"b"`))
	require.NoError(t, err)
	require.NoError(t, out.Close())
	require.True(t, answers.Scan())
	require.Contains(t, answers.Text(), "malformed-json")
	require.False(t, answers.Scan())
	require.NoError(t, answers.Err())
}

func TestACertificateThatChangesIsShown(t *testing.T) {
	t.Parallel()
	address, cert, key, authority, _, log := secured(t)
	shown := func() string {
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", address)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	require.Equal(t, "gateway", shown())
	authority.Issue("renewed", cert, key)
	require.Eventually(t, func() bool { return shown() == "renewed" }, 30*time.Second, 20*time.Millisecond)
	require.NoError(t, os.WriteFile(cert, []byte("broken"), 0o600))
	require.Eventually(t, func() bool {
		require.Equal(t, "renewed", shown(), "a broken one is not taken")
		return log.FilterMessageSnippet("certificate not loaded").Len() == 1
	}, 30*time.Second, 20*time.Millisecond)
	authority.Issue("mended", cert, key)
	require.Eventually(t, func() bool { return shown() == "mended" }, 30*time.Second, 20*time.Millisecond)
}

func TestAGatewayWithoutItsCertificateDoesNotStart(t *testing.T) {
	t.Parallel()
	c := defaults(t)
	c.Listen, c.TLSCertFile = "127.0.0.1:0", "missing.pem"
	require.ErrorContains(t, Run(t.Context(), c, zap.NewNop()), "LOVAGE_TLS_KEY_FILE: one goes with the other")
	c.TLSKeyFile = "missing.key"
	require.ErrorContains(t, Run(t.Context(), c, zap.NewNop()), "missing.pem")
}

func TestAGatewayWithoutItsKeysDoesNotStart(t *testing.T) {
	t.Parallel()
	c := defaults(t)
	c.Listen, c.APIKeysFile = "127.0.0.1:0", filepath.Join(t.TempDir(), "keys.json")
	require.ErrorContains(t, Run(t.Context(), c, zap.NewNop()), "LOVAGE_API_KEYS_FILE")
	require.NoError(t, os.WriteFile(c.APIKeysFile, []byte(`{"keys":[{}]}`), 0o600))
	require.ErrorContains(t, Run(t.Context(), c, zap.NewNop()), "scopes")
}

// Keys that nobody has seen yet let nobody in, also while Redis is away.
func TestAGatewayWithoutRedisKnowsNobody(t *testing.T) {
	t.Parallel()
	address, _ := alone(t, func(c *Config) { c.Listen, c.APIKeysRedis = "0.0.0.0:0", true })
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	ask := func(path, key string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+path, nil)
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+key)
		res, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	require.Equal(t, http.StatusServiceUnavailable, ask("/v1/tasks", "lovage_aaaaaaaa_"+strings.Repeat("a", 52)), "it may be a right one")
	require.Equal(t, http.StatusUnauthorized, ask("/v1/tasks", "nonsense"))
	require.Equal(t, http.StatusOK, ask("/livez", ""))
}

// Heads that are too long, too slow or no HTTP cost a connection and no more.
func TestHeadsThatGoTooFar(t *testing.T) {
	t.Parallel()
	address, _ := alone(t, func(*Config) {})
	status := func(head string) string {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		_, _ = io.WriteString(conn, head)
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return strings.TrimSpace(line)
	}
	require.Contains(t, status("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"), "200")
	require.Contains(t, status(fmt.Sprintf("GET /livez HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10))), "431")
	require.Contains(t, status(fmt.Sprintf("GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n", strings.Repeat("x", 64<<10))), "431")
	require.Contains(t, status(fmt.Sprintf("GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n", strings.Repeat("x", 16<<10))), "414")
	for _, head := range []string{
		"GET /livez HTTP/1.1\r\n\r\n",
		"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
		"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\n",
		"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n",
		"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n",
		"\x16\x03\x01\x02\x00\r\n\r\n",
	} {
		require.Regexp(t, "^HTTP/1.1 (400|501) ", status(head), "%q", head)
	}
	begun := time.Now()
	require.Empty(t, status("GET /livez HTTP/1.1\r\nHost: local"), "it is waited for and then cut off")
	require.GreaterOrEqual(t, time.Since(begun), headerTimeout)
}
