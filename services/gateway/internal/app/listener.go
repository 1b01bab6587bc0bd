package app

import (
	"net"
	"sync"
)

// boundedListener accepts no connection while too many are open. Unlike that
// of golang.org/x/net/netutil it leaves the connections as they are: net/http
// can close one side of them only then, without which clients that are refused
// while they still send would see a reset instead of the answer.
type boundedListener struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newBoundedListener(l net.Listener, most int) *boundedListener {
	return &boundedListener{Listener: l, places: make(chan struct{}, most), closed: make(chan struct{})}
}

// Accept waits for a place, and then for a connection. The place is taken
// until release is called.
func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		l.release()
	}
	return conn, err
}

// release gives the place of a connection back that was closed.
func (l *boundedListener) release() { <-l.places }

// Close ends Accept also while it waits for a place.
func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
