package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// preferredWait returns how long the client prefers to wait for an answer (RFC
// 7240), capped. It is 0 without such a preference, and for one that makes no
// sense: a server must ignore those. Two that differ are an error.
func preferredWait(h http.Header, longest time.Duration) (time.Duration, error) {
	wait, found := 0, ""
	for _, preference := range preferences(h) {
		name, value, _ := strings.Cut(preference, "=")
		if !strings.EqualFold(strings.TrimSpace(name), "wait") {
			continue
		}
		value = strings.Trim(strings.TrimSpace(value), `"`)
		if found != "" && found != value {
			return 0, repeatedHeader("Prefer", "two different values of wait")
		}
		found = value
		if n, err := strconv.Atoi(value); err == nil && n > 0 {
			wait = min(n, int(longest/time.Second))
		}
	}
	return time.Duration(wait) * time.Second, nil
}

// preferences splits the header at its commas; none of the preferences known
// here has a comma in its value. Parameters after a semicolon are dropped.
func preferences(h http.Header) []string {
	var out []string
	for _, line := range h.Values("Prefer") {
		for one := range strings.SplitSeq(line, ",") {
			preference, _, _ := strings.Cut(one, ";")
			out = append(out, preference)
		}
	}
	return out
}

// applied is the answer to a preference that was honoured.
func applied(wait time.Duration) string {
	return "wait=" + strconv.Itoa(int(wait/time.Second))
}

const respondAsync = "respond-async"

// prefersAsync reports whether the client does not want to wait until all is
// done.
func prefersAsync(h http.Header) bool {
	return slices.ContainsFunc(preferences(h), func(p string) bool { return strings.EqualFold(strings.TrimSpace(p), respondAsync) })
}
