package access_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/internal/devstack"
	"github.com/lovage-mq/lovage/pkg/results"
)

func TestMain(m *testing.M) {
	logging.Disable()
	goleak.VerifyTestMain(m)
}

// newRedis is a store with nothing in it.
func newRedis(t *testing.T) (access.Redis, redis.UniversalClient) {
	t.Helper()
	client, err := results.Open(devstack.Redis(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return access.Redis{Client: client}, client
}

// newKey makes a key for a test.
func newKey(t *testing.T, change ...func(*access.Key)) (access.Key, string) {
	t.Helper()
	template := access.Key{Name: "ci", Scopes: []access.Scope{access.Submit}}
	for _, c := range change {
		c(&template)
	}
	key, token, err := access.New(template)
	require.NoError(t, err)
	return key, token
}
