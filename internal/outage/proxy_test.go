//go:build outage

package outage_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
)

// proxy stands between the gateway and a server.
type proxy struct {
	t *testing.T
	p *toxiproxy.Proxy
	// The proxy's own fields are written whenever it starts.
	listen, upstream string
}

// of is the proxy in the hands of another test.
func (p *proxy) of(t *testing.T) *proxy {
	t.Helper()
	q := *p
	q.t = t
	return &q
}

func newProxy(t *testing.T, name, upstream string) *proxy {
	t.Helper()
	port, err := devstack.ReservePort(t.Context(), 0)
	require.NoError(t, err)
	t.Cleanup(port.Release)
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, name, port.Address(), upstream)
	require.NoError(t, p.Start())
	t.Cleanup(p.Stop)
	return &proxy{t, p, port.Address(), upstream}
}

// through is the address of a server as it is reached through the proxy.
func (p *proxy) through(url string) string {
	return strings.Replace(url, p.upstream, p.listen, 1)
}

func (p *proxy) port() string {
	_, port, err := net.SplitHostPort(p.listen)
	require.NoError(p.t, err)
	return port
}

// refuse closes the port with every connection to it.
func (p *proxy) refuse() { p.p.Stop() }

func (p *proxy) accept() { require.NoError(p.t, p.p.Start()) }

// toxic describes one thing that the proxy does to the bytes in one direction.
type toxic struct {
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`
	Attributes map[string]any `json:"attributes"`
}

const (
	upstream   = "upstream"   // from the gateway
	downstream = "downstream" // to the gateway
)

// swallow drops what comes and keeps the connections; healing closes them.
func swallow(stream string) toxic {
	return toxic{"swallow " + stream, "timeout", stream, map[string]any{"timeout": 0}}
}

// delay adds milliseconds to everything.
func delay(stream string, ms int) toxic {
	return toxic{"delay " + stream, "latency", stream, map[string]any{"latency": ms}}
}

// cut lets so many bytes of every connection pass and then closes it, in the
// middle of whatever is being written.
func cut(stream string, n int) toxic {
	return toxic{"cut " + stream, "limit_data", stream, map[string]any{"bytes": n}}
}

func (p *proxy) poison(toxics ...toxic) {
	p.t.Helper()
	for _, toxic := range toxics {
		text, err := json.Marshal(toxic)
		require.NoError(p.t, err)
		_, err = p.p.Toxics.AddToxicJson(bytes.NewReader(text))
		require.NoError(p.t, err)
	}
}

func (p *proxy) heal(ctx context.Context) { p.p.Toxics.ResetToxics(ctx) }
