package stack

import (
	"bufio"
	"io"
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

// frame is one of an AMQP connection.
func frame(channel byte, payload string) string {
	return "\x01\x00" + string(rune(channel)) + "\x00\x00\x00" + string(rune(len(payload))) + payload + "\xce"
}

func TestFramesComeOutInTheOrderOfTheirChannel(t *testing.T) {
	t.Parallel()
	const protocol = "AMQP\x00\x00\x09\x01"
	f := newFrames()
	sent := protocol + frame(1, "a") + frame(2, "b") + frame(1, "c") + frame(1, "d") + frame(2, "")
	require.ErrorIs(t, f.readFrom(bufio.NewReader(strings.NewReader(sent))), io.EOF)
	require.Len(t, f.come, 1)
	require.Equal(t, protocol+frame(1, "a")+frame(1, "c")+frame(2, "b")+frame(2, ""), string(f.take(2)))
	require.Equal(t, frame(1, "d"), string(f.take(all)))
	require.Empty(t, f.take(all))
}

func TestFrameThatIsCutOffIsNotHandedOn(t *testing.T) {
	t.Parallel()
	f := newFrames()
	sent := frame(1, "a")
	require.Error(t, f.readFrom(bufio.NewReader(strings.NewReader("AMQP\x00\x00\x09\x01"+sent[:len(sent)-1]))))
	require.Equal(t, "AMQP\x00\x00\x09\x01", string(f.take(all)))
}
