package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/lovage-mq/lovage/bench/internal/stats"
)

// Sizes of the plot, in pixels.
const (
	columns      = 3
	panelWidth   = 452
	gap          = 24
	margin       = 28
	labelWidth   = 112
	barWidth     = 130
	valueWidth   = 112 // and the ratio
	barHeight    = 20
	titleHeight  = 30
	panelMargin  = 18
	headHeight   = 84
	sectionTitle = 40
)

// Section is a part of the plot: what begins with one of these names.
type Section struct {
	Title string
	Names []string
}

func (s Section) has(measure string) bool {
	return slices.ContainsFunc(s.Names, func(name string) bool { return measure == name || strings.HasPrefix(measure, name+"-") })
}

// Plot is how to draw a book. Measures of no section are left out.
type Plot struct {
	Title    string
	Ours     string
	Sections []Section
}

// panel is one measure.
type panel struct {
	measure, unit string
	bars          []bar
}

type bar struct {
	contender string
	value     stats.Summary
	// ratio is that of ours, verdict what is to be said of it.
	ratio, verdict string
	good           bool
	failed         bool
}

func (p panel) height() int { return titleHeight + len(p.bars)*barHeight + panelMargin }

// WriteSVG draws the medians of all measures that have a note: a panel for each,
// with a bar for each contender, a line from the least to the greatest value, and
// the ratio of ours to it.
func (b *Book) WriteSVG(w io.Writer, p Plot) error {
	var out strings.Builder
	panels := b.panels(p.Ours)
	top := headHeight
	for _, s := range p.Sections {
		of := slices.DeleteFunc(slices.Clone(panels), func(one panel) bool { return !s.has(one.measure) })
		if len(of) == 0 {
			continue
		}
		text(&out, margin, top+sectionTitle-16, `font-size="17" font-weight="bold"`, s.Title)
		line(&out, margin, top+sectionTitle-6, "#d5d9de")
		top += sectionTitle
		for row := range slices.Chunk(of, columns) {
			height := 0
			for i, one := range row {
				one.draw(&out, margin+i*(panelWidth+gap), top)
				height = max(height, one.height())
			}
			top += height
		}
	}
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="Helvetica, Arial, 'DejaVu Sans', sans-serif" font-size="13" fill="#1f2429">
<rect width="100%%" height="100%%" fill="white"/>
%s%s</svg>
`, plotWidth, top+margin, p.head(), out.String())
	if err != nil {
		return fmt.Errorf("write plot: %w", err)
	}
	return nil
}

const plotWidth = 2*margin + columns*panelWidth + (columns-1)*gap

// head is the title, and the legend.
func (p Plot) head() string {
	var out strings.Builder
	text(&out, margin, margin+12, `font-size="21" font-weight="bold"`, p.Title)
	x, y := margin, margin+40
	for _, part := range []struct {
		mark, words string
		width       int
	}{
		{swatch(x, y, colour(p.Ours)), p.Ours, 90},
		{swatch(x+90, y, colour("floor")), "the least one would write by hand", 270},
		{swatch(x+360, y, colour("peer")), "other task systems", 175},
		{fmt.Sprintf("<path d=\"M%d %dh18\" stroke=\"black\"/>\n", x+535, y-4), "least to greatest of the rounds", 260},
	} {
		out.WriteString(part.mark)
		text(&out, x+24, y, "", part.words)
		x += part.width
	}
	text(&out, x, y, fmt.Sprintf("fill=%q", goodColour), "2.00×")
	text(&out, x+44, y, fmt.Sprintf("fill=%q", badColour), "0.50×")
	text(&out, x+90, y, "", p.Ours+" divided by this one: it is better, or worse")
	return out.String()
}

func swatch(x, y int, colour string) string {
	return fmt.Sprintf("<rect x=\"%d\" y=\"%d\" width=\"18\" height=\"12\" fill=\"%s\"/>\n", x, y-10, colour)
}

func (b *Book) panels(ours string) (list []panel) {
	for _, s := range b.ordered() {
		same := len(list) > 0 && list[len(list)-1].measure == s.measure
		if s.note == "" && (!same || len(s.values) > 0) {
			continue
		}
		if !same {
			list = append(list, panel{measure: s.measure, unit: s.unit})
		}
		last := &list[len(list)-1]
		last.bars = append(last.bars, b.bar(s, ours))
	}
	return list
}

func (b *Book) bar(s *series, ours string) bar {
	one := bar{contender: s.contender, value: stats.Summarize(s.values), verdict: s.target.verdict(b.Median(s.measure, s.contender))}
	one.failed = len(s.values) == 0
	for _, c := range s.comparisons {
		if c.Ours != ours {
			continue
		}
		r := b.ratio(c)
		one.ratio, one.verdict = ratio(r.Median)+"×", c.Target.verdict(r.Median)
		one.good = r.Median >= 1 == moreIsBetter(s.unit)
	}
	return one
}

// moreIsBetter tells rates from times, sizes and parts.
func moreIsBetter(unit string) bool { return unit == "1/s" || unit == "×" }

// caption says what the bars are.
func (p panel) caption() string {
	words := map[string]string{"1/s": "tasks a second", "ms": "milliseconds", "s": "seconds"}[p.unit]
	if words == "" {
		words = p.unit
	}
	if moreIsBetter(p.unit) {
		return words + ", more is better"
	}
	return words + ", less is better"
}

func (p panel) draw(w io.Writer, x, y int) {
	most := 0.0
	for _, b := range p.bars {
		if !b.failed {
			most = max(most, b.value.Max)
		}
	}
	length := func(v float64) float64 {
		if most == 0 {
			return 0
		}
		return v / most * barWidth
	}
	_, _ = fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\"><tspan font-weight=\"bold\">%s</tspan> <tspan fill=\"%s\" font-size=\"12\">%s</tspan></text>\n",
		x, y+titleHeight-10, escaped(p.measure), greyColour, escaped(p.caption()))
	for i, b := range p.bars {
		top, left := y+titleHeight+i*barHeight, x+labelWidth
		middle := top + barHeight/2
		text(w, left-8, middle+4, `text-anchor="end"`, b.contender)
		if b.failed {
			text(w, left, middle+4, fmt.Sprintf("fill=%q", badColour), "failed")
			continue
		}
		_, _ = fmt.Fprintf(w, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n",
			left, top+3, max(1, length(b.value.Median)), barHeight-6, colour(b.contender))
		_, _ = fmt.Fprintf(w, "<path d=\"M%.1f %dH%.1f\" stroke=\"black\"/>\n",
			float64(left)+length(b.value.Min), middle, float64(left)+length(b.value.Max))
		text(w, left+int(length(b.value.Max))+6, middle+4, "", grouped(number(b.value.Median)))
		b.note(w, x+labelWidth+barWidth+valueWidth, middle+4)
	}
}

// note writes the ratio and whether it is what it shall be.
func (b bar) note(w io.Writer, x, y int) {
	fill := badColour
	if b.good {
		fill = goodColour
	}
	text(w, x, y, fmt.Sprintf("text-anchor=\"end\" fill=%q", fill), b.ratio)
	if b.verdict == "" {
		return
	}
	fill = goodColour
	if !strings.HasSuffix(b.verdict, " met") || strings.HasSuffix(b.verdict, " not met") {
		fill = badColour
	}
	text(w, x+8, y, fmt.Sprintf("font-size=\"12\" fill=%q", fill), b.verdict)
}

const (
	goodColour = "#1e7a34"
	badColour  = "#b3402f"
	greyColour = "#6a737d"
)

// colour tells ours, what is written by hand, and other task systems.
func colour(contender string) string {
	switch {
	case strings.HasPrefix(contender, "lovage"):
		return "#3a8f4d"
	case strings.HasPrefix(contender, "floor"), strings.HasPrefix(contender, "raw"):
		return "#c3c9d0"
	default:
		return "#7f9cc0"
	}
}

func text(w io.Writer, x, y int, attributes, words string) {
	if words != "" {
		_, _ = fmt.Fprintf(w, "<text x=\"%d\" y=\"%d\" %s>%s</text>\n", x, y, attributes, escaped(words))
	}
}

func line(w io.Writer, x, y int, colour string) {
	_, _ = fmt.Fprintf(w, "<path d=\"M%d %dH%d\" stroke=%q/>\n", x, y, plotWidth-margin, colour)
}

// grouped separates the thousands of a number.
func grouped(digits string) string {
	whole, rest, _ := strings.Cut(digits, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		return whole + "." + rest
	}
	return whole
}

func escaped(text string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(text)) // a strings.Builder takes everything
	return out.String()
}
