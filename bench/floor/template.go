package main

import (
	"cmp"
	"maps"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/lovage-mq/lovage/pkg/messages"
)

// template is a message that was received, to be sent again and again.
type template struct {
	message amqp.Publishing
	// ids are the headers that hold the task's id.
	ids []string
}

func newTemplate(d *amqp.Delivery, twoHeaders bool) template {
	t := template{message: amqp.Publishing{
		Headers: d.Headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding,
		DeliveryMode: d.DeliveryMode, Priority: d.Priority, CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo,
		MessageId: d.MessageId, Body: d.Body,
	}}
	if twoHeaders {
		t.message.Headers = amqp.Table{"task": d.Headers["task"], "id": d.Headers["id"]}
	}
	id := cmp.Or(d.MessageId, d.CorrelationId) // Celery sets the latter only
	for name, v := range t.message.Headers {
		if v == id {
			t.ids = append(t.ids, name)
		}
	}
	return t
}

// fresh returns the message with an id of its own.
func (t template) fresh() amqp.Publishing {
	m, id := t.message, messages.NewID()
	m.MessageId, m.CorrelationId = id, id
	m.Headers = maps.Clone(m.Headers)
	for _, name := range t.ids {
		m.Headers[name] = id
	}
	return m
}
