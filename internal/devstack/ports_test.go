package devstack

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPortIsReservedForOne(t *testing.T) {
	t.Parallel()
	a, err := ReservePort(t.Context(), 0)
	require.NoError(t, err)
	b, err := ReservePort(t.Context(), a.Number())
	require.NoError(t, err)
	defer b.Release()
	require.NotEqual(t, a.Number(), b.Number(), "taken by a reservation, although nobody listens")

	a.Release()
	a.Release()
	c, err := ReservePort(t.Context(), a.Number())
	require.NoError(t, err)
	defer c.Release()
	require.Equal(t, a.Number(), c.Number())
}

func TestPortInUseIsNotTaken(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		require.NoError(t, err)
		addr, ok := l.Addr().(*net.TCPAddr)
		require.True(t, ok)
		p, err := ReservePort(t.Context(), addr.Port)
		require.NoError(t, err)
		require.NotEqual(t, addr.Port, p.Number(), address)
		p.Release()
		require.NoError(t, l.Close())
	}
}
