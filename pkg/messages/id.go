package messages

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"time"
)

// NewID returns a new UUIDv7 (RFC 9562): the first 48 bits are the time in
// milliseconds, 74 bits are random.
func NewID() string {
	return newID(time.Now())
}

func newID(now time.Time) string {
	var stamp [8]byte
	binary.BigEndian.PutUint64(stamp[:], uint64(now.UnixMilli()))
	var b [16]byte
	copy(b[:6], stamp[2:])
	// Read never returns an error: it ends the program rather than give weak
	// randomness.
	_, _ = rand.Read(b[6:])
	b[6] = b[6]&0x0f | 0x70
	b[8] = b[8]&0x3f | 0x80

	var s [36]byte
	hex.Encode(s[0:8], b[0:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:36], b[10:16])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}

// IDTime returns the time at which a UUIDv7 was made, in UTC and whole
// milliseconds; ok is false when id is not one.
func IDTime(id string) (t time.Time, ok bool) {
	if len(id) != 36 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return time.Time{}, false
	}
	var b [18]byte
	for i, part := range [5]string{id[0:8], id[9:13], id[14:18], id[19:23], id[24:36]} {
		at := [5]int{2, 6, 8, 10, 12}[i]
		if _, err := hex.Decode(b[at:], []byte(part)); err != nil {
			return time.Time{}, false
		}
	}
	if b[8]>>4 != 7 || b[10]>>6 != 2 {
		return time.Time{}, false
	}
	t = time.UnixMilli(int64(binary.BigEndian.Uint64(b[:8]))).UTC()
	if !validTime(t) {
		return time.Time{}, false
	}
	return t, true
}
