// Command bench compares Lovage with the least that one would write by hand, on
// this machine, in one run: `make bench-submit` in the directory above.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lovage-mq/lovage/bench/internal/report"
	"github.com/lovage-mq/lovage/bench/internal/runner"
	"github.com/lovage-mq/lovage/bench/internal/stack"
)

type settings struct {
	Measures []string      `default:"submit,batch,delayed,inflight" help:"What to measure: ${measures}."`
	Clients  []int         `default:"64,1" help:"Clients that submit at the same time."`
	Rounds   int           `default:"5" help:"How often each contender has its turn."`
	Length   time.Duration `default:"3s" help:"How long a turn of single submissions is."`
	WarmUp   time.Duration `default:"500ms" help:"How long each turn runs before it counts."`
	Items    int           `default:"50000" help:"Items of a batch."`
	Rates    []float64     `default:"300" help:"Tasks a second that are picked up."`
	Kinds    []string      `default:"noop" help:"Tasks that are worked off: ${kinds}."`
	Drain    time.Duration `default:"5s" help:"How long a turn of working off a kind is, about."`
	Trial    int           `default:"2000" help:"Tasks with which the pools of workers are tried; 0 takes the first of each."`
	Peers    []string      `help:"Other task systems to compare with: ${peers}."`
	Waiting  []int         `default:"1000,60000" help:"How many tasks wait while growth is measured."`
	Channels []int         `default:"1,2,4,8" help:"Channels with which the floors are tried."`
	Base     string        `help:"Another revision of Lovage to compare with, which has turns in between."`
	Out      string        `default:"out/latest.json" help:"File for the medians; the plot lies beside it."`
}

// bench is one run.
type bench struct {
	settings
	stack *stack.Stack
	book  *report.Book
	// gateway is shared by the measures that need no settings of their own.
	gateway *stack.Service
	peers   []contender
	// bytes is how much is hashed in a millisecond.
	bytes int
}

// measure is one thing that can be measured.
type measure struct {
	name string
	run  func(b *bench, ctx context.Context) error
}

func measures() []measure {
	return []measure{
		{"submit", (*bench).submit},
		{"batch", (*bench).batch},
		{"delayed", (*bench).delayed},
		{"inflight", (*bench).inFlight},
		{"drain", (*bench).drain},
		{"kinds", (*bench).kinds},
		{"pickup", (*bench).pickUp},
		{"run", (*bench).roundTrip},
		{"growth", (*bench).growth},
		{"profile", (*bench).profile},
	}
}

func names() (list []string) {
	for _, m := range measures() {
		list = append(list, m.name)
	}
	return list
}

func main() { os.Exit(start()) }

func start() int {
	var s settings
	kong.Parse(&s, kong.Vars{
		"measures": strings.Join(names(), ", "), "kinds": strings.Join(runner.Kinds(), ", "), "peers": strings.Join(peerNames(), ", "),
	})
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	signal.Ignore(syscall.SIGPIPE) // `| head` must not end us before our programs
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func run(ctx context.Context, s settings) (err error) {
	for _, name := range s.Measures {
		if !slices.Contains(names(), name) {
			return fmt.Errorf("there is no measure %s, but %s", name, strings.Join(names(), ", "))
		}
	}
	progress("building the programs, starting RabbitMQ and Redis")
	b := &bench{settings: s, book: &report.Book{}, bytes: runner.Calibrate()}
	if b.stack, err = stack.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stack.Close()) }()
	if err := b.stack.Announce(ctx); err != nil {
		return err
	}
	if b.gateway, err = b.stack.Gateway(ctx); err != nil {
		return err
	}
	if err := b.startPeers(ctx); err != nil {
		return err
	}
	for _, m := range measures() {
		if !slices.Contains(s.Measures, m.name) || ctx.Err() != nil {
			continue
		}
		if wrong := m.run(b, ctx); wrong != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", m.name, wrong))
		}
	}
	return errors.Join(err, b.show()) // what was measured before is worth a look
}

// turns gives each of so many contenders its turn in every round, each round
// beginning with another one.
func (b *bench) turns(measure string, contenders int, turn func(i int) error) error {
	for round := range b.Rounds {
		progress("%s: round %d of %d", measure, round+1, b.Rounds)
		for i := range contenders {
			if err := turn((round + i) % contenders); err != nil {
				return err
			}
		}
	}
	return nil
}

// show writes the table to standard output, and the medians and a plot of them to
// their files.
func (b *bench) show() error {
	if err := b.book.WriteTable(os.Stdout); err != nil {
		return err
	}
	if b.Base != "" {
		if err := b.book.WriteVersus(os.Stdout, baseName, ours); err != nil {
			return err
		}
	}
	b.warn()
	if err := os.MkdirAll(filepath.Dir(b.Out), 0o755); err != nil {
		return err
	}
	plot := strings.TrimSuffix(b.Out, filepath.Ext(b.Out)) + ".svg"
	return errors.Join(writeFile(b.Out, b.book.WriteJSON), writeFile(plot, b.book.WriteSVG))
}

func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

// tolerable is the share of the machine, in percent, that others may have.
const tolerable = 10

// warn tells when the machine was not ours.
func (b *bench) warn() {
	worst := 0.0
	for _, v := range b.book.List() {
		if strings.HasSuffix(v.Measure, othersSuffix) {
			worst = max(worst, v.Value)
		}
	}
	if worst > tolerable {
		progress("others had up to %.0f %% of the processors: trust the processor times, not the rates and their ratios", worst)
	}
}

// progress tells whoever waits; the table alone goes to standard output.
func progress(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, format+"\n", args...)
}
