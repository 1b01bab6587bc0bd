package rabbitmq_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	a := &authority{t: t, dir: t.TempDir(), key: key}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, &key.PublicKey, key)
	require.NoError(t, err)
	a.file = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

// issue returns the files of a certificate for 127.0.0.1.
func (a *authority) issue(name string) (cert, key string) {
	a.t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &k.PublicKey, a.key)
	require.NoError(a.t, err)
	raw, err := x509.MarshalECPrivateKey(k)
	require.NoError(a.t, err)
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+".key", "EC PRIVATE KEY", raw)
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	require.NoError(a.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

// terminate puts TLS in front of a broker and returns its address.
func (a *authority) terminate(target string) string {
	a.t.Helper()
	uri, err := amqp.ParseURI(target)
	require.NoError(a.t, err)
	cert, key := a.issue("broker")
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(a.t, err)
	clients := x509.NewCertPool()
	clientCA, err := os.ReadFile(a.file)
	require.NoError(a.t, err)
	require.True(a.t, clients.AppendCertsFromPEM(clientCA))
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients, MinVersion: tls.VersionTLS12,
	})
	require.NoError(a.t, err)
	plain := net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port))
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { splice(in, plain) })
		}
	})
	a.t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
	_, port, err := net.SplitHostPort(l.Addr().String())
	require.NoError(a.t, err)
	uri.Scheme, uri.Host = "amqps", "127.0.0.1"
	uri.Port, err = strconv.Atoi(port)
	require.NoError(a.t, err)
	return uri.String()
}

func splice(in net.Conn, target string) {
	defer func() { _ = in.Close() }()
	out, err := net.Dial("tcp", target) //nolint:noctx // a test's proxy on loopback
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	})
	_, _ = io.Copy(in, out)
	_ = in.Close()
}

func TestTLSWithAnAuthorityAndACertificateOfOurOwn(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "right")
	o := options(t, ca.terminate(devstack.VHost(t)))
	o.CAFile = ca.file
	o.CertFile, o.KeyFile = ca.issue("lovage")
	p := publisher(t, rabbitmq.PublisherOptions{Options: o})
	p.Adopt("q")
	require.NoError(t, enqueue(t, p, "q", 0, "a"))
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{Options: o})
	require.NoError(t, next(t, deliveries).Ack())

	for name, spoil := range map[string]func(*rabbitmq.Options){
		"a stranger's authority":   func(o *rabbitmq.Options) { o.CAFile = newAuthority(t, "wrong").file },
		"a stranger's certificate": func(o *rabbitmq.Options) { o.CertFile, o.KeyFile = newAuthority(t, "wrong").issue("x") },
		"no certificate":           func(o *rabbitmq.Options) { o.CertFile = "" },
		"a file that is not there": func(o *rabbitmq.Options) { o.CAFile = "/nonexistent" },
	} {
		wrong := o
		spoil(&wrong)
		p := rabbitmq.NewPublisher(rabbitmq.PublisherOptions{Options: wrong})
		background(t, p.Run)
		require.ErrorIs(t, enqueue(t, p, "q", 0, "a"), messages.ErrBrokerUnavailable, name)
		require.Equal(t, "down", p.State(), name)
	}
}

func TestAPasswordIsChangedWithoutARestart(t *testing.T) {
	t.Parallel()
	broker := devstack.RabbitMQ(t)
	ctl := func(args ...string) {
		t.Helper()
		_, err := broker.Ctl(t.Context(), args...)
		require.NoError(t, err)
	}
	ctl("add_user", "lovage", "first")
	ctl("set_permissions", "lovage", ".*", ".*", ".*")
	file := filepath.Join(t.TempDir(), "amqp-url")
	write := func(password string) {
		t.Helper()
		url := strings.Replace(broker.URL(), "guest:guest", "lovage:"+password, 1)
		require.NoError(t, os.WriteFile(file, []byte(url+"\n"), 0o600))
	}
	write("first")
	o := options(t, "")
	o.URLs, o.URLFile = nil, file
	p := publisher(t, rabbitmq.PublisherOptions{Options: o})
	p.Adopt("q")
	require.NoError(t, enqueue(t, p, "q", 0, "a"))

	ctl("change_password", "lovage", "second")
	ctl("close_all_connections", "rotation")
	awaitState(t, p, "down")
	write("second")
	awaitState(t, p, "up")
	require.NoError(t, enqueue(t, p, "q", 0, "b"))
}

func TestTheNextAddressIsTriedWhenOneIsAway(t *testing.T) {
	t.Parallel()
	url := devstack.VHost(t)
	o := options(t, url)
	o.URLs = []string{"amqp://127.0.0.1:1/", url}
	p := publisher(t, rabbitmq.PublisherOptions{Options: o})
	p.Adopt("q")
	require.NoError(t, enqueue(t, p, "q", 0, "a"))
	_, deliveries := consumer(t, rabbitmq.ConsumerOptions{Options: o})
	require.NoError(t, next(t, deliveries).Ack())
	require.Eventually(t, func() bool { return enqueue(t, p, "q", 200*time.Millisecond, "b") == nil }, patience, 10*time.Millisecond)
}
