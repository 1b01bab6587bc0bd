package results

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	// ioTimeout bounds a dial, a read and a write each, and the wait for a
	// free connection.
	ioTimeout = time.Second
	// poolSize bounds the connections to one node. Calls are short and carry
	// many commands each, so few connections are enough.
	poolSize = 32
)

// Open returns a client for a Redis URL; it does not connect yet.
//
//	redis://user:password@host:6379/0                      one server
//	rediss://host:6379                                     the same over TLS
//	redis://a:6379,b:6379,c:6379                           a cluster
//	redis://host:6379?cluster=true                         a cluster with one seed
//	redis+sentinel://a:26379,b:26379/0?master=name         a master behind Sentinel
//
// Further hosts may repeat the scheme. The query takes go-redis's own
// parameters as well (dial_timeout, read_timeout, pool_size and so on). With
// Sentinel, user and password are the master's; those of the sentinels are the
// parameters sentinel_user and sentinel_password.
func Open(rawURL string) (redis.UniversalClient, error) {
	opts, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	return redis.NewUniversalClient(opts), nil
}

// CheckURL says what is wrong with a URL for [Open], without its password.
func CheckURL(rawURL string) error {
	_, err := parse(rawURL)
	return err
}

// parse turns a URL of Open into options.
func parse(rawURL string) (*redis.UniversalOptions, error) {
	first, addrs, err := splitHosts(rawURL)
	if err != nil {
		return nil, err
	}
	scheme, sentinel := strings.CutSuffix(first.Scheme, "+sentinel")
	first.Scheme = scheme
	extra := takeParams(first, "master", "cluster", "sentinel_user", "sentinel_password")
	base, err := redis.ParseURL(first.String())
	if err != nil {
		return nil, fmt.Errorf("parse redis URL: %w", redact(err))
	}
	if sentinel != (extra["master"] != "") {
		return nil, errors.New("parse redis URL: the parameter master goes with the scheme redis+sentinel, and it must be given there")
	}
	opts := universal(base)
	opts.Addrs = addrs
	opts.MasterName = extra["master"]
	opts.SentinelUsername, opts.SentinelPassword = extra["sentinel_user"], extra["sentinel_password"]
	opts.IsClusterMode = !sentinel && (len(addrs) > 1 || extra["cluster"] == "true")
	if opts.IsClusterMode && opts.DB != 0 {
		return nil, errors.New("parse redis URL: a cluster has no database but 0")
	}
	if opts.TLSConfig != nil && (sentinel || opts.IsClusterMode) {
		// The certificate of each node is checked against its own name.
		opts.TLSConfig.ServerName = ""
	}
	return opts, nil
}

// universal sets our bounds wherever the URL did not ask for something else.
func universal(o *redis.Options) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		DB: o.DB, Username: o.Username, Password: o.Password, ClientName: o.ClientName,
		Protocol: o.Protocol, TLSConfig: o.TLSConfig,
		// Our own callers decide about a second try: they know whether the
		// first may have been carried out, and how long anybody still waits.
		MaxRetries:      or(o.MaxRetries, -1),
		MinRetryBackoff: o.MinRetryBackoff, MaxRetryBackoff: o.MaxRetryBackoff,
		DialTimeout: or(o.DialTimeout, ioTimeout), DialerRetries: 1,
		ReadTimeout: or(o.ReadTimeout, ioTimeout), WriteTimeout: or(o.WriteTimeout, ioTimeout),
		ContextTimeoutEnabled: true,
		PoolFIFO:              o.PoolFIFO,
		PoolSize:              or(o.PoolSize, poolSize), PoolTimeout: or(o.PoolTimeout, ioTimeout),
		// One pool, so that its size is the bound.
		PipelinePoolSize: or(o.PipelinePoolSize, -1),
		MinIdleConns:     o.MinIdleConns, MaxIdleConns: o.MaxIdleConns,
		MaxActiveConns: o.MaxActiveConns, MaxConcurrentDials: o.MaxConcurrentDials,
		ConnMaxIdleTime: o.ConnMaxIdleTime, ConnMaxLifetime: o.ConnMaxLifetime,
		ConnMaxLifetimeJitter: o.ConnMaxLifetimeJitter,
		// A protocol of Redis's managed service; nobody else answers it.
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// splitHosts parses the URL with its first host alone, and lists all hosts.
func splitHosts(rawURL string) (*url.URL, []string, error) {
	scheme, rest, found := strings.Cut(rawURL, "://")
	if !found {
		return nil, nil, errors.New("parse redis URL: no scheme, want redis://, rediss:// or redis+sentinel://")
	}
	parts := strings.Split(rest, ",")
	last := len(parts) - 1
	var hosts []string
	for i, part := range parts {
		part = strings.TrimPrefix(strings.TrimSpace(part), scheme+"://")
		if i > 0 {
			part = part[strings.LastIndex(part, "@")+1:]
		}
		parts[i] = part
		hosts = append(hosts, part)
	}
	// Path and query stand after the last host, where there is more than one.
	tail := ""
	if cut := strings.IndexAny(hosts[last], "/?"); last > 0 && cut >= 0 {
		hosts[last], tail = hosts[last][:cut], hosts[last][cut:]
	}
	u, err := url.Parse(scheme + "://" + parts[0] + tail)
	if err != nil {
		return nil, nil, errors.New("parse redis URL: not a URL")
	}
	port := "6379"
	if strings.HasSuffix(scheme, "+sentinel") {
		port = "26379"
	}
	addrs := make([]string, 0, len(hosts))
	for i, host := range hosts {
		if i == 0 {
			host = u.Host
		}
		addrs = append(addrs, withPort(host, port))
	}
	return u, addrs, nil
}

func withPort(host, port string) string {
	u := url.URL{Host: host}
	name := u.Hostname()
	if name == "" {
		name = "localhost"
	}
	return net.JoinHostPort(name, or(u.Port(), port))
}

// takeParams removes our own parameters from the query, because go-redis
// refuses those it does not know.
func takeParams(u *url.URL, names ...string) map[string]string {
	query := u.Query()
	taken := make(map[string]string, len(names))
	for _, name := range names {
		taken[name] = query.Get(name)
		query.Del(name)
	}
	u.RawQuery = query.Encode()
	return taken
}

// redact drops the URL from a parse error: it carries the password.
func redact(err error) error {
	if parseErr, ok := errors.AsType[*url.Error](err); ok {
		return parseErr.Err
	}
	return err
}
