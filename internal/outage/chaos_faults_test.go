//go:build outage

package outage_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lovage-mq/lovage/internal/devstack"
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

// keep starts a program, and again whenever it has ended.
func (c *chaos) keep(start func() *program) {
	p := start()
	c.keepers.Go(func() {
		for !c.stopping.Load() {
			if !p.Alive() {
				p = start()
			}
			<-time.After(20 * time.Millisecond)
		}
		_ = p.Kill()
	})
}

func (c *chaos) startActor(i int) *program {
	p := c.launch("ledgerworker", "LOVAGE_QUEUE="+actQueue, "LOVAGE_LEDGER_EFFECTS="+c.effects)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.workers[i] = p
	return p
}

func (c *chaos) startOwnGateway() *program {
	p := c.launch("gateway", "LOVAGE_LISTEN="+c.port.Address())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gateway = p
	return p
}

// launch starts a program from a goroutine of ours: what fails here shows in
// the end, when the books do not close.
func (c *chaos) launch(name string, env ...string) *program {
	c.mu.Lock()
	p := &program{t: c.t, log: filepath.Join(filepath.Dir(c.effects), fmt.Sprintf("%s-%d.log", name, len(c.logs)))}
	c.logs = append(c.logs, p.log)
	c.mu.Unlock()
	env = append(os.Environ(), append(env, "LOVAGE_AMQP_URL="+c.broker.URL(), "LOVAGE_REDIS_URL="+c.redis.URL())...)
	var err error
	p.Process, err = devstack.Spawn(context.WithoutCancel(c.t.Context()), devstack.Spec{
		Path: filepath.Join(binDir, name), Env: env, Dir: binDir, Log: p.log,
	})
	if err != nil {
		panic(err)
	}
	return p
}
