// Package rabbitmq is Lovage's way to RabbitMQ: the topology, a publisher that
// is bounded by its context, and a consumer that outlives its connections.
//
// It is built on amqp091-go and works around what that library leaves open: a
// write there has no deadline and holds the locks that closing needs, a call
// has no context, and a header of AMQP type L ends the connection. Every
// socket here has a write deadline, every call is bounded by closing its
// socket, and L is rewritten on the way in. Messages are written, and their
// confirms read, by frames of our own on the library's connections.
package rabbitmq
