package worker

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestOptionsDefaults(t *testing.T) {
	t.Parallel()
	o := Options{}.withDefaults()

	require.Equal(t, "default", o.Queue)
	require.Equal(t, 10, o.Concurrency)
	require.Equal(t, 30*time.Second, o.Drain)
	require.Equal(t, 15*time.Second, o.Lease)
	require.Equal(t, 24*time.Hour, o.ResultTTL)
	require.Equal(t, 64<<20, o.MaxResult)
	require.Zero(t, o.CompressAbove)
	require.Regexp(t, `^.+-\d+-[0-9a-f]{8}$`, o.Name)
	require.NotNil(t, o.Log)
	first, second := New(Options{}), New(Options{})
	require.NotEqual(t, first.Name(), second.Name(), "each start has a name of its own")
	require.Equal(t, "mine", New(Options{Name: "mine"}).Name())
}

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	good := Options{AMQPURL: "amqp://localhost", RedisURL: "redis://localhost"}
	require.NoError(t, good.Validate())
	good.RedisURL = "redis://a:1,redis://b:2"
	require.NoError(t, good.Validate())
	good.RedisURL = "redis+sentinel://a:1,b:2/0?master=m"
	require.NoError(t, good.Validate())

	err := Options{
		AMQPURL: "http://user:geheim@x", RedisURL: "user:geheim@x", Queue: "a b", Concurrency: -1,
		Drain: -1, Lease: 1, ResultTTL: 1, MaxResult: 64<<20 + 1, CompressAbove: -1, Name: string(make([]byte, 300)),
	}.Validate()

	for _, field := range []string{"AMQPURL: must start with amqp://", "RedisURL: must start with redis://", "Queue:", "Concurrency:", "Drain:", "Lease:", "ResultTTL:", "MaxResult:", "CompressAbove:", "Name:"} {
		require.ErrorContains(t, err, field)
	}
	require.NotContains(t, err.Error(), "geheim", "an error must not show a password")
	require.ErrorContains(t, Options{}.Validate(), "AMQPURL: is required\nRedisURL: is required")
}

func TestStrictOrderNamesEveryQueueOnce(t *testing.T) {
	t.Parallel()
	o := Options{AMQPURL: "amqp://localhost", RedisURL: "redis://localhost", StrictOrder: []string{"high", "default", "high", "x.dead"}, Weights: map[string]int{"high": 2}}
	err := o.Validate()
	for _, complaint := range []string{"StrictOrder: names high twice", `StrictOrder: queue: must not end in ".dead"`, "StrictOrder: leaves nothing to share by Weights"} {
		require.ErrorContains(t, err, complaint)
	}
	o.StrictOrder, o.Weights = []string{"high", "default"}, nil
	require.NoError(t, o.Validate())
	w := New(o)
	Handle(w, "count", func(context.Context, struct{}) (int, error) { return 1, nil })
	require.Equal(t, []string{"high", "default"}, w.Queues())
	Handle(w, "resize", func(context.Context, struct{}) (int, error) { return 1, nil }, WithQueue("images"))
	require.EqualError(t, w.Run(t.Context()), "worker options: StrictOrder: lacks images, which is the queue of resize")
}

func TestErrorsCanBeFoundAndUnwrapped(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	var permanent *PermanentError
	require.ErrorAs(t, Permanent(cause), &permanent)
	require.ErrorIs(t, Permanent(cause), cause)
	require.NoError(t, Permanent(nil))

	var retry *RetryError
	require.ErrorAs(t, RetryAfter(time.Minute, cause), &retry)
	require.Equal(t, time.Minute, retry.After)
	require.ErrorIs(t, RetryAfter(time.Minute, cause), cause)
	require.EqualError(t, RetryAfter(0, nil), "retry requested")

	invalid := &InvalidInputError{Fields: []*messages.InvalidError{{Rule: "must be an object"}, {Field: "/a", Rule: "is required"}}}
	require.EqualError(t, invalid, "invalid input: must be an object; /a: is required")
	require.Len(t, invalid.Unwrap(), 2)
}
