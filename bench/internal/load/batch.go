package load

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// block is how many lines are written at a time.
const block = 100

// Batch sends a line so many times in one request, as NDJSON, and reads one
// line of answer for each while it still sends. It returns when all are
// answered, and says how many answers contain the wanted text. It fails when an
// item has no answer, and when none has the wanted one.
func Batch(ctx context.Context, url, line, wanted string, items int) (accepted int, err error) {
	body, pipe := io.Pipe()
	var writing sync.WaitGroup
	defer writing.Wait()
	defer func() { _ = body.Close() }() // which ends the writing
	writing.Go(func() { _ = pipe.CloseWithError(writeLines(pipe, line, items)) })
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	transport := &http.Transport{DisableCompression: true, WriteBufferSize: 64 << 10, ReadBufferSize: 64 << 10}
	defer transport.CloseIdleConnections()
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, fmt.Errorf("send batch: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	accepted, others, err := countLines(res.Body, wanted)
	if answered := accepted + len(others); err == nil && answered != items {
		err = fmt.Errorf("%d of %d items were answered", answered, items)
	}
	if err == nil && accepted == 0 && items > 0 {
		err = fmt.Errorf("none was accepted: %s", others[0])
	}
	if err != nil {
		return 0, fmt.Errorf("read answers of batch: %w", err)
	}
	return accepted, nil
}

func writeLines(w io.Writer, line string, items int) error {
	lines := bytes.Repeat([]byte(line+"\n"), block)
	for ; items > 0; items -= block {
		if items < block {
			lines = lines[:items*(len(line)+1)]
		}
		if _, err := w.Write(lines); err != nil {
			return err
		}
	}
	return nil
}

// countLines counts the lines with the wanted text, and returns the others.
func countLines(r io.Reader, wanted string) (n int, others []string, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := in.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF) && len(line) == 0:
			return n, others, nil
		case err != nil:
			return n, others, err
		case bytes.Contains(line, []byte(wanted)):
			n++
		default:
			others = append(others, string(line))
		}
	}
}
