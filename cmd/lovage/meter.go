package main

import (
	"fmt"
	"os"

	"github.com/schollz/progressbar/v3"

	"github.com/lovage-mq/lovage/pkg/client"
)

// meter shows on a terminal how far something is. Elsewhere it shows nothing.
type meter struct {
	bar *progressbar.ProgressBar
}

// whole is what the bar counts to. It is never reached, so that the bar stays
// until it is cleared.
const whole = 1000

func (a *app) newMeter() *meter {
	if a.Output == outputJSON || !onTerminal(a.err) || os.Getenv("TERM") == "dumb" {
		return &meter{}
	}
	return &meter{bar: progressbar.NewOptions64(whole, progressbar.OptionSetWriter(a.err), progressbar.OptionSetWidth(30),
		progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(true), progressbar.OptionUseANSICodes(true))}
}

// show draws the share that is done, from 0 to 1, beside a text.
func (m *meter) show(share float64, text string) {
	if m.bar == nil {
		return
	}
	m.bar.Describe(printable(text))
	_ = m.bar.Set64(min(whole-1, int64(share*whole))) // a terminal that is gone is nobody's concern
}

func (m *meter) task(t *client.Task) {
	name := t.Name
	if name == "" {
		name = t.TaskID
	}
	if p := t.Progress; p != nil && p.Total > 0 {
		m.show(min(1, max(0, p.Current/p.Total)), fmt.Sprintf("%s %s/%s", name, number(p.Current), number(p.Total)))
		return
	}
	m.show(0, fmt.Sprintf("%s %s", name, t.State))
}

func (m *meter) operation(o *client.Operation, all int) {
	done := o.Redriven + o.Discarded + o.Superseded
	text := fmt.Sprintf("%s %s %d", o.Kind, o.Queue, done)
	if all == 0 {
		m.show(0, text)
		return
	}
	m.show(min(1, float64(done)/float64(all)), fmt.Sprintf("%s/%d", text, all))
}

func (m *meter) tasks(o *client.TaskOperation, all int) {
	text := fmt.Sprintf("%s %d", o.Kind, o.Matched)
	if all == 0 {
		m.show(0, text)
		return
	}
	m.show(min(1, float64(o.Matched)/float64(all)), fmt.Sprintf("%s/%d", text, all))
}

// clear takes the bar away.
func (m *meter) clear() {
	if m.bar != nil {
		_ = m.bar.Clear() // see show
	}
}
