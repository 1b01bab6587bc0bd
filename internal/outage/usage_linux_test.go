//go:build outage

package outage_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// usage of the long-lived gateway.
func (b *bench) usage(t *testing.T) usage {
	t.Helper()
	root := filepath.Join("/proc", strconv.Itoa(b.gateway.PID()))
	entries, err := os.ReadDir(filepath.Join(root, "fd"))
	require.NoError(t, err)
	redis := socketsTo(t, root, b.redisProxy.port())
	u := usage{}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(root, "fd", e.Name()))
		switch {
		case err != nil: // closed meanwhile
		case redis[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")]:
			u.pooled++
		default:
			u.files++
		}
	}
	u.memory = residentBytes(t, root)
	return u
}

// socketsTo returns the inodes of the sockets that lead to a port.
func socketsTo(t *testing.T, root, port string) map[string]bool {
	t.Helper()
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	text, err := os.ReadFile(filepath.Join(root, "net", "tcp"))
	require.NoError(t, err)
	inodes := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		const remote, inode = 2, 9
		if f := strings.Fields(line); len(f) > inode && strings.HasSuffix(f[remote], fmt.Sprintf(":%04X", number)) {
			inodes[f[inode]] = true
		}
	}
	return inodes
}

func residentBytes(t *testing.T, root string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "status"))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "VmRSS:")
	require.True(t, found)
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(t, err)
	return kib << 10
}
