package app

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/configdoc"
	"github.com/lovage-mq/lovage/internal/service"
)

// options are those of main.
type options struct {
	service.Options
	Config
}

// The tables of docs/configuration.md are generated: by this test, when
// LOVAGE_GENERATE is set.
func TestDocumentationHasEverySetting(t *testing.T) {
	t.Parallel()
	const path = "../../../../docs/configuration.md"
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	want := configdoc.Tables(string(page), &options{}, "Worker", "Common")
	if os.Getenv("LOVAGE_GENERATE") != "" {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
		return
	}
	require.Equal(t, want, string(page), "make generate brings the tables up to date")
	require.NotContains(t, want, "| text |", "a new setting needs its unit and its meaning")
}

func TestEverySettingThatIsWrongIsNamed(t *testing.T) {
	t.Parallel()
	err := Config{Queue: "x.dead", StrictOrder: []string{"a"}, CompressAbove: -1}.Validate()
	for _, name := range []string{"LOVAGE_AMQP_URL", "LOVAGE_REDIS_URL", "LOVAGE_QUEUE", "LOVAGE_STRICT_ORDER", "LOVAGE_MAX_RESULT", "LOVAGE_COMPRESS_ABOVE", "LOVAGE_CONCURRENCY", "LOVAGE_DRAIN", "LOVAGE_LEASE", "LOVAGE_RESULT_TTL", "LOVAGE_SLEEP_MAX"} {
		require.ErrorContains(t, err, name)
	}
}
