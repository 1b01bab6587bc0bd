package version

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAReleaseSaysItsVersionAndItsCommit(t *testing.T) { //nolint:paralleltest // it sets what the linker sets
	require.NotContains(t, String(), "(")
	release, commit = "0.1.0", "1d2f6229c1a7"
	defer func() { release, commit = "", "" }()
	require.Equal(t, "0.1.0+1d2f6229c1a7", String())
	release = ""
	require.Contains(t, String(), "+1d2f6229c1a7")
}
