package app

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
)

// lookAgain is how old what is known of the files gets.
const lookAgain = time.Second

// certificate is that of the listener, as it stands in its files.
type certificate struct {
	certFile, keyFile string
	log               *zap.Logger

	mu     sync.Mutex
	pair   *tls.Certificate
	stamp  string // of the files that pair is from, or that are broken
	looked time.Time
}

// newCertificate reads the files, which have to be there.
func newCertificate(certFile, keyFile string, log *zap.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	stamp, err := c.stat()
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	c.pair, c.stamp, c.looked = &pair, stamp, time.Now()
	return c, nil
}

// get returns the certificate for a handshake. Files that have changed are read,
// and files that are broken, or one of which is still the old one, leave it as it
// was.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.looked) < lookAgain {
		return c.pair, nil
	}
	c.looked = time.Now()
	stamp, err := c.stat()
	if err == nil && stamp == c.stamp {
		return c.pair, nil
	}
	var pair tls.Certificate
	if err == nil {
		pair, err = tls.LoadX509KeyPair(c.certFile, c.keyFile)
	}
	if err != nil {
		if stamp != c.stamp {
			c.log.Warn("certificate not loaded, keeping the last one", zap.Error(err))
		}
		c.stamp = stamp
		return c.pair, nil
	}
	c.pair, c.stamp = &pair, stamp
	c.log.Info("certificate loaded", zap.Time("not_after", pair.Leaf.NotAfter))
	return c.pair, nil
}

// stat tells one state of the files from another.
func (c *certificate) stat() (string, error) {
	cert, err := os.Stat(c.certFile)
	key, also := os.Stat(c.keyFile)
	if err := errors.Join(err, also); err != nil {
		return "", err
	}
	return fmt.Sprint(cert.ModTime().UnixNano(), cert.Size(), key.ModTime().UnixNano(), key.Size()), nil
}

// config is that of the listener.
func (c *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}
