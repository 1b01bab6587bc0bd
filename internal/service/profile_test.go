package service

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

func TestProfilesAreForLoopbackOnly(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	stop() // one that is served ends at once
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		require.NoError(t, serveProfiles(ctx, address, zap.NewAtomicLevel(), zap.NewNop()), address)
	}
	for _, address := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.com:0", "127.0.0.1"} {
		require.ErrorContains(t, serveProfiles(ctx, address, zap.NewAtomicLevel(), zap.NewNop()), "LOVAGE_PPROF_LISTEN", address)
	}
}
