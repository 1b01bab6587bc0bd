package messages_test

import (
	"bufio"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the files under testdata/golden again")
	os.Exit(m.Run())
}

func updating() bool { return flag.Lookup("update").Value.String() == "true" }

// readLines decodes every line of a file under testdata.
func readLines[T any](tb testing.TB, name string) []T {
	tb.Helper()
	file, err := os.Open(filepath.Join("testdata", name))
	require.NoError(tb, err)
	defer func() { require.NoError(tb, file.Close()) }()
	var out []T
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line T
		require.NoError(tb, json.Unmarshal(lines.Bytes(), &line))
		out = append(out, line)
	}
	require.NoError(tb, lines.Err())
	require.NotEmpty(tb, out)
	return out
}
