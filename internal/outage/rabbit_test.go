//go:build outage

package outage_test

import (
	"context"
	"net"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// withChannel connects for one use. The end of ctx closes the socket, which is
// the only thing that ends a call of the library in every case.
func withChannel(ctx context.Context, url string, use func(*amqp.Channel) error) error {
	conn, err := amqp.DialConfig(url, amqp.Config{
		Heartbeat: 10 * time.Second,
		Dial: func(network, addr string) (net.Conn, error) {
			raw, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				context.AfterFunc(ctx, func() { _ = raw.Close() })
			}
			return raw, err
		},
	})
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := use(ch); err != nil {
		return err
	}
	return conn.CloseDeadline(time.Now().Add(time.Second))
}
