// Package report collects what rounds have measured, and shows it.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/lovage-mq/lovage/bench/internal/stats"
)

// Book holds every value of every round. The zero value is empty. It is not
// safe for concurrent use.
type Book struct {
	series []*series
}

// series is one measure of one contender, round by round.
type series struct {
	measure, contender, unit string
	values                   []float64
	comparisons              []Comparison
	target                   Target
	note                     string
	// failed is why there are no more values.
	failed string
}

// Comparison relates a contender to ours: the ratio is ours divided by it.
type Comparison struct {
	Measure, Ours, Contender string
	Target                   Target
}

// Add takes down one round.
func (b *Book) Add(measure, contender, unit string, value float64) {
	s := b.open(measure, contender)
	s.unit = unit
	s.values = append(s.values, value)
}

// Fail takes down that a contender has failed in a measure, which then has no more
// values, or none.
func (b *Book) Fail(measure, contender string, err error) {
	b.open(measure, contender).failed = strings.Join(strings.Fields(err.Error()), " ")
}

// Failures counts them.
func (b *Book) Failures() (n int) {
	for _, s := range b.series {
		if s.failed != "" {
			n++
		}
	}
	return n
}

func (b *Book) open(measure, contender string) *series {
	s := b.find(measure, contender)
	if s == nil {
		s = &series{measure: measure, contender: contender}
		b.series = append(b.series, s)
	}
	return s
}

// Compare shows a ratio beside the contender, if both were measured. A second time
// it changes the target.
func (b *Book) Compare(c Comparison) {
	if len(b.Values(c.Measure, c.Contender)) == 0 || len(b.Values(c.Measure, c.Ours)) == 0 {
		return
	}
	s := b.find(c.Measure, c.Contender)
	if i := slices.IndexFunc(s.comparisons, func(old Comparison) bool { return old.Ours == c.Ours }); i >= 0 {
		s.comparisons[i] = c
		return
	}
	s.comparisons = append(s.comparisons, c)
}

// Expect shows beside a value what it shall be.
func (b *Book) Expect(measure, contender string, t Target) {
	if s := b.find(measure, contender); s != nil {
		s.target = t
	}
}

// Copy takes down a series once more, as that of another contender.
func (b *Book) Copy(measure, contender, as string) {
	if s := b.find(measure, contender); s != nil {
		b.series = append(b.series, &series{measure: measure, contender: as, unit: s.unit, values: s.values, note: s.note})
	}
}

// Note shows a remark behind a value, if it was measured, and the value in the
// plot.
func (b *Book) Note(measure, contender, text string) {
	if s := b.find(measure, contender); s != nil {
		s.note = text
	}
}

// Median is what the rounds of a contender come to; NaN if there are none.
func (b *Book) Median(measure, contender string) float64 {
	return stats.Summarize(b.Values(measure, contender)).Median
}

// Ratios divides one series by another, round by round.
func (b *Book) Ratios(measure, contender, baseMeasure, base string) []float64 {
	return stats.Ratios(b.Values(measure, contender), b.Values(baseMeasure, base))
}

// Values are those of the rounds of a contender.
func (b *Book) Values(measure, contender string) []float64 {
	if s := b.find(measure, contender); s != nil {
		return s.values
	}
	return nil
}

func (b *Book) find(measure, contender string) *series {
	i := slices.IndexFunc(b.series, func(s *series) bool { return s.measure == measure && s.contender == contender })
	if i < 0 {
		return nil
	}
	return b.series[i]
}

// ratio is the median and the spread of the ratios of the rounds.
func (b *Book) ratio(c Comparison) stats.Summary {
	return stats.Summarize(b.Ratios(c.Measure, c.Ours, c.Measure, c.Contender))
}

// Value is one figure in the form in which it is kept.
type Value struct {
	Measure   string  `json:"measure"`
	Contender string  `json:"contender"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
}

// List returns the medians, and the ratios as contenders named "ours/theirs".
func (b *Book) List() []Value {
	var list []Value
	add := func(v Value) {
		if !math.IsNaN(v.Value) && !math.IsInf(v.Value, 0) { // JSON has no such numbers
			list = append(list, v)
		}
	}
	for _, s := range b.ordered() {
		add(Value{s.measure, s.contender, stats.Summarize(s.values).Median, s.unit})
		for _, c := range s.comparisons {
			add(Value{s.measure, c.Ours + "/" + s.contender, b.ratio(c).Median, "ratio"})
		}
	}
	return list
}

// WriteJSON writes the list.
func (b *Book) WriteJSON(w io.Writer) error {
	text, err := json.MarshalIndent(b.List(), "", "  ")
	if err != nil {
		return fmt.Errorf("write list: %w", err)
	}
	_, err = fmt.Fprintf(w, "%s\n", text)
	return err
}

// WriteTable writes a line for each measure and contender.
func (b *Book) WriteTable(w io.Writer) error {
	t := &table{w: w, numbers: []int{2, 4, 5, 6}}
	t.line("measure", "contender", "value", "unit", "min..max", "ratio", "min..max", "target", "kept by")
	measure := ""
	for _, s := range b.ordered() {
		if measure != "" && measure != s.measure {
			t.line()
		}
		measure = s.measure
		v := stats.Summarize(s.values)
		cells := []string{s.measure, s.contender, number(v.Median), s.unit, spread(v)}
		if len(s.values) == 0 {
			cells = []string{s.measure, s.contender, "failed", "", ""}
		}
		if len(s.comparisons) == 0 {
			t.line(append(cells, "", "", s.target.verdict(v.Median), s.remark())...)
		}
		for _, c := range s.comparisons {
			r := b.ratio(c)
			t.line(append(cells, ratio(r.Median), ratio(r.Min)+".."+ratio(r.Max), c.Target.verdict(r.Median), s.remark())...)
		}
	}
	return t.flush()
}

// longest is how much of the reason of a failure the table shows.
const longest = 200

// remark is the note, and why the contender has failed.
func (s *series) remark() string {
	if s.failed == "" {
		return s.note
	}
	reason := []rune("failed: " + s.failed)
	if len(reason) > longest {
		reason = append(reason[:longest], '…')
	}
	return strings.TrimPrefix(s.note+"; "+string(reason), "; ")
}

// ordered keeps together what belongs to one measure.
func (b *Book) ordered() []*series {
	first := map[string]int{}
	for i, s := range b.series {
		if _, found := first[s.measure]; !found {
			first[s.measure] = i
		}
	}
	sorted := slices.Clone(b.series)
	slices.SortStableFunc(sorted, func(x, y *series) int { return first[x.measure] - first[y.measure] })
	return sorted
}
