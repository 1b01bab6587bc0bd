package stack

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
)

// frames holds AMQP frames, any number of them, by channel: the frames of one
// channel have to stay in their order, those of different ones need not.
type frames struct {
	come chan struct{} // has a token when there may be something to take

	mu       sync.Mutex
	channels []uint16 // in the order in which they appeared
	waiting  map[uint16][][]byte
}

// all is the number of frames that take gives back without a limit.
const all = -1

func newFrames() *frames {
	return &frames{come: make(chan struct{}, 1), waiting: map[uint16][][]byte{}}
}

// readFrom takes what a client sends: the header of the protocol, then frames of
// a type, a channel, a size, so many bytes and an end octet.
func (f *frames) readFrom(in *bufio.Reader) error {
	const protocol, head = 8, 7
	for size := protocol; ; {
		frame := make([]byte, size)
		if _, err := io.ReadFull(in, frame); err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		channel := uint16(0)
		if size != protocol || frame[0] != 'A' {
			channel = binary.BigEndian.Uint16(frame[1:])
		}
		f.put(channel, frame)
		next, err := in.Peek(head)
		if err != nil {
			return fmt.Errorf("read frame: %w", err)
		}
		size = head + int(binary.BigEndian.Uint32(next[3:])) + 1
	}
}

func (f *frames) put(channel uint16, frame []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.channels, channel) {
		f.channels = append(f.channels, channel)
	}
	f.waiting[channel] = append(f.waiting[channel], frame)
	select {
	case f.come <- struct{}{}:
	default:
	}
}

// take returns at most n frames of each channel, one behind the other.
func (f *frames) take(n int) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []byte
	for _, channel := range f.channels {
		w := f.waiting[channel]
		if n != all && len(w) > n {
			w = w[:n]
		}
		out = append(out, slices.Concat(w...)...)
		f.waiting[channel] = f.waiting[channel][len(w):]
	}
	return out
}
