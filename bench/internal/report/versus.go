package report

import (
	"fmt"
	"io"

	"github.com/lovage-mq/lovage/bench/internal/stats"
)

// credible is the chance below which a difference is believed.
const credible = 0.05

// WriteVersus writes a line for each measure that both contenders have: the
// medians, by how much the second differs from the first, and how likely so much
// is by chance. A difference that is not credible is a "~".
func (b *Book) WriteVersus(w io.Writer, base, changed string) error {
	t := &table{w: w, numbers: []int{2, 3, 4, 5, 6}}
	t.line()
	t.line("measure", "unit", base, "min..max", changed, "min..max", "change", "chance")
	for _, s := range b.ordered() {
		before, after := b.Values(s.measure, base), b.Values(s.measure, changed)
		if s.contender != changed || len(before) == 0 {
			continue
		}
		x, y := stats.Summarize(before), stats.Summarize(after)
		chance, change := stats.Chance(before, after), "~"
		if chance < credible && x.Median != 0 {
			change = fmt.Sprintf("%+.1f %%", 100*(y.Median/x.Median-1))
		}
		t.line(s.measure, s.unit, number(x.Median), spread(x), number(y.Median), spread(y), change, fmt.Sprintf("p=%.3f", chance))
	}
	return t.flush()
}
