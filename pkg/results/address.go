package results

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Address is how Redis is reached. URL or URLFile is required.
type Address struct {
	// URL is one of [Open].
	URL string
	// URLFile replaces URL when it is set. Its user and password are read at
	// every connect, so that they can be changed; its addresses once.
	URLFile string
	// CAFile holds the authorities (PEM) that sign the certificate of Redis, the
	// system's without it; CertFile and KeyFile are the client's certificate and
	// its key. They are read at every connect, of a rediss:// URL.
	CAFile, CertFile, KeyFile string
}

// longestURL bounds the file with the URL.
const longestURL = 64 << 10

func (a Address) url() (string, error) {
	if a.URLFile == "" {
		return a.URL, nil
	}
	text, err := os.ReadFile(a.URLFile)
	switch {
	case err != nil:
		return "", err
	case len(text) > longestURL:
		return "", fmt.Errorf("%s is longer than %d bytes", a.URLFile, longestURL)
	}
	return strings.TrimSpace(string(text)), nil
}

// OpenWith is [Open] for more than a URL. It reads the files once, to find out
// that they are there; it does not connect.
func OpenWith(a Address) (redis.UniversalClient, error) {
	text, err := a.url()
	if err != nil {
		return nil, fmt.Errorf("read redis URL: %w", err)
	}
	opts, err := parse(text)
	if err != nil {
		return nil, err
	}
	if a.URLFile != "" {
		opts.CredentialsProviderContext = a.credentials
	}
	if a.CAFile+a.CertFile+a.KeyFile != "" {
		if opts.TLSConfig == nil {
			return nil, errors.New("redis: certificates are for rediss:// only, and the URL is another one")
		}
		if _, err := a.tls(opts.TLSConfig, ""); err != nil {
			return nil, err
		}
		opts.Dialer = a.dialer(opts.TLSConfig, opts.DialTimeout)
	}
	return redis.NewUniversalClient(opts), nil
}

// credentials are those of the URL as it stands in its file.
func (a Address) credentials(context.Context) (user, password string, err error) {
	text, err := a.url()
	if err != nil {
		return "", "", err
	}
	opts, err := parse(text)
	if err != nil {
		return "", "", err
	}
	return opts.Username, opts.Password, nil
}

// dialer connects with the files as they are then.
func (a Address) dialer(base *tls.Config, timeout time.Duration) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		config, err := a.tls(base, host)
		if err != nil {
			return nil, err
		}
		d := tls.Dialer{NetDialer: &net.Dialer{Timeout: timeout, KeepAlive: time.Minute}, Config: config}
		return d.DialContext(ctx, network, addr)
	}
}

// tls completes a configuration with the files. The name that the certificate
// has to have is the host's, unless the URL has another one.
func (a Address) tls(base *tls.Config, host string) (*tls.Config, error) {
	config := base.Clone()
	if config.ServerName == "" {
		config.ServerName = host
	}
	if a.CAFile != "" {
		text, err := os.ReadFile(a.CAFile)
		if err != nil {
			return nil, fmt.Errorf("authorities of redis: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("authorities of redis: %s has no certificate in it", a.CAFile)
		}
	}
	if a.CertFile+a.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(a.CertFile, a.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("client certificate for redis: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
