package rabbitmq

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/zap"
)

// Options say how to reach the broker; publishers and consumers share them.
type Options struct {
	// URLs are tried in turn (amqp:// or amqps://). Required, unless URLFile
	// is set.
	URLs []string
	// URLFile holds the addresses, as [SplitURLs] reads them. Like the files
	// below it is read at every connect, so that a password or a certificate
	// is changed without a restart: replace the file, then end the
	// connections or wait for the broker to do it.
	URLFile string
	// CAFile holds the authorities (PEM) that sign the broker's certificate;
	// empty means the system's. CertFile and KeyFile are our own certificate.
	CAFile   string
	CertFile string
	KeyFile  string
	// Name is shown as the connection's name in the RabbitMQ console. Required.
	Name string
	// Heartbeat is offered to the broker; default 10 s.
	Heartbeat time.Duration
	// DialTimeout bounds the TCP connect (and the TLS handshake); default 2 s.
	DialTimeout time.Duration
	// SetupTimeout is how long the broker may say nothing in the course of the
	// AMQP handshake and the declarations after it; default 5 s. They take
	// dozens of round trips, so on a slow network all of it takes longer.
	SetupTimeout time.Duration
	// WriteTimeout bounds every write to the socket; default 500 ms.
	WriteTimeout time.Duration
	// Passive never declares anything, it only checks that exchanges and queues
	// are there: for a user without the right to configure. What is missing is
	// waited for. Bindings cannot be checked.
	Passive bool
	// Log is required.
	Log *zap.Logger
}

func (o Options) withDefaults() Options {
	if o.Heartbeat == 0 {
		o.Heartbeat = 10 * time.Second
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = 2 * time.Second
	}
	if o.SetupTimeout == 0 {
		o.SetupTimeout = 5 * time.Second
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = 500 * time.Millisecond
	}
	return o
}

// SplitURLs splits a comma-separated list of broker addresses and checks each.
// Its errors say which, and quote nothing: an address holds a password.
func SplitURLs(list string) ([]string, error) {
	var urls []string
	for u := range strings.SplitSeq(list, ",") {
		u = strings.TrimSpace(u)
		if _, err := amqp.ParseURI(u); err != nil {
			return nil, fmt.Errorf("broker address %d: is not of the form amqp://user:password@host:port/vhost", len(urls)+1)
		}
		urls = append(urls, u)
	}
	return urls, nil
}

// addresses returns the brokers to try; never none without an error.
func (o Options) addresses() ([]string, error) {
	urls := o.URLs
	if o.URLFile != "" {
		text, err := os.ReadFile(o.URLFile)
		if err != nil {
			return nil, fmt.Errorf("read broker addresses: %w", err)
		}
		if urls, err = SplitURLs(strings.TrimSpace(string(text))); err != nil {
			return nil, fmt.Errorf("%s: %w", o.URLFile, err)
		}
	}
	if len(urls) == 0 {
		return nil, errors.New("no broker address is configured")
	}
	return urls, nil
}

func (o Options) tlsConfig(host string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read authorities: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read authorities: no certificate in %s", o.CAFile)
		}
	}
	if o.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read own certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// link is one AMQP connection over a socket that can be closed from outside:
// the only way to end a call of the library that is stuck.
type link struct {
	conn    *amqp.Connection
	raw     net.Conn
	wire    *wireConn
	closed  chan *amqp.Error
	blocked chan amqp.Blocking
	down    chan struct{}
	once    sync.Once
}

// kill closes the socket. It never blocks and may be called by anybody.
func (l *link) kill() {
	l.once.Do(func() {
		_ = l.raw.Close()
		close(l.down)
	})
}

// bound calls fn and closes the socket when fn takes longer than d, or when
// ctx ends: fn then returns with an error.
func (l *link) bound(ctx context.Context, d time.Duration, fn func() error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return l.until(ctx, fn)
}

// attend calls fn and closes the socket when the broker says nothing for d, or
// when ctx ends: fn then returns with an error.
func (l *link) attend(ctx context.Context, d time.Duration, fn func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel(nil)
	watch.Go(func() {
		tick := time.NewTicker(d / 20)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if time.Since(l.wire.lastFrame()) > d {
					cancel(fmt.Errorf("the broker says nothing for %v", d))
				}
			}
		}
	})
	return l.until(ctx, fn)
}

// until calls fn and closes the socket when ctx ends.
func (l *link) until(ctx context.Context, fn func() error) error {
	stop := context.AfterFunc(ctx, l.kill)
	err := fn()
	if !stop() {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

// close ends the connection properly within d, or else closes the socket.
func (l *link) close(d time.Duration) {
	_ = l.bound(context.Background(), d, l.conn.Close)
	l.kill()
}

// dial connects and lets setup declare what it needs, all within the bounds of
// the options and of ctx. Attempts go through the addresses in turn. Nothing is
// left open after an error. What methods takes of the methods that come in, the
// library does not see.
func dial(ctx context.Context, o Options, attempt int, methods methodHandler, setup func(*amqp.Connection) error) (*link, error) {
	urls, err := o.addresses()
	if err != nil {
		return nil, err
	}
	url := urls[attempt%len(urls)]
	uri, err := amqp.ParseURI(url)
	if err != nil {
		return nil, errors.New("parse broker address: not of the form amqp://user:password@host:port/vhost")
	}
	raw, err := dialSocket(ctx, o, uri)
	if err != nil {
		return nil, err
	}
	l := &link{raw: raw, wire: newWireConn(raw, o.WriteTimeout, methods), down: make(chan struct{})}
	err = l.attend(ctx, o.SetupTimeout, func() error {
		if err := l.open(o, url); err != nil {
			return err
		}
		return setup(l.conn)
	})
	if err != nil {
		l.kill()
		return nil, fmt.Errorf("open connection to %s:%d: %w", uri.Host, uri.Port, err)
	}
	return l, nil
}

// dialAny is [dial] to the first address that can be connected to.
func dialAny(ctx context.Context, o Options, setup func(*amqp.Connection) error) (l *link, err error) {
	urls, err := o.addresses()
	for i := range urls {
		if l, err = dial(ctx, o, i, nil, setup); err == nil {
			return l, nil
		}
	}
	return nil, err
}

func (l *link) open(o Options, url string) error {
	// The socket is encrypted already, below the reader of header frames.
	url = "amqp" + strings.TrimPrefix(strings.TrimPrefix(url, "amqps"), "amqp")
	props := amqp.NewConnectionProperties()
	props.SetClientConnectionName(o.Name)
	conn, err := amqp.DialConfig(url, amqp.Config{
		Heartbeat:  o.Heartbeat,
		Properties: props,
		Dial:       func(string, string) (net.Conn, error) { return l.wire, nil },
	})
	if err != nil {
		return err
	}
	l.conn = conn
	l.closed = conn.NotifyClose(make(chan *amqp.Error, 1))
	l.blocked = conn.NotifyBlocked(make(chan amqp.Blocking, 16))
	return nil
}

func dialSocket(ctx context.Context, o Options, uri amqp.URI) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	addr := net.JoinHostPort(uri.Host, fmt.Sprint(uri.Port))
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to broker: %w", err)
	}
	if uri.Scheme != "amqps" {
		return raw, nil
	}
	cfg, err := o.tlsConfig(uri.Host)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	sec := tls.Client(raw, cfg)
	if err := sec.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("TLS handshake with broker: %w", err)
	}
	return sec, nil
}
