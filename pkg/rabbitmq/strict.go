package rabbitmq

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	// lookEvery is how often it is looked whether the next intake may be taken
	// up. What the one before it was sent when it was taken up itself has
	// arrived by then.
	lookEvery = 100 * time.Millisecond
	// lookFirst is when it is looked for the first time after a Yield: often it
	// was about one message. The pause is doubled each time.
	lookFirst = 5 * time.Millisecond
)

// Yield stops the intakes after the first n, because something that those have
// handed over waits. They are taken up again, one after the other, when nothing
// does. Where the order is not strict it does nothing. It does not block: what is
// under way arrives.
func (c *Consumer) Yield(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opts.Idle != nil && c.open > n {
		c.open, c.wait = n, lookFirst
		c.broadcast()
	}
}

// begin lets a new connection begin with the first intake: what was not settled
// by the last one is in the queues again.
func (c *Consumer) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.opts.Idle != nil {
		c.open, c.wait = min(1, len(c.opts.Intakes)), lookEvery
	}
}

// reopen stops the intakes after one that is not held any more: nobody has asked
// whether it is empty. It needs the lock.
func (c *Consumer) reopen(held map[string]bool) {
	if c.opts.Idle == nil {
		return
	}
	for i, in := range c.opts.Intakes[:c.open] {
		if c.held[in.Queue] && !held[in.Queue] {
			c.open, c.wait = i+1, lookEvery
			return
		}
	}
}

// look takes up the next intake when there is nothing to do in those before it.
func (c *Consumer) look(ctx context.Context, in *intake) error {
	c.mu.Lock()
	open, before := c.open, c.before()
	c.wait = min(2*c.wait, lookEvery)
	c.mu.Unlock()
	if !c.opts.Idle(open) {
		return nil
	}
	empty, err := in.empty(ctx, before)
	if err != nil || !empty {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// Meanwhile something may have come, or a queue may not be held any more.
	if c.open == open && slices.Equal(c.before(), before) && c.opts.Idle(open) {
		c.open, c.wait = open+1, lookEvery
	}
	return nil
}

// before returns the queues of the open intakes that are not held. It needs the
// lock.
func (c *Consumer) before() (queues []string) {
	for _, in := range c.opts.Intakes[:c.open] {
		if !c.held[in.Queue] {
			queues = append(queues, in.Queue)
		}
	}
	return queues
}

// empty asks the broker whether nothing is ready in these queues.
func (in *intake) empty(ctx context.Context, queues []string) (empty bool, err error) {
	err = in.link.bound(ctx, in.opts.SetupTimeout, func() (err error) {
		if in.asking == nil {
			if in.asking, err = in.link.conn.Channel(); err != nil {
				return fmt.Errorf("open channel: %w", err)
			}
		}
		for _, q := range queues {
			state, err := in.asking.QueueDeclarePassive(q, true, false, false, false, nil)
			if err != nil {
				return fmt.Errorf("ask for the depth of queue %s: %w", q, err)
			}
			// It is consumed from here; a queue that is being recovered has
			// neither messages nor consumers.
			if state.Messages > 0 || state.Consumers == 0 {
				return nil
			}
		}
		empty = true
		return nil
	})
	return empty, err
}
