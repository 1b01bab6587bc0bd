package main

import (
	"context"
	"io"
	"strconv"

	"github.com/lovage-mq/lovage/pkg/client"
)

type auditCmd struct {
	Limit int `short:"n" default:"50" help:"At most so many, from the newest on; 200 at the most."`
}

// Run lists who has steered what.
func (c *auditCmd) Run(ctx context.Context, a *app) error {
	page, err := ask(ctx, a, func(ctx context.Context) (*client.AuditPage, error) { return a.client.Audit(ctx, c.Limit, "") })
	if err != nil {
		return err
	}
	return a.print(page.Entries, func(w io.Writer) error {
		var rows [][]string
		for _, e := range page.Entries {
			rows = append(rows, []string{moment(e.At), e.Who, e.Action, short(e.Target, 60), e.Outcome, strconv.Itoa(e.Status), e.Address})
		}
		return table(w, []string{"AT", "WHO", "ACTION", "TARGET", "OUTCOME", "STATUS", "FROM"}, rows)
	})
}
