package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// AuditEntry is a steering act: something that was asked of queues, dead letters,
// operations or tasks, or a login.
type AuditEntry struct {
	At time.Time `json:"at"`
	// Who is the name of the API key, "anonymous" where nobody has to show one,
	// and KeyID which key of that name it was.
	Who   string `json:"who"`
	KeyID string `json:"key_id"`
	// Action is the operationId of the API, "login" or "logout", Target on what.
	Action string `json:"action"`
	Target string `json:"target"`
	// Outcome is "ok", or the slug of the problem that it was answered with.
	Outcome   string `json:"outcome"`
	Status    int    `json:"status"`
	RequestID string `json:"request_id"`
	// Address is where the request came from: the last proxy, if there is one.
	Address string `json:"address"`
}

// AuditPage is a part of the audit.
type AuditPage struct {
	// Entries come newest first.
	Entries []AuditEntry `json:"entries"`
	// NextCursor leads to the next page, and is empty at the end.
	NextCursor string `json:"next_cursor"`
}

// Audit lists who has steered what, the newest first. The limit is at most 200,
// and 50 when it is 0; the cursor is that of the page before. It takes a key with
// the scope admin.
func (c *Client) Audit(ctx context.Context, limit int, cursor string) (*AuditPage, error) {
	q := url.Values{}
	setInt(q, "limit", limit)
	setText(q, "cursor", cursor)
	return ask[AuditPage](ctx, c, http.MethodGet, path("v1", "audit"), q)
}
