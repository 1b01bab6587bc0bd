package console

import (
	"context"
	"net/http"

	"github.com/lovage-mq/lovage/pkg/client"
)

// auditData is a part of the audit, the newest when there is no cursor.
type auditData struct {
	*client.AuditPage

	Cursor string
}

// audit shows who has steered what, to those who may know it.
func (c *Console) audit(ctx context.Context, r *http.Request) (*view, error) {
	cursor := r.URL.Query().Get("cursor")
	page, err := c.client.Audit(ctx, 0, cursor)
	return &view{name: "audit", Title: "Audit", Section: "audit", Self: "/console/audit", Data: auditData{page, cursor}}, err
}
