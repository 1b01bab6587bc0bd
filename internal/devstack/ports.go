package devstack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Ports are taken from below the range that the kernel uses for outgoing
// connections, so that no connection can sit on the port of a server that is
// down for a moment.
const (
	firstPort = 26000
	lastPort  = 32000
)

// Port is a TCP port on 127.0.0.1 that is kept for one instance, also while
// nothing listens on it: no other process that reserves ports gets it.
type Port struct {
	number int
	lock   *os.File
}

// ReservePort returns the wanted port, or any other when it is zero, taken by
// another instance or in use. It does not block.
func ReservePort(ctx context.Context, wanted int) (*Port, error) {
	if wanted != 0 {
		if p, err := reserve(ctx, wanted); err == nil {
			return p, nil
		}
	}
	n := lastPort - firstPort
	for offset, i := rand.IntN(n), 0; i < n; i++ {
		if p, err := reserve(ctx, firstPort+(offset+i)%n); err == nil {
			return p, nil
		}
	}
	return nil, errors.New("reserve a port: all are taken")
}

// Number returns the port's number.
func (p *Port) Number() int { return p.number }

// Address returns the port as host:port.
func (p *Port) Address() string { return loopback(p.number) }

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Release gives the port back. It may be called more than once.
func (p *Port) Release() {
	if p != nil {
		_ = p.lock.Close()
	}
}

// reserve holds a port by a lock file, which the kernel unlocks when this
// process ends, and checks that nobody listens there.
func reserve(ctx context.Context, number int) (*Port, error) {
	dir := filepath.Join(os.TempDir(), "lovage-ports-"+strconv.Itoa(os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("reserve port: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(number)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("reserve port: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("reserve port %d: %w", number, err)
	}
	p := &Port{number: number, lock: lock}
	if err := free(ctx, p.Address()); err != nil {
		p.Release()
		return nil, err
	}
	return p, nil
}

// free returns an error when something listens on the address.
func free(ctx context.Context, address string) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("try port: %w", err)
	}
	return l.Close()
}
