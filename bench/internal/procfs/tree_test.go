package procfs

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDescendantsAreTheWholeTreeAndNothingElse(t *testing.T) {
	t.Parallel()
	all := []process{{1, 0, 1}, {2, 1, 2}, {3, 2, 4}, {4, 1, 8}, {5, 3, 16}}
	require.Equal(t, []process{{2, 1, 2}, {3, 2, 4}, {5, 3, 16}}, descendants(2, all))
	require.Empty(t, descendants(9, all))
}

func TestParseProcessCountsChildrenThatHaveEnded(t *testing.T) {
	t.Parallel()
	p, err := parseProcess(7, []byte("7 (a (b) c) S 3 7 7 0 -1 4194560 1 2 3 4 1 2 3 4 20 0"))
	require.NoError(t, err)
	require.Equal(t, process{7, 3, 100 * time.Millisecond}, p)
	_, err = parseProcess(7, []byte("7 (a) S 3"))
	require.Error(t, err)
}

func TestTreeOfThisProcess(t *testing.T) {
	t.Parallel()
	child := exec.CommandContext(t.Context(), "sleep", "60")
	require.NoError(t, child.Start())
	all, err := tree(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, len(all), 1)
	memory, err := TreeMemory(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, memory)
	require.NoError(t, child.Process.Kill())
	require.Error(t, child.Wait())
	_, err = TreeCPU(child.Process.Pid)
	require.ErrorIs(t, err, os.ErrProcessDone)
}
