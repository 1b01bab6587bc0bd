package stack

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFarDelaysBothWaysAndKeepsTheOrder(t *testing.T) {
	t.Parallel()
	const delay = 20 * time.Millisecond
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	go func() { // an echo, which ends with its connection
		conn, err := l.Accept()
		if err == nil {
			_, _ = io.Copy(conn, conn)
		}
	}()
	s := &Stack{far: &Far{delay: delay, ways: map[string]string{}, ended: make(chan struct{})}}
	address := l.Addr().String()
	near := &Service{Address: address}
	opening, opened := context.WithCancel(t.Context())
	far, err := s.FarFrom(opening, near)
	opened()
	require.NoError(t, err)
	require.NotEqual(t, near.Address, far.Address)
	require.Equal(t, "redis://"+far.Address+"/0", s.by("redis://"+address+"/0", address))
	require.Equal(t, "redis://other/0", s.by("redis://other/0", "other"))

	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", far.Address)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	begun := time.Now()
	for _, text := range []string{"a", "b", "c"} {
		_, err = io.WriteString(conn, text)
		require.NoError(t, err)
	}
	got := make([]byte, 3)
	_, err = io.ReadFull(conn, got)
	require.NoError(t, err)
	require.Equal(t, "abc", string(got))
	require.GreaterOrEqual(t, time.Since(begun), 2*delay)

	require.NoError(t, s.Near())
	_, err = conn.Read(got)
	require.Error(t, err)
	require.Equal(t, "redis://"+address+"/0", s.by("redis://"+address+"/0", address))
}
