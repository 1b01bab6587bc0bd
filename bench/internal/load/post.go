package load

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Post sends one request with a JSON body and fails unless the answer has the
// wanted status.
func Post(ctx context.Context, url, body string, want int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != want {
		return fmt.Errorf("%s answered %s: %s", url, res.Status, text)
	}
	return nil
}
