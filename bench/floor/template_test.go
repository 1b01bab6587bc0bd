package main

import (
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
)

func sample() *amqp.Delivery {
	return &amqp.Delivery{
		MessageId: "old", CorrelationId: "old", ContentType: "application/json", DeliveryMode: amqp.Persistent, Body: []byte("[]"),
		Headers: amqp.Table{"id": "old", "root_id": "old", "task": "t", "timelimit": []any{nil, nil}},
	}
}

func TestFreshMessagesDifferInTheirIDsOnly(t *testing.T) {
	t.Parallel()
	tpl := newTemplate(sample(), false)
	a, b := tpl.fresh(), tpl.fresh()
	require.NotEqual(t, a.MessageId, b.MessageId)
	require.Equal(t, a.MessageId, a.CorrelationId)
	require.Equal(t, amqp.Table{"id": a.MessageId, "root_id": a.MessageId, "task": "t", "timelimit": []any{nil, nil}}, a.Headers)
	require.Equal(t, amqp.Persistent, a.DeliveryMode)
	require.Equal(t, "[]", string(a.Body))
	require.Equal(t, "old", tpl.message.Headers["id"])
}

func TestTwoHeadersAreTaskAndID(t *testing.T) {
	t.Parallel()
	m := newTemplate(sample(), true).fresh()
	require.Equal(t, amqp.Table{"id": m.MessageId, "task": "t"}, m.Headers)
}
