package delivery

import "context"

// Purge revokes the task of a delivery from a work queue, and so ends it. What
// cannot be decoded becomes a dead letter as ever; a copy of a task that somebody
// runs is kept for later.
func (p *Processor) Purge(ctx context.Context, d Delivery) {
	d.DeadReason = "purged" // whatever its time, it is not to be held back until then
	p.process(ctx, ctx, d, func(*task) Outcome { return revoked("purged") })
}
