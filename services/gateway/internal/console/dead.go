package console

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/lovage-mq/lovage/pkg/client"
)

// deadData are the dead letters of a queue: its groups, or those of one group.
type deadData struct {
	Queue  string
	Queues []client.Queue
	Groups []client.DeadGroup
	// Group is the one that is looked at.
	Group      string
	Letters    []client.DeadLetter
	NextCursor string
	// Total is how many there are in all groups.
	Total      int
	Operations []client.Operation
}

// Busy reports whether an operation goes on.
func (d deadData) Busy() bool {
	for _, o := range d.Operations {
		if !o.State.Final() {
			return true
		}
	}
	return false
}

// deadQueue shows the dead letters of a queue by what they have in common, or
// those of one group.
func (c *Console) deadQueue(ctx context.Context, r *http.Request) (*view, error) {
	queue, q := r.PathValue("queue"), r.URL.Query()
	d := deadData{Queue: queue, Group: q.Get("group")}
	v := &view{name: "dead", Title: "Dead letters of " + queue, Section: "dead", Data: d, Self: deadPath(queue)}
	operations, err := c.client.Operations(ctx, queue)
	if err != nil && !is(err, "store-unavailable") {
		return v, err
	}
	d.Operations = operations
	v.Data = d
	if d.Busy() {
		return v, nil // the letters are being worked with
	}
	if d.Groups, err = c.client.DeadGroups(ctx, queue, client.DeadFilter{Group: d.Group}); err != nil {
		return v, err
	}
	for _, g := range d.Groups {
		d.Total += g.Count
	}
	if d.Group != "" {
		page, err := c.client.Dead(ctx, queue, client.DeadFilter{Group: d.Group}, pageLength, q.Get("cursor"))
		if err != nil {
			return v, err
		}
		d.Letters, d.NextCursor = page.DeadLetters, page.NextCursor
	}
	v.Data = d
	return v, nil
}

// deal sends again or discards: one dead letter, a group or all of them.
func (c *Console) deal(ctx context.Context, r *http.Request) (*view, error) {
	queue, verb := r.PathValue("queue"), r.PathValue("verb")
	if verb != "redrive" && verb != "discard" {
		return c.missing(ctx, r)
	}
	fail := func(err error) (*view, error) { return c.refuse(ctx, r, c.deadQueue, err) }
	if id := r.PostFormValue("id"); id != "" {
		do := func() error { return c.client.RedriveOne(ctx, queue, id, nil) }
		if verb == "discard" {
			do = func() error { return c.client.DiscardOne(ctx, queue, id) }
		}
		if err := do(); err != nil {
			return fail(err)
		}
		return back(deadPath(queue), verb), nil
	}
	bulk := client.Bulk{DeadFilter: client.DeadFilter{Group: r.PostFormValue("group")}}
	bulk.All = bulk.Group == ""
	bulk.Rate, _ = strconv.Atoi(r.PostFormValue("rate")) // any rate when it says nothing
	begin := c.client.BeginRedrive
	if verb == "discard" {
		begin = c.client.BeginDiscard
	}
	o, err := begin(ctx, queue, bulk)
	if err != nil {
		return fail(err)
	}
	of, _ := strconv.Atoi(r.PostFormValue("of")) // without it the bar only begins later
	return &view{redirect: operationPath(queue, o.ID, of)}, nil
}

// operationData is how far an operation is.
type operationData struct {
	*client.Operation

	// Of is how many there were to deal with when it began, as far as that is
	// known.
	Of int
}

// Done is how many were dealt with.
func (d operationData) Done() int { return d.Redriven + d.Discarded + d.Superseded }

func operationPath(queue, id string, of int) string {
	path := deadPath(queue) + "/operations/" + url.PathEscape(id)
	if of > 0 {
		path += "?of=" + strconv.Itoa(of)
	}
	return path
}

// operation shows how far a redrive or a discard is.
func (c *Console) operation(ctx context.Context, r *http.Request) (*view, error) {
	queue, id := r.PathValue("queue"), r.PathValue("id")
	of, _ := strconv.Atoi(r.URL.Query().Get("of")) // what is not known is what it has matched
	v := &view{name: "operation", Title: "Operation on " + queue, Section: "dead", Self: operationPath(queue, id, of)}
	o, err := c.client.Operation(ctx, queue, id)
	if err == nil {
		v.Data = operationData{o, max(of, o.Matched, 1)}
	}
	return v, err
}

func (c *Console) cancelOperation(ctx context.Context, r *http.Request) (*view, error) {
	queue, id := r.PathValue("queue"), r.PathValue("id")
	if _, err := c.client.CancelOperation(ctx, queue, id); err != nil {
		return c.refuse(ctx, r, c.operation, err)
	}
	return back(operationPath(queue, id, 0), "operation"), nil
}
