package app

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/service"
)

// settings is what main gives to kong.
type settings struct {
	service.Options
	Config
}

func TestDocumentationHasEverySetting(t *testing.T) {
	t.Parallel()
	documented := documentedSettings(t, "Worker", "Common")
	parser, err := kong.New(&settings{})
	require.NoError(t, err)
	for _, flag := range parser.Model.Flags {
		if flag.Name == "help" {
			continue
		}
		require.Len(t, flag.Envs, 1, flag.Name)
		row, found := documented[flag.Envs[0]]
		require.True(t, found, "docs/configuration.md does not have %s", flag.Envs[0])
		require.Equal(t, "--"+flag.Name, row.flag)
		want := flag.Default
		if flag.IsBool() && want == "" {
			want = "false"
		}
		require.Equal(t, want, row.standard, flag.Name)
		delete(documented, flag.Envs[0])
	}
	require.Empty(t, documented, "docs/configuration.md has settings that do not exist")
}

// setting is a row of a table in docs/configuration.md.
type setting struct{ flag, standard, unit, meaning string }

// documentedSettings reads the tables under these headings, by variable.
func documentedSettings(t *testing.T, headings ...string) map[string]setting {
	t.Helper()
	text, err := os.ReadFile("../../../../docs/configuration.md")
	require.NoError(t, err)
	row := regexp.MustCompile("^\\| `(LOVAGE_[A-Z_]+)` \\| `([^`]+)` \\| (?:`([^`]+)`|none) \\| ([^|]+) \\| ([^|]+) \\|\n$")
	rows := map[string]setting{}
	heading := ""
	for line := range strings.Lines(string(text)) {
		if name, found := strings.CutPrefix(line, "## "); found {
			heading = strings.TrimSpace(name)
		}
		if !slices.Contains(headings, heading) || !strings.HasPrefix(line, "| `") {
			continue
		}
		cells := row.FindStringSubmatch(line)
		require.NotNil(t, cells, "a row that cannot be read: %s", line)
		rows[cells[1]] = setting{flag: cells[2], standard: cells[3], unit: cells[4], meaning: cells[5]}
	}
	return rows
}

func TestEverySettingThatIsWrongIsNamed(t *testing.T) {
	t.Parallel()
	err := Config{Queue: "x.dead", StrictOrder: []string{"a"}, CompressAbove: -1}.Validate()
	for _, name := range []string{"LOVAGE_QUEUE", "LOVAGE_STRICT_ORDER", "LOVAGE_MAX_RESULT", "LOVAGE_COMPRESS_ABOVE", "LOVAGE_CONCURRENCY", "LOVAGE_DRAIN", "LOVAGE_LEASE", "LOVAGE_RESULT_TTL", "LOVAGE_SLEEP_MAX"} {
		require.ErrorContains(t, err, name)
	}
}
