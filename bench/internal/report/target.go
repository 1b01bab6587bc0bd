package report

import (
	"fmt"
	"io"
	"math"
)

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
	return fmt.Sprintf("%s %g %s", t.sign, t.limit, t.word(f))
}

func (t Target) word(f float64) string {
	switch {
	case math.IsNaN(f):
		return "not measured"
	case t.sign == "≥" && f >= t.limit, t.sign == "≤" && f <= t.limit:
		return "met"
	default:
		return "not met"
	}
}

// Aim is a target for a figure of ours, or for its ratio to that of another
// contender.
type Aim struct {
	// Of says what it is about.
	Of            string
	Measure, Ours string
	// Against is the other contender, if it is about a ratio.
	Against string
	Target  Target
}

// Judge shows the targets beside what they are about.
func (b *Book) Judge(aims []Aim) {
	for _, a := range aims {
		if a.Against == "" {
			b.Expect(a.Measure, a.Ours, a.Target)
			continue
		}
		b.Compare(Comparison{Measure: a.Measure, Ours: a.Ours, Contender: a.Against, Target: a.Target})
	}
}

// WriteAims writes a line for each target: what was reached, and whether that is
// enough.
func (b *Book) WriteAims(w io.Writer, aims []Aim) error {
	t := &table{w: w, numbers: []int{2, 5}}
	t.line()
	t.line("target", "measure", "value", "unit", "of", "ratio", "target", "verdict")
	for _, a := range aims {
		value := b.Median(a.Measure, a.Ours)
		figure, against, times := value, "", ""
		if a.Against != "" {
			figure = b.ratio(Comparison{Measure: a.Measure, Ours: a.Ours, Contender: a.Against}).Median
			against, times = a.Against, ratio(figure)
		}
		unit := ""
		if s := b.find(a.Measure, a.Ours); s != nil {
			unit = s.unit
		}
		t.line(a.Of, a.Measure, number(value), unit, against, times, fmt.Sprintf("%s %g", a.Target.sign, a.Target.limit), a.Target.word(figure))
	}
	return t.flush()
}
