package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/lovage-mq/lovage/bench/internal/stats"
)

// Sizes of the plot, in pixels.
const (
	panelWidth  = 460
	labelWidth  = 130
	barWidth    = 190
	barHeight   = 18
	titleHeight = 34
	margin      = 16
	columns     = 2
)

// panel is one measure.
type panel struct {
	measure, unit string
	bars          []bar
}

type bar struct {
	contender string
	value     stats.Summary
}

func (p panel) height() int { return titleHeight + len(p.bars)*barHeight + margin }

// WriteSVG draws the medians of all measures that have a note, a panel for each,
// with a bar for each contender and a line from the least to the greatest value.
func (b *Book) WriteSVG(w io.Writer) error {
	var out strings.Builder
	bottoms := [columns]int{margin, margin}
	for i, p := range b.panels() {
		column := i % columns
		p.draw(&out, margin+column*panelWidth, bottoms[column])
		bottoms[column] += p.height()
	}
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">
<rect width="100%%" height="100%%" fill="white"/>
%s</svg>
`, 2*margin+columns*panelWidth, max(bottoms[0], bottoms[1])+margin, out.String())
	if err != nil {
		return fmt.Errorf("write plot: %w", err)
	}
	return nil
}

func (b *Book) panels() (list []panel) {
	for _, s := range b.ordered() {
		if s.note == "" {
			continue
		}
		if len(list) == 0 || list[len(list)-1].measure != s.measure {
			list = append(list, panel{measure: s.measure, unit: s.unit})
		}
		last := &list[len(list)-1]
		last.bars = append(last.bars, bar{s.contender, stats.Summarize(s.values)})
	}
	return list
}

func (p panel) draw(w io.Writer, x, y int) {
	most := 0.0
	for _, b := range p.bars {
		most = max(most, b.value.Max)
	}
	length := func(v float64) float64 {
		if most == 0 {
			return 0
		}
		return v / most * barWidth
	}
	_, _ = fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s, %s</text>\n", x, y+titleHeight/2, escaped(p.measure), escaped(p.unit))
	for i, b := range p.bars {
		top := y + titleHeight + i*barHeight
		middle, left := top+barHeight/2, float64(x+labelWidth)
		_, _ = fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", x+labelWidth-6, middle+4, escaped(b.contender))
		_, _ = fmt.Fprintf(w, "<rect x=\"%.0f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", left, top+2, length(b.value.Median), barHeight-4, colour(b.contender))
		_, _ = fmt.Fprintf(w, "<path d=\"M%.1f %dH%.1f\" stroke=\"black\"/>\n", left+length(b.value.Min), middle, left+length(b.value.Max))
		_, _ = fmt.Fprintf(w, "<text x=\"%.1f\" y=\"%d\">%s</text>\n", left+length(b.value.Max)+6, middle+4, number(b.value.Median))
	}
}

// colour is green for ours, and grey for all that it is compared with.
func colour(contender string) string {
	if strings.HasPrefix(contender, "lovage") {
		return "#3a8f4d"
	}
	return "#b5bcc4"
}

func escaped(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text)) // a strings.Builder takes everything
	return out.String()
}
