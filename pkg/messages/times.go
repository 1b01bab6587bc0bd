package messages

import (
	"errors"
	"slices"
	"time"
)

// timeLayout is how Python's isoformat writes a time in UTC; microseconds are
// the resolution of the wire.
const timeLayout = "2006-01-02T15:04:05.000000-07:00"

var errNotTime = errors.New("not an ISO 8601 time")

// formatTime writes t as Celery does; "" when t is zero.
func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeLayout)
}

// validTime reports whether t can be written and read again: four digits of
// year, and not the zero time, which means none.
func validTime(t time.Time) bool {
	t = t.UTC()
	return t.Year() >= 1 && t.Year() <= 9999 && !t.Truncate(time.Microsecond).IsZero()
}

// parseTime reads an ISO 8601 time: a date alone or with a time, 0 to 9 digits
// of fraction, Z, an offset or neither, which means UTC. What it returns is in
// UTC and whole microseconds.
func parseTime(s string) (time.Time, error) {
	p := timeParser{rest: s}
	year, month, day := p.digits(4), p.next('-').digits(2), p.next('-').digits(2)
	var hour, minute, second, nano, offset int
	if !p.bad && p.rest != "" {
		hour, minute = p.next('T', 't', ' ').digits(2), p.next(':').digits(2)
		if p.peek(':') {
			second = p.next(':').digits(2)
			nano = p.fraction()
		}
		offset = p.offset()
	}
	if p.bad || p.rest != "" || month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59 {
		return time.Time{}, errNotTime
	}
	local := time.Date(year, time.Month(month), day, hour, minute, second, nano, time.UTC)
	if local.Day() != day {
		return time.Time{}, errNotTime
	}
	t := local.Add(-time.Duration(offset) * time.Second).Truncate(time.Microsecond)
	if !validTime(t) {
		return time.Time{}, errors.New("time out of range")
	}
	return t, nil
}

// timeParser eats a time from the left and remembers whether it ever met what
// it did not expect.
type timeParser struct {
	rest string
	bad  bool
}

func (p *timeParser) peek(wanted ...byte) bool {
	return p.rest != "" && slices.Contains(wanted, p.rest[0])
}

func (p *timeParser) next(wanted ...byte) *timeParser {
	if !p.peek(wanted...) {
		p.bad = true
		return p
	}
	p.rest = p.rest[1:]
	return p
}

func (p *timeParser) digits(n int) int {
	if len(p.rest) < n {
		p.bad = true
		return 0
	}
	value := 0
	for i := range n {
		c := p.rest[i]
		if c < '0' || c > '9' {
			p.bad = true
			return 0
		}
		value = value*10 + int(c-'0')
	}
	p.rest = p.rest[n:]
	return value
}

// fraction reads an optional fraction of a second, in nanoseconds.
func (p *timeParser) fraction() int {
	if !p.peek('.', ',') {
		return 0
	}
	p.next('.', ',')
	value, n := 0, 0
	for n < len(p.rest) && p.rest[n] >= '0' && p.rest[n] <= '9' {
		value = value*10 + int(p.rest[n]-'0')
		n++
		if n > 9 {
			p.bad = true
			return 0
		}
	}
	p.rest = p.rest[n:]
	for range 9 - n {
		value *= 10
	}
	return value
}

// offset reads an optional zone, in seconds east of UTC.
func (p *timeParser) offset() int {
	switch {
	case p.rest == "":
		return 0
	case p.peek('Z', 'z'):
		p.next('Z', 'z')
		return 0
	}
	sign := 1
	if p.peek('-') {
		sign = -1
	}
	hours, minutes := p.next('+', '-').digits(2), 0
	if p.peek(':') {
		p.next(':')
	}
	if p.rest != "" {
		minutes = p.digits(2)
	}
	if hours > 23 || minutes > 59 {
		p.bad = true
	}
	return sign * (hours*3600 + minutes*60)
}
