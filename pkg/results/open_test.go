package results

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

func TestOpenReadsEveryKindOfAddress(t *testing.T) {
	t.Parallel()
	for rawURL, want := range map[string]redis.UniversalOptions{
		"redis://localhost":                   {Addrs: []string{"localhost:6379"}},
		"redis://":                            {Addrs: []string{"localhost:6379"}},
		"redis://u:p%40x@h:1/3":               {Addrs: []string{"h:1"}, Username: "u", Password: "p@x", DB: 3},
		"redis://:p@[::1]:7":                  {Addrs: []string{"[::1]:7"}, Password: "p"},
		"redis://u:p@a:1,b:2,c":               {Addrs: []string{"a:1", "b:2", "c:6379"}, Username: "u", Password: "p", IsClusterMode: true},
		"redis://u:p@a:1,redis://u:p@b:2":     {Addrs: []string{"a:1", "b:2"}, Username: "u", Password: "p", IsClusterMode: true},
		"redis://a:1?cluster=true":            {Addrs: []string{"a:1"}, IsClusterMode: true},
		"redis+sentinel://a,b:2/4?master=m":   {Addrs: []string{"a:26379", "b:2"}, MasterName: "m", DB: 4},
		"redis+sentinel://:p@a:1?master=m":    {Addrs: []string{"a:1"}, MasterName: "m", Password: "p"},
		"redis://a:1,b:2?client_name=gateway": {Addrs: []string{"a:1", "b:2"}, IsClusterMode: true, ClientName: "gateway"},
		"redis+sentinel://a?master=m&sentinel_user=su&sentinel_password=sp": {Addrs: []string{"a:26379"}, MasterName: "m", SentinelUsername: "su", SentinelPassword: "sp"},
	} {
		got, err := parse(rawURL)
		require.NoError(t, err, rawURL)
		require.Equal(t, want, redis.UniversalOptions{
			Addrs: got.Addrs, Username: got.Username, Password: got.Password, DB: got.DB, ClientName: got.ClientName,
			MasterName: got.MasterName, IsClusterMode: got.IsClusterMode,
			SentinelUsername: got.SentinelUsername, SentinelPassword: got.SentinelPassword,
		}, rawURL)
	}
}

func TestOpenChecksEachNodeAgainstItsOwnName(t *testing.T) {
	t.Parallel()
	one, err := parse("rediss://a.example:1")
	require.NoError(t, err)
	require.Equal(t, "a.example", one.TLSConfig.ServerName)
	for _, many := range []string{"rediss://a.example:1,b.example:2", "rediss+sentinel://a.example?master=m"} {
		opts, err := parse(many)
		require.NoError(t, err)
		require.NotNil(t, opts.TLSConfig)
		require.Empty(t, opts.TLSConfig.ServerName)
	}
}

func TestOpenBoundsEverythingUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	opts, err := parse("redis://a")
	require.NoError(t, err)
	require.True(t, opts.ContextTimeoutEnabled)
	require.Equal(t, []time.Duration{time.Second, time.Second, time.Second, time.Second},
		[]time.Duration{opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout, opts.PoolTimeout})
	require.Equal(t, []int{-1, 1, 32, -1}, []int{opts.MaxRetries, opts.DialerRetries, opts.PoolSize, opts.PipelinePoolSize})
	opts, err = parse("redis://a?read_timeout=3s&pool_size=5&max_retries=2")
	require.NoError(t, err)
	require.Equal(t, 3*time.Second, opts.ReadTimeout)
	require.Equal(t, []int{2, 5}, []int{opts.MaxRetries, opts.PoolSize})
}

func TestOpenRefusesWhatItDoesNotUnderstandWithoutRepeatingThePassword(t *testing.T) {
	t.Parallel()
	for _, rawURL := range []string{
		"", "secret", "localhost:6379", "amqp://u:secret@a", "redis://u:secret@a:port", "redis://u:secret@a/x", "redis://u:secret@a/1/2",
		"redis://u:secret@a?nonsense=1", "redis+sentinel://u:secret@a", "redis://u:secret@a?master=m",
		"redis://u:secret@a,b/1", "redis://u:secret@a:1?cluster=true&db=2", "redis://u:sec%zzret@secret", "redis://u:secret@a b",
	} {
		_, err := Open(rawURL)
		require.ErrorContains(t, err, "redis URL", rawURL)
		require.NotContains(t, err.Error(), "secret", rawURL)
	}
}
