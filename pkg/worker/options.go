package worker

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// The values that [Options] take where a field is zero.
const (
	DefaultQueue       = "default"
	DefaultConcurrency = 10
	DefaultDrain       = 30 * time.Second
	DefaultLease       = 15 * time.Second
	DefaultResultTTL   = 24 * time.Hour
	// DefaultConsumerTimeout is RabbitMQ's own.
	DefaultConsumerTimeout = 30 * time.Minute
)

// Options configure a [Worker]. AMQPURL and RedisURL are required, every other
// field has a default.
type Options struct {
	// AMQPURL is where RabbitMQ is: amqp:// or amqps://, several addresses of
	// one cluster separated by commas.
	AMQPURL string
	// AMQPURLFile replaces AMQPURL when it is set. It and the files below
	// (PEM) are read at every connect, so that what is in them changes without
	// a restart.
	AMQPURLFile string
	// AMQPCAFile holds the authorities that sign RabbitMQ's certificate, the
	// system's when empty; AMQPCertFile and AMQPKeyFile our own certificate.
	AMQPCAFile   string
	AMQPCertFile string
	AMQPKeyFile  string
	// Passive declares nothing in RabbitMQ, for a user who may not: everything has
	// been declared by a worker without it. What is missing is named in the log,
	// and waited for.
	Passive bool
	// RedisURL is where Redis is: redis:// or rediss:// for one server, several
	// separated by commas for a cluster, redis+sentinel:// for Sentinel.
	RedisURL string
	// RedisURLFile replaces RedisURL when it is set. User and password in it,
	// and the files below (PEM), are read at every connect.
	RedisURLFile string
	// RedisCAFile holds the authorities that sign Redis's certificate (rediss://),
	// the system's when empty; RedisCertFile and RedisKeyFile our own certificate.
	RedisCAFile   string
	RedisCertFile string
	RedisKeyFile  string
	// Queue is the queue of every task that does not name its own with
	// [WithQueue]; "default" when empty.
	Queue string
	// Concurrency is how many tasks run at the same time; 10 when zero.
	Concurrency int
	// Weights say how the slots are shared between queues that all have work: by
	// their weights, from 1 to 100, which is 1 for a queue that is not named. A
	// queue that is idle leaves its share to the others.
	Weights map[string]int
	// StrictOrder takes the place of Weights: queues in an order, the first one
	// first. A queue is taken from only while all before it are empty, and slots
	// go to the first queue that has a task. It names the queues of all tasks,
	// each once, and perhaps others, from which the same tasks are taken: a
	// submission can name one of those.
	StrictOrder []string
	// Drain is how long running tasks may take to end at shutdown before their
	// context is cancelled with [ErrDrainTimeout]; 30 s when zero.
	Drain time.Duration
	// Lease is how long a task stays with a worker that has stopped answering;
	// 15 s when zero. It is renewed three times as often.
	Lease time.Duration
	// ConsumerTimeout is RabbitMQ's consumer_timeout: after so long it takes back
	// what is not acked, and everything else of the same channel with it. After
	// half of it the worker exchanges the delivery of a task that still runs for
	// a copy. 30 minutes, as in RabbitMQ, when zero; less than zero when the
	// broker has none.
	ConsumerTimeout time.Duration
	// ResultTTL is how long a result is kept; 24 h when zero.
	ResultTTL time.Duration
	// MaxResult is how many bytes of JSON a result may have; 64 MiB, which is the
	// most, when zero. A task that returns more fails for good.
	MaxResult int
	// CompressAbove is how many bytes a result may have to be stored as it is. A
	// larger one is stored compressed, where that makes it smaller; none when
	// zero. The HTTP API and package results read both alike, and Celery clients
	// do not: to them such a result is a string, the zlib of its JSON in base64.
	CompressAbove int
	// Name identifies this start of the worker; "host-pid-random" when empty.
	// Two live workers must not share one.
	Name string
	// Middleware is put around every handler, the first one outermost.
	Middleware []Middleware
	// Metrics receives what the worker counts when it runs: attempts, their
	// outcomes and their times by task, slots, what became of deliveries, and what
	// it publishes. It must not have the metrics of another worker. Nil for nobody.
	Metrics prometheus.Registerer
	// Log receives what the worker has to say; nil for nothing.
	Log *zap.Logger
}

// Validate reports everything that is wrong with the options, joined, each with
// the name of its field. [Worker.Run] calls it.
func (o Options) Validate() error {
	o = o.withDefaults()
	return errors.Join(
		checkBroker(o),
		checkStore(o),
		checkQueue("Queue", o.Queue),
		check(o.Concurrency >= 1 && o.Concurrency <= maxSlots, "Concurrency: must be from 1 to 10000"),
		checkWeights(o.Weights),
		checkStrictOrder(o.StrictOrder),
		check(len(o.Weights) == 0 || len(o.StrictOrder) == 0, "StrictOrder: leaves nothing to share by Weights: set one of the two"),
		check(o.Drain > 0, "Drain: must be positive"),
		check(o.Lease >= time.Second, "Lease: must be at least 1s"),
		check(o.ResultTTL >= time.Second, "ResultTTL: must be at least 1s"),
		check(o.MaxResult > 0 && o.MaxResult <= messages.ResultLimit, fmt.Sprintf("MaxResult: must be from 1 to %d", messages.ResultLimit)),
		check(o.CompressAbove >= 0, "CompressAbove: must not be negative"),
		check(len(o.Name) <= 255, "Name: must have at most 255 bytes"),
	)
}

func (o Options) withDefaults() Options {
	if o.Queue == "" {
		o.Queue = DefaultQueue
	}
	if o.Concurrency == 0 {
		o.Concurrency = DefaultConcurrency
	}
	if o.Drain == 0 {
		o.Drain = DefaultDrain
	}
	if o.Lease == 0 {
		o.Lease = DefaultLease
	}
	if o.ConsumerTimeout == 0 {
		o.ConsumerTimeout = DefaultConsumerTimeout
	}
	if o.ResultTTL == 0 {
		o.ResultTTL = DefaultResultTTL
	}
	if o.MaxResult == 0 {
		o.MaxResult = messages.ResultLimit
	}
	if o.Name == "" {
		o.Name = uniqueName()
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

func checkWeights(weights map[string]int) error {
	var errs []error
	for _, q := range slices.Sorted(maps.Keys(weights)) {
		errs = append(errs, checkQueue("Weights", q),
			check(weights[q] >= 1 && weights[q] <= 100, fmt.Sprintf("Weights: that of %s must be from 1 to 100", q)))
	}
	return errors.Join(errs...)
}

func checkStrictOrder(queues []string) error {
	var errs []error
	for i, q := range queues {
		errs = append(errs, checkQueue("StrictOrder", q),
			check(!slices.Contains(queues[:i], q), fmt.Sprintf("StrictOrder: names %s twice", q)))
	}
	return errors.Join(errs...)
}

func check(ok bool, complaint string) error {
	if ok {
		return nil
	}
	return errors.New(complaint)
}

func checkBroker(o Options) error {
	if o.AMQPURLFile != "" && o.AMQPURL == "" {
		return nil
	}
	return checkURL("AMQPURL", o.AMQPURL, "amqp", "amqps")
}

func checkStore(o Options) error {
	if o.RedisURLFile != "" && o.RedisURL == "" {
		return nil
	}
	return checkURL("RedisURL", o.RedisURL, "redis", "rediss", "redis+sentinel", "rediss+sentinel")
}

// checkURL looks at the scheme only, which is all that can be said without
// connecting. The complaint does not quote the URL: it may hold a password.
func checkURL(field, text string, schemes ...string) error {
	if text == "" {
		return fmt.Errorf("%s: is required", field)
	}
	scheme, _, found := strings.Cut(text, "://")
	if !found || !slices.Contains(schemes, scheme) {
		return fmt.Errorf("%s: must start with %s://", field, strings.Join(schemes, ":// or "))
	}
	return nil
}

func checkQueue(field, queue string) error {
	if err := messages.ValidQueue(queue); err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	return nil
}

// uniqueName tells apart the starts of a worker, also two in one process.
func uniqueName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "unknown"
	}
	random := make([]byte, 4)
	_, _ = rand.Read(random) // never fails: crypto/rand ends the program instead
	return fmt.Sprintf("%s-%d-%s", host, os.Getpid(), hex.EncodeToString(random))
}
