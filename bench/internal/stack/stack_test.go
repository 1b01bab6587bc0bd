package stack

import (
	"strings"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
)

func TestMetricsAreThoseWithoutLabels(t *testing.T) {
	t.Parallel()
	got, err := parseMetrics(strings.NewReader("# HELP a what it is\n# TYPE a gauge\na 3\nb{x=\"1\"} 4\nc 1.5e+06\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]float64{"a": 3, "c": 1.5e6}, got)
	_, err = parseMetrics(strings.NewReader("a b\n"))
	require.Error(t, err)
}

// message is one of two that a gateway sends, different in id and time.
func message(id, created string) amqp.Delivery {
	return amqp.Delivery{
		MessageId: id, CorrelationId: id, ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: []byte("[]"),
		Headers: amqp.Table{"id": id, "root_id": id, "lovage_created": created, "retries": int32(0), "eta": nil},
	}
}

func TestMessagesAreAlikeButForIDAndTime(t *testing.T) {
	t.Parallel()
	require.NoError(t, alike(message("a", "now"), message("b", "later")))
	for name, change := range map[string]func(*amqp.Delivery){
		"a header is missing":      func(d *amqp.Delivery) { delete(d.Headers, "eta") },
		"a header has other value": func(d *amqp.Delivery) { d.Headers["retries"] = int32(1) },
		"the id is not everywhere": func(d *amqp.Delivery) { d.Headers["root_id"] = "c" },
		"no time":                  func(d *amqp.Delivery) { delete(d.Headers, "lovage_created") },
		"another body":             func(d *amqp.Delivery) { d.Body = []byte("{}") },
		"not persistent":           func(d *amqp.Delivery) { d.DeliveryMode = amqp.Transient },
		"another correlation":      func(d *amqp.Delivery) { d.CorrelationId = "c" },
	} {
		changed := message("b", "later")
		change(&changed)
		require.ErrorIs(t, alike(message("a", "now"), changed), errNotAlike, name)
	}
}

func TestBufferGivesBackWhatItGot(t *testing.T) {
	t.Parallel()
	b := &buffer{filled: make(chan struct{}, 1)}
	require.Empty(t, b.take(10))
	for _, part := range []string{"hel", "lo ", "world"} {
		n, err := b.Write([]byte(part))
		require.NoError(t, err)
		require.Equal(t, len(part), n)
	}
	require.Len(t, b.filled, 1)
	<-b.filled
	require.Equal(t, "hello", string(b.take(5)))
	require.Len(t, b.filled, 1, "there is more to take")
	<-b.filled
	require.Equal(t, " world", string(b.take(100)))
	require.Empty(t, b.filled)
}
