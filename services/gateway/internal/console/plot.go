package console

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// The size of a plot in its own units.
const (
	plotWidth  = 240
	plotHeight = 56
)

// plot is a small line over time, as the paths of an SVG.
type plot struct {
	// Line is the path of the values, Area what is below it.
	Line, Area string
	// Most is the largest value, and Span the time from the left to the right.
	Most float64
	Span time.Duration
}

// newPlot draws the values of the samples, with a gap where they are not known.
func newPlot(samples []sample, value func(sample) float64) plot {
	var p plot
	if len(samples) < 2 {
		return p
	}
	first, last := samples[0].at, samples[len(samples)-1].at
	p.Span = last.Sub(first)
	for _, s := range samples {
		if s.known {
			p.Most = math.Max(p.Most, value(s))
		}
	}
	top := p.Most
	if top <= 0 {
		top = 1
	}
	var line, area strings.Builder
	begun := 0.0
	open := false
	x := 0.0
	for _, s := range samples {
		if !s.known {
			open = closeArea(&area, open, x)
			continue
		}
		x = plotWidth * float64(s.at.Sub(first)) / float64(p.Span)
		y := plotHeight - 2 - (plotHeight-6)*value(s)/top
		if !open {
			begun, open = x, true
			fmt.Fprintf(&line, "M%.1f %.1f", x, y)
			fmt.Fprintf(&area, "M%.1f %dL%.1f %.1f", begun, plotHeight, x, y)
			continue
		}
		fmt.Fprintf(&line, "L%.1f %.1f", x, y)
		fmt.Fprintf(&area, "L%.1f %.1f", x, y)
	}
	closeArea(&area, open, x)
	p.Line, p.Area = line.String(), area.String()
	return p
}

func closeArea(area *strings.Builder, open bool, x float64) bool {
	if open {
		fmt.Fprintf(area, "L%.1f %dZ", x, plotHeight)
	}
	return false
}
