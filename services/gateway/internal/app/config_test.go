package app

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

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
	documented := documentedSettings(t, "Gateway", "Common")
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

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	require.NoError(t, defaults(t).Validate())
}

// defaults is the configuration of a machine where nothing is set.
func defaults(t *testing.T) Config {
	t.Helper()
	var s settings
	parser, err := kong.New(&s)
	require.NoError(t, err)
	for _, flag := range parser.Model.Flags {
		flag.Tag.Envs = nil
	}
	_, err = parser.Parse(nil)
	require.NoError(t, err)
	return s.Config
}

func TestWithoutCredentialsOnlyLoopbackIsListenedOn(t *testing.T) {
	t.Parallel()
	for listen, loopback := range map[string]bool{
		"127.0.0.1:8080":   true,
		"127.1.2.3:0":      true,
		"localhost:8080":   true,
		"[::1]:8080":       true,
		"0.0.0.0:8080":     false,
		"[::]:8080":        false,
		":8080":            false,
		"192.168.1.2:8080": false,
		"example.com:8080": false,
	} {
		c := defaults(t)
		c.Listen = listen
		if loopback {
			require.NoError(t, c.Validate(), listen)
			continue
		}
		err := c.Validate()
		require.ErrorContains(t, err, "LOVAGE_LISTEN", listen)
		require.ErrorContains(t, err, "LOVAGE_INSECURE_NO_AUTH", "it tells the way out")
		c.InsecureNoAuth = true
		require.NoError(t, c.Validate(), listen)
	}
}

func TestValidateNamesEverySettingAtFault(t *testing.T) {
	t.Parallel()
	err := Config{
		Listen: "8080", ResultTTL: -time.Second, MaxBody: 16<<20 + 1,
		ForeignQueues: []string{"celery", "lovage.dead"}, InsecureNoAuth: true,
		MaxPublishTimeout: time.Hour, MaxQueueDepth: -1, MaxQueueDepths: map[string]int{"mail": -1},
	}.Validate()
	for _, name := range []string{
		"LOVAGE_LISTEN", "LOVAGE_RESULT_TTL", "LOVAGE_PUBLISH_TIMEOUT", "LOVAGE_MAX_BODY", "LOVAGE_FOREIGN_QUEUES",
		"LOVAGE_MAX_PUBLISH_TIMEOUT", "LOVAGE_MAX_IN_FLIGHT", "LOVAGE_MAX_QUEUE_DEPTH: ", "LOVAGE_MAX_QUEUE_DEPTHS", "LOVAGE_MAX_CONNECTIONS",
		"LOVAGE_MAX_STREAMS, ", "LOVAGE_MAX_STREAMS_PER_CALLER",
	} {
		require.ErrorContains(t, err, name)
	}
	c := defaults(t)
	c.MaxBody, c.ForeignQueues = 16<<20, []string{"celery"}
	require.NoError(t, c.Validate(), "the limit itself is allowed")
}

func TestStreamsLeaveConnectionsToOthers(t *testing.T) {
	t.Parallel()
	c := defaults(t)
	require.Equal(t, 5000, c.streams())
	c.MaxConnections = 1000
	require.Equal(t, 750, c.streams())
	c.MaxConnections = 1
	require.Equal(t, 1, c.streams())
}
