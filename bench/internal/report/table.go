package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/lovage-mq/lovage/bench/internal/stats"
)

// table aligns columns: text to the left, numbers to the right.
type table struct {
	w io.Writer
	// numbers are the columns that hold numbers.
	numbers []int
	lines   [][]string
}

func (t *table) line(cells ...string) { t.lines = append(t.lines, cells) }

func (t *table) flush() error {
	var widths []int
	for _, line := range t.lines {
		for i, cell := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, line := range t.lines {
		var out strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if slices.Contains(t.numbers, i) {
				out.WriteString(pad + cell)
			} else {
				out.WriteString(cell + pad)
			}
			out.WriteString("  ")
		}
		if _, err := fmt.Fprintln(t.w, strings.TrimRight(out.String(), " ")); err != nil {
			return fmt.Errorf("write table: %w", err)
		}
	}
	return nil
}

// number shows what can be trusted: three digits, or all before the point.
func number(f float64) string {
	switch a := math.Abs(f); {
	case math.IsNaN(f):
		return "-"
	case a >= 100 || a == 0:
		return fmt.Sprintf("%.0f", f)
	case a >= 10:
		return fmt.Sprintf("%.1f", f)
	default:
		return fmt.Sprintf("%.2f", f)
	}
}

func spread(s stats.Summary) string { return number(s.Min) + ".." + number(s.Max) }

func ratio(f float64) string {
	if math.IsNaN(f) {
		return "-"
	}
	return fmt.Sprintf("%.2f", f)
}
