package app

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBoundedListenerAcceptsWhenThereIsAPlace(t *testing.T) {
	t.Parallel()
	inner, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := newBoundedListener(inner, 1)
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	dial := func() {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
	}
	dial()
	first := <-accepted
	require.IsType(t, &net.TCPConn{}, first, "one side of it can be closed")
	dial()
	select {
	case <-accepted:
		require.Fail(t, "there was no place")
	case <-time.After(50 * time.Millisecond):
	}
	require.NoError(t, first.Close())
	l.release()
	require.NoError(t, (<-accepted).Close())
	require.NoError(t, l.Close(), "also while it waits for a place")
	<-accepted
	_, err = l.Accept()
	require.ErrorIs(t, err, net.ErrClosed)
}
