package rabbitmq

import (
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// maxShortString is the longest name or property of AMQP 0-9-1; the
	// broker closes the connection on a longer one.
	maxShortString = 255
)

// checkPublish refuses what the broker would punish by closing the channel or
// the whole connection, and with it everybody else's message in flight.
func checkPublish(a Address, m *messages.Message, maxBody int) error {
	for _, f := range [...]struct{ field, value string }{
		{"exchange", a.Exchange},
		{"queue", a.Key},
		{"message_id", m.MessageID},
		{"correlation_id", m.CorrelationID},
		{"reply_to", m.ReplyTo},
		{"content_type", m.ContentType},
		{"content_encoding", m.ContentEncoding},
	} {
		if len(f.value) > maxShortString {
			return &messages.InvalidError{Field: f.field, Rule: fmt.Sprintf("is %d bytes long, at most %d are allowed", len(f.value), maxShortString)}
		}
	}
	if len(m.Body) > maxBody {
		return &messages.InvalidError{Field: "body", Rule: fmt.Sprintf("the message is %d bytes long, at most %d are allowed", len(m.Body), maxBody)}
	}
	return nil
}

func received(d *amqp.Delivery) messages.Message {
	return messages.Message{
		RoutingKey:      d.RoutingKey,
		ContentType:     d.ContentType,
		ContentEncoding: d.ContentEncoding,
		CorrelationID:   d.CorrelationId,
		ReplyTo:         d.ReplyTo,
		MessageID:       d.MessageId,
		Expiration:      d.Expiration,
		Priority:        d.Priority,
		Headers:         d.Headers,
		Body:            d.Body,
	}
}
