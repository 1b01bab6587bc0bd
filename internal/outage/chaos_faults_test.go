//go:build outage

package outage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"time"
)

// breakThings breaks one thing after the other until done. Where many tasks come
// there is more time between two, in which some get through.
func (c *chaos) breakThings(done <-chan struct{}, pause time.Duration) {
	rnd := rand.New(rand.NewPCG(c.seed, clients))
	for {
		select {
		case <-done:
			return
		case <-time.After(pause/5 + time.Duration(rnd.Int64N(int64(pause)*4/5))):
		}
		name, broken := c.breakOne(rnd)
		if broken != nil {
			c.t.Errorf("%s: %v", name, broken)
			return
		}
		c.t.Log(time.Now().Format("15:04:05.000"), name)
	}
}

func (c *chaos) breakOne(rnd *rand.Rand) (string, error) {
	ctx := context.WithoutCancel(c.t.Context())
	long := time.Duration(rnd.Int64N(int64(lasting)))
	c.mu.Lock()
	w, g := c.workers[rnd.IntN(actors)], c.gateway
	c.mu.Unlock()
	hold := func(p interface{ Freeze() error }, thaw func() error) error {
		if err := p.Freeze(); err != nil {
			return err
		}
		<-time.After(long)
		return thaw()
	}
	switch rnd.IntN(14) {
	case 0, 1, 2:
		c.disturb(w, "killed")
		return "kill -9 of a worker", ended(w.Kill())
	case 3:
		return "SIGTERM to a worker", ended(w.Signal(syscall.SIGTERM))
	case 4, 5:
		c.disturb(w, "frozen")
		return fmt.Sprintf("a worker frozen for %v", long), ended(hold(w, w.Thaw))
	case 12, 13:
		// Its deliveries go to others while it still has them.
		c.disturb(w, "frozen")
		return fmt.Sprintf("a worker frozen for %v while RabbitMQ is killed", long), ended(hold(w, func() error {
			if err := c.killBroker(ctx, 0); err != nil {
				return err
			}
			<-time.After(long)
			return w.Thaw()
		}))
	case 6:
		return "kill -9 of the gateway", ended(g.Kill())
	case 7:
		return fmt.Sprintf("the gateway frozen for %v", long), ended(hold(g, g.Thaw))
	case 8:
		return "kill -9 of RabbitMQ", c.killBroker(ctx, long/4)
	case 9:
		return fmt.Sprintf("RabbitMQ frozen for %v", long), hold(c.broker, c.broker.Thaw)
	case 10:
		if err := c.redis.Kill(); err != nil {
			return "kill -9 of Redis", err
		}
		<-time.After(long / 4)
		return "kill -9 of Redis", c.redis.Start(ctx)
	default:
		return fmt.Sprintf("Redis frozen for %v", long), hold(c.redis, c.redis.Thaw)
	}
}

// killBroker kills RabbitMQ and starts it again after a while.
func (c *chaos) killBroker(ctx context.Context, away time.Duration) error {
	if err := c.broker.Kill(); err != nil {
		return err
	}
	<-time.After(away)
	return c.broker.Start(ctx)
}

func (c *chaos) disturb(p *program, how string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disturbed[p.PID()] = how
}

// ended is no error where a process has ended by itself.
func ended(err error) error {
	if err != nil && strings.Contains(err.Error(), os.ErrProcessDone.Error()) {
		return nil
	}
	return err
}
