package report

import "fmt"

// Target is what a figure shall be. The zero value is none.
type Target struct {
	limit float64
	sign  string
}

// AtLeast is met by the limit and all above it.
func AtLeast(limit float64) Target { return Target{limit, "≥"} }

// AtMost is met by the limit and all below it.
func AtMost(limit float64) Target { return Target{limit, "≤"} }

// verdict says whether a figure is what it shall be.
func (t Target) verdict(f float64) string {
	if t.sign == "" {
		return ""
	}
	word := "not"
	if t.sign == "≥" && f >= t.limit || t.sign == "≤" && f <= t.limit {
		word = "ok"
	}
	return fmt.Sprintf("%s %g %s", t.sign, t.limit, word)
}
