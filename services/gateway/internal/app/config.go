package app

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/internal/outbound"
	"github.com/lovage-mq/lovage/pkg/messages"
	"github.com/lovage-mq/lovage/pkg/rabbitmq"
	"github.com/lovage-mq/lovage/pkg/results"
	"github.com/lovage-mq/lovage/services/gateway/internal/webhook"
)

const (
	// longestPublish bounds LOVAGE_MAX_PUBLISH_TIMEOUT: at the stop of the
	// gateway a submission is waited for as long.
	longestPublish = 5 * time.Minute
	// mostInFlight bounds LOVAGE_MAX_IN_FLIGHT: each may cost 35 kB.
	mostInFlight = 100_000
)

//go:generate env LOVAGE_GENERATE=true go test -count=1 -run=^TestDocumentationHasEverySetting$ .

// Config is everything that can be set, by flag or by environment variable.
type Config struct {
	Listen            string         `env:"LOVAGE_LISTEN" default:"127.0.0.1:8080" help:"Address of the HTTP API."`
	AMQPURL           string         `name:"amqp-url" env:"LOVAGE_AMQP_URL" default:"amqp://guest:guest@127.0.0.1:5672/" help:"RabbitMQ, several addresses separated by commas."`
	AMQPURLFile       string         `name:"amqp-url-file" env:"LOVAGE_AMQP_URL_FILE" type:"path" help:"File with the addresses of RabbitMQ, read at every connect; replaces --amqp-url."`
	AMQPCAFile        string         `name:"amqp-ca-file" env:"LOVAGE_AMQP_CA_FILE" type:"path" help:"Authorities (PEM) that sign RabbitMQ's certificate; the system's by default."`
	AMQPCertFile      string         `name:"amqp-cert-file" env:"LOVAGE_AMQP_CERT_FILE" type:"path" help:"Client certificate (PEM) for RabbitMQ."`
	AMQPKeyFile       string         `name:"amqp-key-file" env:"LOVAGE_AMQP_KEY_FILE" type:"path" help:"Key (PEM) of the client certificate."`
	AMQPPassive       bool           `name:"amqp-passive" env:"LOVAGE_AMQP_PASSIVE" help:"Declare nothing in RabbitMQ: everything is there already, and the user may not configure."`
	ManagementURL     string         `name:"management-url" env:"LOVAGE_MANAGEMENT_URL" help:"RabbitMQ's management API, for rates and ages of queues; without it queues are counted over AMQP."`
	RedisURL          string         `name:"redis-url" env:"LOVAGE_REDIS_URL" default:"redis://127.0.0.1:6379/0" help:"Redis."`
	RedisURLFile      string         `name:"redis-url-file" env:"LOVAGE_REDIS_URL_FILE" type:"path" help:"File with the address of Redis, whose user and password are read at every connect; replaces --redis-url."`
	RedisCAFile       string         `name:"redis-ca-file" env:"LOVAGE_REDIS_CA_FILE" type:"path" help:"Authorities (PEM) that sign Redis's certificate (rediss://); the system's by default."`
	RedisCertFile     string         `name:"redis-cert-file" env:"LOVAGE_REDIS_CERT_FILE" type:"path" help:"Client certificate (PEM) for Redis."`
	RedisKeyFile      string         `name:"redis-key-file" env:"LOVAGE_REDIS_KEY_FILE" type:"path" help:"Key (PEM) of the client certificate."`
	ResultTTL         time.Duration  `name:"result-ttl" env:"LOVAGE_RESULT_TTL" default:"24h" help:"How long a result is kept."`
	PublishTimeout    time.Duration  `name:"publish-timeout" env:"LOVAGE_PUBLISH_TIMEOUT" default:"2s" help:"How long a submission may wait for RabbitMQ."`
	MaxPublishTimeout time.Duration  `name:"max-publish-timeout" env:"LOVAGE_MAX_PUBLISH_TIMEOUT" default:"30s" help:"The longest Request-Timeout that a client may ask for."`
	MaxInFlight       int            `name:"max-in-flight" env:"LOVAGE_MAX_IN_FLIGHT" default:"4000" help:"How many messages may wait for RabbitMQ's confirm."`
	MaxQueueDepth     int            `name:"max-queue-depth" env:"LOVAGE_MAX_QUEUE_DEPTH" default:"2000000" help:"How many messages may wait in a queue before submissions to it are refused; 0 for any number."`
	MaxQueueDepths    map[string]int `name:"max-queue-depths" env:"LOVAGE_MAX_QUEUE_DEPTHS" help:"The same for single queues, as queue=number."`
	MaxConnections    int            `name:"max-connections" env:"LOVAGE_MAX_CONNECTIONS" default:"10000" help:"How many connections may be open at a time; further ones wait."`
	MaxStreams        int            `name:"max-streams" env:"LOVAGE_MAX_STREAMS" default:"5000" help:"How many event streams may be open at a time, of three quarters of the connections at most."`
	MaxStreamsEach    int            `name:"max-streams-per-caller" env:"LOVAGE_MAX_STREAMS_PER_CALLER" default:"500" help:"The same of one caller."`
	MaxBody           int64          `name:"max-body" env:"LOVAGE_MAX_BODY" default:"1048576" help:"Largest request body in bytes."`
	AllowedHosts      []string       `name:"allowed-hosts" env:"LOVAGE_ALLOWED_HOSTS" help:"Names by which clients may address the gateway, beside localhost and the address it listens on."`
	ForeignQueues     []string       `name:"foreign-queues" env:"LOVAGE_FOREIGN_QUEUES" help:"Queues that Celery declared and serves."`
	APIKeysFile       string         `name:"api-keys-file" env:"LOVAGE_API_KEYS_FILE" type:"path" help:"File with the API keys, as lovage keys writes it; read again when it changes."`
	APIKeysRedis      bool           `name:"api-keys-redis" env:"LOVAGE_API_KEYS_REDIS" help:"Ask everybody for one of the API keys that are kept in Redis."`
	SessionTTL        time.Duration  `name:"session-ttl" env:"LOVAGE_SESSION_TTL" default:"12h" help:"How long a login to the console lasts."`
	RateLimit         float64        `name:"rate-limit" env:"LOVAGE_RATE_LIMIT" default:"0" help:"How many requests a second each credential may send that has no rate of its own; 0 for any number."`
	RateBurst         int            `name:"rate-burst" env:"LOVAGE_RATE_BURST" default:"0" help:"How many of them at once; 0 for as many as in a second."`
	TLSCertFile       string         `name:"tls-cert-file" env:"LOVAGE_TLS_CERT_FILE" type:"path" help:"Certificate (PEM) of the listener, with those between it and its authority; read again when it changes."`
	TLSKeyFile        string         `name:"tls-key-file" env:"LOVAGE_TLS_KEY_FILE" type:"path" help:"Key (PEM) of the certificate."`
	CallbackAllow     []string       `name:"callback-allow" env:"LOVAGE_CALLBACK_ALLOW" help:"Hosts that may be called back when a task has ended."`
	CallbackSecret    string         `name:"callback-secret" env:"LOVAGE_CALLBACK_SECRET" secret:"" help:"What callbacks are signed with, whsec_ and base64; several separated by commas, the newest first."`
	CallbackFile      string         `name:"callback-secret-file" env:"LOVAGE_CALLBACK_SECRET_FILE" type:"path" help:"File with these secrets, read at every callback; replaces --callback-secret."`
	InsecureNoAuth    bool           `name:"insecure-no-auth" env:"LOVAGE_INSECURE_NO_AUTH" help:"Listen on other than loopback addresses although nobody has to show credentials."`
	ShutdownDelay     time.Duration  `name:"shutdown-delay" env:"LOVAGE_SHUTDOWN_DELAY" default:"0s" help:"How long to go on serving after SIGTERM, for load balancers to look elsewhere."`
}

// Validate reports everything that is wrong, each with the name of its setting.
func (c Config) Validate() error {
	errs := []error{c.checkListen()}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"LOVAGE_RESULT_TTL", c.ResultTTL}, {"LOVAGE_SESSION_TTL", c.SessionTTL}, {"LOVAGE_PUBLISH_TIMEOUT", c.PublishTimeout}, {"LOVAGE_MAX_PUBLISH_TIMEOUT", c.MaxPublishTimeout}} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("%s: must be positive, is %v", d.name, d.value))
		}
	}
	if c.MaxBody < 1 || c.MaxBody > 16<<20 {
		errs = append(errs, fmt.Errorf("LOVAGE_MAX_BODY: must be from 1 to %d (RabbitMQ's largest message), is %d", 16<<20, c.MaxBody))
	}
	if c.MaxPublishTimeout > longestPublish || c.PublishTimeout > longestPublish {
		errs = append(errs, fmt.Errorf("LOVAGE_MAX_PUBLISH_TIMEOUT, LOVAGE_PUBLISH_TIMEOUT: must be at most %v, are %v and %v", longestPublish, c.MaxPublishTimeout, c.PublishTimeout))
	}
	if c.MaxInFlight < 1 || c.MaxInFlight > mostInFlight {
		errs = append(errs, fmt.Errorf("LOVAGE_MAX_IN_FLIGHT: must be from 1 to %d, is %d", mostInFlight, c.MaxInFlight))
	}
	if c.MaxConnections < 1 {
		errs = append(errs, fmt.Errorf("LOVAGE_MAX_CONNECTIONS: must be at least 1, is %d", c.MaxConnections))
	}
	if c.MaxStreams < 1 || c.MaxStreamsEach < 1 {
		errs = append(errs, fmt.Errorf("LOVAGE_MAX_STREAMS, LOVAGE_MAX_STREAMS_PER_CALLER: must be at least 1, are %d and %d", c.MaxStreams, c.MaxStreamsEach))
	}
	if _, err := access.NewRate(c.RateLimit, c.RateBurst); err != nil {
		errs = append(errs, fmt.Errorf("LOVAGE_RATE_LIMIT, LOVAGE_RATE_BURST: %w", err))
	}
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		errs = append(errs, errors.New("LOVAGE_TLS_CERT_FILE, LOVAGE_TLS_KEY_FILE: one goes with the other"))
	}
	errs = append(errs, c.checkServers(), errors.Join(c.checkDepths()...), errors.Join(c.checkCallbacks()...))
	for _, q := range c.ForeignQueues {
		if err := messages.ValidQueue(q); err != nil {
			errs = append(errs, fmt.Errorf("LOVAGE_FOREIGN_QUEUES: %w", err))
		}
	}
	return errors.Join(errs...)
}

// checkServers looks at the addresses without asking anybody.
func (c Config) checkServers() error {
	var errs []error
	if _, err := rabbitmq.SplitURLs(c.AMQPURL); err != nil && c.AMQPURLFile == "" {
		errs = append(errs, fmt.Errorf("LOVAGE_AMQP_URL: %w", err))
	}
	if err := results.CheckURL(c.RedisURL); err != nil {
		errs = append(errs, fmt.Errorf("LOVAGE_REDIS_URL: %w", err))
	}
	return errors.Join(errs...)
}

func (c Config) checkDepths() (errs []error) {
	if c.MaxQueueDepth < 0 {
		errs = append(errs, fmt.Errorf("LOVAGE_MAX_QUEUE_DEPTH: must not be negative, is %d", c.MaxQueueDepth))
	}
	for queue, limit := range c.MaxQueueDepths {
		if err := messages.ValidQueue(queue); err != nil {
			errs = append(errs, fmt.Errorf("LOVAGE_MAX_QUEUE_DEPTHS: %w", err))
		}
		if limit < 0 {
			errs = append(errs, fmt.Errorf("LOVAGE_MAX_QUEUE_DEPTHS: must not be negative, is %d for %q", limit, queue))
		}
	}
	return errs
}

// checkCallbacks wants something to sign with where a host may be called.
func (c Config) checkCallbacks() (errs []error) {
	allow, err := outbound.ParseAllowList("LOVAGE_CALLBACK_ALLOW", c.CallbackAllow)
	if err != nil {
		errs = append(errs, err)
	}
	if allow.Empty() && c.CallbackSecret == "" {
		return errs
	}
	if _, err := c.callbackSecrets(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// callbackSecrets reads what callbacks are signed with.
func (c Config) callbackSecrets() ([]webhook.Secret, error) {
	name, text := "LOVAGE_CALLBACK_SECRET", c.CallbackSecret
	if c.CallbackFile != "" {
		name = "LOVAGE_CALLBACK_SECRET_FILE"
		read, err := os.ReadFile(c.CallbackFile)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		text = string(read)
	}
	secrets, err := webhook.ParseSecrets(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return secrets, nil
}

// streams leaves connections to those who want an answer.
func (c Config) streams() int { return max(1, min(c.MaxStreams, c.MaxConnections*3/4)) }

// secured says whether everybody has to show credentials.
func (c Config) secured() bool { return c.APIKeysFile != "" || c.APIKeysRedis }

// unguarded says whether that is not so although others may reach the address.
func (c Config) unguarded() bool { return c.InsecureNoAuth && !c.secured() }

// checkListen keeps a gateway without credentials on loopback.
func (c Config) checkListen() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("LOVAGE_LISTEN: %w", err)
	}
	if ip := net.ParseIP(host); c.secured() || c.InsecureNoAuth || host == "localhost" || (ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("LOVAGE_LISTEN: %s is reachable from elsewhere and nobody has to show credentials; "+
		"listen on 127.0.0.1, make API keys (lovage keys create, LOVAGE_API_KEYS_FILE or LOVAGE_API_KEYS_REDIS), or set LOVAGE_INSECURE_NO_AUTH=true where something else keeps strangers out", c.Listen)
}
