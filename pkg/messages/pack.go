package messages

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
)

// ResultLimit is how large a result may be, in bytes of JSON, whether or not it
// is packed.
const ResultLimit = 64 << 20

// packedEncoding is what a record says of a packed result: zlib (RFC 1950),
// written in base64.
const packedEncoding = "zlib+base64"

// Pack compresses the Value of a result that is about to be stored: Packed takes
// its place. It does nothing to a Value that would not become smaller, or that
// is not JSON.
func (r *Result) Pack() {
	if len(r.Value) == 0 || len(r.Value) > ResultLimit || jsonRule(r.Value) != "" {
		return
	}
	packed := base64.StdEncoding.AppendEncode(nil, deflate(r.Value))
	if len(packed) >= len(r.Value) {
		return
	}
	r.Packed, r.PackedSize, r.Value = packed, len(r.Value), nil
}

// deflate takes the fastest level: a worker's slot waits for it.
func deflate(value []byte) []byte {
	var out bytes.Buffer
	w, _ := zlib.NewWriterLevel(&out, zlib.BestSpeed) // the level is one
	_, _ = w.Write(value)                             // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// Unpack puts the Value of a packed result back in its place, and does nothing
// to any other. It makes at most [ResultLimit] bytes, and no more than the record
// promises. The error wraps [ErrNotResult]; one that is too large
// [ErrTooLarge] as well.
func (r *Result) Unpack() error {
	if len(r.Packed) == 0 {
		return nil
	}
	value, err := unpack(r.Packed, r.PackedSize)
	if err != nil {
		return fmt.Errorf("unpack result: %w: %w", ErrNotResult, err)
	}
	r.Value, r.Packed, r.PackedSize = value, nil, 0
	return nil
}

func (r *Result) packed() bool { return r.State == Success && len(r.Packed) > 0 }

func unpack(packed []byte, size int) (json.RawMessage, error) {
	if size > ResultLimit {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, size)
	}
	deflated, err := base64.StdEncoding.AppendDecode(nil, packed)
	if err != nil {
		return nil, err
	}
	value, err := inflate(deflated, int64(size))
	switch {
	case err != nil:
		return nil, err
	case len(value) < size:
		return nil, fmt.Errorf("%d bytes instead of %d", len(value), size)
	}
	if rule := jsonRule(value); rule != "" {
		return nil, fmt.Errorf("it %s", rule)
	}
	return value, nil
}
