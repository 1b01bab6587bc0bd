package app

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/configdoc"
	"github.com/lovage-mq/lovage/internal/service"
	"github.com/lovage-mq/lovage/internal/settings"
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
	want := configdoc.Tables(string(page), &options{}, "Gateway", "Common")
	if os.Getenv("LOVAGE_GENERATE") != "" {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o600))
		return
	}
	require.Equal(t, want, string(page), "make generate brings the tables up to date")
	require.NotContains(t, want, "| text |", "a new setting needs its unit and its meaning")
}

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	require.NoError(t, defaults(t).Validate())
}

// defaults is the configuration of a machine where nothing is set.
func defaults(t *testing.T) Config {
	t.Helper()
	var o options
	_, err := settings.Parse(&o, nil, func(string) (string, bool) { return "", false })
	require.NoError(t, err)
	return o.Config
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
		"LOVAGE_LISTEN", "LOVAGE_AMQP_URL", "LOVAGE_REDIS_URL", "LOVAGE_RESULT_TTL", "LOVAGE_PUBLISH_TIMEOUT", "LOVAGE_MAX_BODY", "LOVAGE_FOREIGN_QUEUES",
		"LOVAGE_MAX_PUBLISH_TIMEOUT", "LOVAGE_MAX_IN_FLIGHT", "LOVAGE_MAX_QUEUE_DEPTH: ", "LOVAGE_MAX_QUEUE_DEPTHS", "LOVAGE_MAX_CONNECTIONS",
		"LOVAGE_MAX_STREAMS, ", "LOVAGE_MAX_STREAMS_PER_CALLER",
	} {
		require.ErrorContains(t, err, name)
	}
	c := defaults(t)
	c.MaxBody, c.ForeignQueues = 16<<20, []string{"celery"}
	require.NoError(t, c.Validate(), "the limit itself is allowed")
}

func TestCallbacksNeedASecret(t *testing.T) {
	t.Parallel()
	secret := "whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	c := defaults(t)
	c.CallbackAllow = []string{"hooks.example.com"}
	require.ErrorContains(t, c.Validate(), "LOVAGE_CALLBACK_SECRET")
	c.CallbackSecret = secret + "," + secret
	require.NoError(t, c.Validate())
	c.CallbackSecret = "whsec_short"
	err := c.Validate()
	require.ErrorContains(t, err, "LOVAGE_CALLBACK_SECRET")
	require.NotContains(t, err.Error(), "short")
	c.CallbackFile = filepath.Join(t.TempDir(), "secret")
	require.ErrorContains(t, c.Validate(), "LOVAGE_CALLBACK_SECRET_FILE")
	require.NoError(t, os.WriteFile(c.CallbackFile, []byte(secret+"\n"+secret+"\n"), 0o600))
	require.NoError(t, c.Validate())
	c.CallbackAllow = []string{"https://hooks.example.com"}
	require.ErrorContains(t, c.Validate(), "LOVAGE_CALLBACK_ALLOW")
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

// What is a secret by its name is hidden when the settings are printed.
func TestSecretsAreMarked(t *testing.T) {
	t.Parallel()
	for field := range reflect.TypeFor[Config]().Fields() {
		if name := field.Tag.Get("env"); regexp.MustCompile(`(SECRET|PASSWORD|TOKEN)$`).MatchString(name) {
			_, marked := field.Tag.Lookup("secret")
			require.True(t, marked, name)
		}
	}
}
