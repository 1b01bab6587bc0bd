package procfs

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCPUIsUserPlusSystemTime(t *testing.T) {
	t.Parallel()
	got, err := parseCPU([]byte("42 (a (b) c) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 7 8 20 0 1 0 5 6\n"))
	require.NoError(t, err)
	require.Equal(t, 2*time.Second, got)
}

func TestCPUOfAnUnknownFormatIsAnError(t *testing.T) {
	t.Parallel()
	for _, stat := range []string{"", "42 (x) S 1 2", "42 (x) S 1 42 42 0 -1 4194560 1 2 3 4 a b"} {
		_, err := parseCPU([]byte(stat))
		require.Error(t, err, stat)
	}
}

func TestMachineIsAllButIdleAndWaiting(t *testing.T) {
	t.Parallel()
	got, err := parseMachine([]byte("cpu  100 20 30 9000 800 4 5 41 7 7\ncpu0 1 2 3 4 5 6 7 8 9 9\n"))
	require.NoError(t, err)
	require.Equal(t, 2*time.Second, got)
	_, err = parseMachine([]byte("cpu  100 20\n"))
	require.Error(t, err)
	_, err = Machine()
	require.NoError(t, err)
}

func TestRSSIsInBytes(t *testing.T) {
	t.Parallel()
	got, err := parseRSS([]byte("VmHWM:\t    9000 kB\nVmRSS:\t    8200 kB\nRssAnon:\t 1 kB\n"))
	require.NoError(t, err)
	require.EqualValues(t, 8200<<10, got)
}

func TestOwnProcessHasMemory(t *testing.T) {
	t.Parallel()
	rss, err := RSS(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, rss)
	_, err = CPU(os.Getpid())
	require.NoError(t, err)
}
