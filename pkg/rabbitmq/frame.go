package rabbitmq

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// Frames of AMQP 0-9-1 (section 2.3.5): a type, a channel, a size, so many
// bytes, and an end octet.
const (
	frameHeaderSize = 7
	frameTypeMethod = 1
	frameTypeHeader = 2
	frameTypeBody   = 3
	frameTypeBeat   = 8
	frameEnd        = 0xCE
	// frameOverhead is what of a frame is not payload.
	frameOverhead = frameHeaderSize + 1
)

// Methods, by class and number.
const (
	classBasic      = 60
	channelClose    = 20<<16 | 40
	basicPublish    = classBasic<<16 | 40
	basicReturn     = classBasic<<16 | 50
	basicAck        = classBasic<<16 | 80
	basicNack       = classBasic<<16 | 120
	confirmSelectOK = 85<<16 | 11
)

// Properties that a content header has, by their flags.
const (
	flagContentType     = 1 << 15
	flagContentEncoding = 1 << 14
	flagHeaders         = 1 << 13
	flagDeliveryMode    = 1 << 12
	flagPriority        = 1 << 11
	flagCorrelationID   = 1 << 10
	flagReplyTo         = 1 << 9
	flagMessageID       = 1 << 7
)

// appendPublish appends the frames of basic.publish: the method, the content
// header and the body in frames of at most frameMax bytes (0 for any size). The
// library's own takes 80 allocations for the header table of a task. The message
// has passed [checkPublish]; the error, about its headers, is a
// [messages.InvalidError].
func appendPublish(b []byte, channel uint16, frameMax int, a Address, mandatory bool, m *messages.Message) ([]byte, error) {
	b, start := beginFrame(b, frameTypeMethod, channel)
	b = binary.BigEndian.AppendUint32(b, basicPublish)
	b = append(b, 0, 0) // reserved
	b = appendShort(b, a.Exchange)
	b = appendShort(b, a.Key)
	var bits byte
	if mandatory {
		bits = 1
	}
	b = endFrame(append(b, bits), start)

	b, start = beginFrame(b, frameTypeHeader, channel)
	b, err := appendContentHeader(b, m)
	if size := len(b) - start + frameOverhead; err == nil && frameMax > 0 && size > frameMax {
		err = &messages.InvalidError{Field: "headers", Rule: fmt.Sprintf("are too long: a frame of %d bytes, at most %d are allowed", size, frameMax)}
	}
	if err != nil {
		return nil, err
	}
	b = endFrame(b, start)

	most := len(m.Body)
	if frameMax > 0 {
		most = frameMax - frameOverhead
	}
	for rest := m.Body; len(rest) > 0; {
		part := rest[:min(most, len(rest))]
		rest = rest[len(part):]
		b, start = beginFrame(b, frameTypeBody, channel)
		b = endFrame(append(b, part...), start)
	}
	return b, nil
}

func beginFrame(b []byte, kind byte, channel uint16) (_ []byte, start int) {
	b = append(b, kind, byte(channel>>8), byte(channel), 0, 0, 0, 0)
	return b, len(b)
}

func endFrame(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return append(b, frameEnd)
}

// appendContentHeader appends class, weight, body size, flags and properties.
func appendContentHeader(b []byte, m *messages.Message) (_ []byte, err error) {
	flags := uint16(flagDeliveryMode)
	for _, p := range [...]struct {
		flag uint16
		set  bool
	}{
		{flagContentType, m.ContentType != ""},
		{flagContentEncoding, m.ContentEncoding != ""},
		{flagHeaders, len(m.Headers) > 0},
		{flagPriority, m.Priority > 0},
		{flagCorrelationID, m.CorrelationID != ""},
		{flagReplyTo, m.ReplyTo != ""},
		{flagMessageID, m.MessageID != ""},
	} {
		if p.set {
			flags |= p.flag
		}
	}
	b = append(b, 0, classBasic, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(len(m.Body)))
	b = binary.BigEndian.AppendUint16(b, flags)
	b = appendSet(b, m.ContentType)
	b = appendSet(b, m.ContentEncoding)
	if len(m.Headers) > 0 {
		if b, err = appendTable(b, m.Headers); err != nil {
			return nil, err
		}
	}
	b = append(b, amqp.Persistent)
	if m.Priority > 0 {
		b = append(b, m.Priority)
	}
	b = appendSet(b, m.CorrelationID)
	b = appendSet(b, m.ReplyTo)
	return appendSet(b, m.MessageID), nil
}

// appendShort appends a short string; that it is not too long was checked.
func appendShort(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...)
}

// appendSet appends a short string unless it is empty.
func appendSet(b []byte, s string) []byte {
	if s == "" {
		return b
	}
	return appendShort(b, s)
}

// appendTable appends a field table with its length.
func appendTable(b []byte, table map[string]any) (_ []byte, err error) {
	b, start := beginLong(b)
	for name, v := range table {
		if len(name) > maxShortString {
			return nil, &messages.InvalidError{Field: "headers", Rule: fmt.Sprintf("a name is %d bytes long, at most %d are allowed", len(name), maxShortString)}
		}
		if b, err = appendField(appendShort(b, name), v); err != nil {
			return nil, err
		}
	}
	return endLong(b, start), nil
}

// appendField appends a value with the letter of its type, by RabbitMQ's table
// of AMQP 0-9-1 field types: what the library reads is written as it came.
func appendField(b []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case nil:
		return append(b, 'V'), nil
	case string:
		b = append(b, 'S')
		b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
		return append(b, v...), nil
	case bool:
		if v {
			return append(b, 't', 1), nil
		}
		return append(b, 't', 0), nil
	case int32:
		return binary.BigEndian.AppendUint32(append(b, 'I'), uint32(v)), nil
	case map[string]any:
		return appendTable(append(b, 'F'), v)
	case amqp.Table:
		return appendTable(append(b, 'F'), v)
	case []any:
		return appendArray(append(b, 'A'), v)
	case float64:
		return binary.BigEndian.AppendUint64(append(b, 'd'), math.Float64bits(v)), nil
	case []byte:
		b = binary.BigEndian.AppendUint32(append(b, 'x'), uint32(len(v)))
		return append(b, v...), nil
	}
	return appendRareField(b, value)
}

// appendRareField appends what only other senders put into a header.
func appendRareField(b []byte, value any) ([]byte, error) {
	switch v := value.(type) {
	case int:
		return binary.BigEndian.AppendUint64(append(b, 'l'), uint64(v)), nil
	case int64:
		return binary.BigEndian.AppendUint64(append(b, 'l'), uint64(v)), nil
	case uint32:
		return binary.BigEndian.AppendUint32(append(b, 'i'), v), nil
	case int16:
		return binary.BigEndian.AppendUint16(append(b, 's'), uint16(v)), nil
	case uint16:
		return binary.BigEndian.AppendUint16(append(b, 'u'), v), nil
	case int8:
		return append(b, 'b', byte(v)), nil
	case uint8:
		return append(b, 'B', v), nil
	case float32:
		return binary.BigEndian.AppendUint32(append(b, 'f'), math.Float32bits(v)), nil
	case time.Time:
		return binary.BigEndian.AppendUint64(append(b, 'T'), uint64(v.Unix())), nil
	case amqp.Decimal:
		return binary.BigEndian.AppendUint32(append(b, 'D', v.Scale), uint32(v.Value)), nil
	default:
		return nil, &messages.InvalidError{Field: "headers", Rule: fmt.Sprintf("a value of type %T cannot travel in a header", value)}
	}
}

func appendArray(b []byte, list []any) (_ []byte, err error) {
	b, start := beginLong(b)
	for _, v := range list {
		if b, err = appendField(b, v); err != nil {
			return nil, err
		}
	}
	return endLong(b, start), nil
}

func beginLong(b []byte) (_ []byte, start int) {
	b = append(b, 0, 0, 0, 0)
	return b, len(b)
}

func endLong(b []byte, start int) []byte {
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return b
}
