package messages_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/pkg/messages"
)

func TestNewIDIsAUUIDv7OfNow(t *testing.T) {
	t.Parallel()
	before := time.Now().Truncate(time.Millisecond)
	seen := map[string]bool{}
	for range 1000 {
		id := messages.NewID()
		require.False(t, seen[id])
		seen[id] = true
		parsed, err := uuid.Parse(id)
		require.NoError(t, err)
		require.Equal(t, uuid.Version(7), parsed.Version())
		require.Equal(t, uuid.RFC4122, parsed.Variant())
		made, ok := messages.IDTime(id)
		require.True(t, ok)
		require.WithinRange(t, made, before, time.Now())
	}
}

func TestIDTimeKnowsOthersFromUUIDv7(t *testing.T) {
	t.Parallel()
	v7, err := uuid.NewV7()
	require.NoError(t, err)
	made, ok := messages.IDTime(v7.String())
	require.True(t, ok)
	seconds, nanos := v7.Time().UnixTime()
	require.WithinDuration(t, time.Unix(seconds, nanos), made, time.Millisecond)
	require.Equal(t, time.UTC, made.Location())

	_, ok = messages.IDTime(strings.ToUpper(v7.String()))
	require.True(t, ok)
	for _, id := range []string{
		"", "fixed-id", uuid.NewString(), strings.ReplaceAll(v7.String(), "-", ""),
		v7.String()[:35] + "x", "0193490f-5d4b-7c3e-ca51-0a1b2c3d4e5f", "0193490f-5d4b-4c3e-8a51-0a1b2c3d4e5f",
		"g193490f-5d4b-7c3e-8a51-0a1b2c3d4e5f", "0193490f+5d4b-7c3e-8a51-0a1b2c3d4e5f", "ffffffff-ffff-7c3e-8a51-0a1b2c3d4e5f",
	} {
		made, ok := messages.IDTime(id)
		require.False(t, ok, id)
		require.True(t, made.IsZero())
	}
}

func TestValidQueue(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"default", "celery", "high.email", "A-1_b", strings.Repeat("q", 100), "dead", "deadly.deadx",
		"lovage", "amqp", "mylovage.x", "celeryevents",
	} {
		require.NoError(t, messages.ValidQueue(name), name)
	}
	for _, name := range []string{
		"", strings.Repeat("q", 101), "a b", "a/b", "ü", "a\n", "a*", "#", "images.dead", ".dead",
		"lovage.dead", "lovage.rejected", "lovage_delayed_27", "celery_delayed_3", "celery_delayed", "amq.gen-x",
		"celery.pidbox", "w1.celery.pidbox", "x.reply.celery.pidbox", "celeryev", "celeryev.123",
	} {
		err := messages.ValidQueue(name)
		var invalid *messages.InvalidError
		require.ErrorAs(t, err, &invalid, name)
		require.Equal(t, "queue", invalid.Field)
	}
}

func TestAttemptOfATask(t *testing.T) {
	t.Parallel()
	task := messages.Task{ID: "a", Run: 1, Retries: 2}
	require.Equal(t, messages.Attempt{ID: "a", Run: 1, Number: 2}, task.Attempt())
}
