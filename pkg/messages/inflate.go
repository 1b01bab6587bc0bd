package messages

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
)

// InflateLimit is how large a compressed body may become.
const InflateLimit = 16 << 20

// ErrTooLarge is what a [*DecodeError] wraps when a compressed body inflates
// beyond [InflateLimit].
var ErrTooLarge = errors.New("larger than allowed")

// compressionZlib is what kombu calls its default compression. In spite of the
// name it is zlib (RFC 1950): kombu registers Python's zlib under it.
const compressionZlib = "application/x-gzip"

// inflate undoes a zlib compression and stops at limit bytes.
func inflate(body []byte, limit int64) ([]byte, error) {
	r, err := zlib.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("read zlib header: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("inflate: %w", err)
	}
	if int64(len(out)) > limit {
		return nil, fmt.Errorf("inflate: %w: over %d bytes", ErrTooLarge, limit)
	}
	return out, nil
}
