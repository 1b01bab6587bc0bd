package service_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/service"
)

type config struct {
	URL   string         `name:"url" env:"TEST_URL"`
	Key   string         `env:"TEST_KEY" secret:""`
	Other string         `env:"TEST_OTHER" secret:""`
	Wait  time.Duration  `env:"TEST_WAIT" default:"2s"`
	Many  int            `env:"TEST_MANY" default:"3"`
	List  []string       `env:"TEST_LIST"`
	Each  map[string]int `env:"TEST_EACH" mapsep:","`
	Level string         `env:"TEST_LEVEL" default:"low" enum:"low,high"`
	Print bool
}

func TestConfigIsPrintedWithoutSecrets(t *testing.T) { //nolint:paralleltest // it sets variables
	for _, c := range []struct{ url, want string }{
		{"", ""},
		{"amqp://guest:s3cret@host:5672/vhost", "amqp://guest:***@host:5672/vhost"},
		{"amqp://guest:s3c@r/e:t@host/", "amqp://guest:***@host/"},
		{"amqp://a:s3cret@one,amqps://b:s3cret@two/x?auth=plain", "amqp://a:***@one,amqps://b:***@two/x?auth=plain"},
		{"redis://:s3cret@a:6379,b:6379,c:6379", "redis://:***@a:6379,b:6379,c:6379"},
		{"redis://:s3c,ret@a:6379", "redis://:***@a:6379"},
		{"redis+sentinel://u:s3cret@a:1,b:1/0?master=m&sentinel_password=s3cret&pool_size=3", "redis+sentinel://u:***@a:1,b:1/0?master=m&sentinel_password=***&pool_size=3"},
		{"redis://host:6379/0", "redis://host:6379/0"},
	} {
		t.Setenv("TEST_URL", c.url)
		t.Setenv("TEST_KEY", "s3cret")
		t.Setenv("TEST_LIST", "a,b")
		t.Setenv("TEST_EACH", "y=2,x=1")
		var parsed config
		_, err := service.Parse(&parsed, "test", "", []string{"--many=4"})
		require.NoError(t, err)
		var out strings.Builder
		require.NoError(t, service.PrintConfig(&out, &parsed))
		require.Equal(t, "TEST_URL="+c.want+"\nTEST_KEY=***\nTEST_OTHER=\nTEST_WAIT=2s\nTEST_MANY=4\nTEST_LIST=a,b\nTEST_EACH=x=1,y=2\nTEST_LEVEL=low\n", out.String())
	}
}

// Validate is what kong asks when all is read.
func (c *config) Validate() error {
	if c.Key == "" {
		return errors.New("TEST_KEY: is required")
	}
	return nil
}

func TestEveryVariableThatIsWrongIsNamed(t *testing.T) { //nolint:paralleltest // it sets variables
	t.Setenv("TEST_WAIT", "soon")
	t.Setenv("TEST_MANY", "few")
	t.Setenv("TEST_EACH", "x=many")
	t.Setenv("TEST_LEVEL", "medium")
	t.Setenv("TEST_LIST", "fine")
	_, err := service.Parse(new(config), "test", "", nil)
	for _, name := range []string{"TEST_WAIT", "TEST_MANY", "TEST_EACH", "TEST_LEVEL", "TEST_KEY"} {
		require.ErrorContains(t, err, name+": ")
	}
	require.NotContains(t, err.Error(), "TEST_LIST")
}
