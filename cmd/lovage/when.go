package main

import (
	"fmt"
	"time"
)

// past is a time that was: RFC 3339, or a duration before now.
type past struct{ time.Time }

// UnmarshalText reads one.
func (p *past) UnmarshalText(text []byte) error {
	t, err := parseTime(string(text), -1)
	p.Time = t
	return err
}

// future is a time to come: RFC 3339, or a duration from now.
type future struct{ time.Time }

// UnmarshalText reads one.
func (f *future) UnmarshalText(text []byte) error {
	t, err := parseTime(string(text), 1)
	f.Time = t
	return err
}

func parseTime(text string, direction time.Duration) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return time.Now().Add(direction * d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return t, fmt.Errorf("%q is neither a duration like 90s nor a time like 2026-01-31T12:00:00Z", text)
	}
	return t, nil
}
