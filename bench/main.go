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
	"runtime"
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
	Rounds   int           `default:"5" help:"How often each contender has its turn; thrice at most where there is no target."`
	Within   time.Duration `default:"1h" help:"After that long each contender has but one turn in what is left."`
	Limit    time.Duration `default:"6m" help:"How long a turn may take until it has failed."`
	Length   time.Duration `default:"3s" help:"How long a turn of single submissions is."`
	WarmUp   time.Duration `default:"500ms" help:"How long each turn runs before it counts."`
	Items    int           `default:"50000" help:"Items of a batch."`
	Rates    []float64     `default:"300" help:"Tasks a second that are picked up."`
	Kinds    []string      `default:"noop" help:"Tasks that are worked off: ${kinds}."`
	Drain    time.Duration `default:"5s" help:"How long a turn of working off a kind is, about."`
	Trial    int           `default:"2000" help:"Tasks with which the pools of workers are tried; 0 takes the first of each."`
	Peers    []string      `help:"Other task systems to compare with: ${peers}."`
	OnePeer  bool          `help:"Only one of them takes part in each measure, in turn: to see that everything runs."`
	Waiters  []int         `default:"1,16" help:"Clients that wait for results at the same time."`
	Waiting  []int         `default:"1000,60000" help:"How many tasks wait while growth is measured."`
	Loads    []int         `default:"25,50,80" help:"Rates of the open loop, in percent of what each contender manages in the closed one."`
	Latency  time.Duration `default:"1ms" help:"How much later everything arrives, either way, in the measure latency."`
	Workers  []int         `default:"1,2,4" help:"Processes that work off a queue together."`
	Faults   []string      `default:"freeze,kill" enum:"freeze,kill" help:"What happens to the broker or the store in the measure outage."`
	Outage   time.Duration `default:"8s" help:"How long that lasts."`
	Back     time.Duration `default:"30s" help:"How long is waited until a contender serves again."`
	Channels []int         `default:"1,2,4,8" help:"Channels with which the floors are tried."`
	Base     string        `help:"Another revision of Lovage to compare with, which has turns in between."`
	Out      string        `default:"out/latest.json" help:"File for the medians; the plot and the table lie beside it."`
}

// bench is one run.
type bench struct {
	settings
	stack *stack.Stack
	book  *report.Book
	// gateway is shared by the measures that need no settings of their own.
	gateway *stack.Service
	// peers are those that take part now, of those that have started.
	peers, started []contender
	// best are the floors with the best number of channels, once they are known.
	best map[string]contender
	// bytes is how much is hashed in a millisecond.
	bytes int
	begun time.Time
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
		{"drain", (*bench).drain},
		{"kinds", (*bench).kinds},
		{"pickup", (*bench).pickUp},
		{"growth", (*bench).growth},
		{"open", (*bench).open},
		{"delayed", (*bench).delayed},
		{"inflight", (*bench).inFlight},
		{"run", (*bench).roundTrip},
		{"workers", (*bench).workers},
		{"latency", (*bench).latency},
		{"outage", (*bench).outage}, // the servers are not the same afterwards
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
	b := &bench{settings: s, book: &report.Book{}, best: map[string]contender{}, bytes: runner.Calibrate(), begun: time.Now()}
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
	measured := 0
	for _, m := range measures() {
		if !slices.Contains(s.Measures, m.name) || ctx.Err() != nil {
			continue
		}
		b.invite(measured)
		measured++
		if wrong := b.measure(ctx, m); wrong != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", m.name, wrong))
		}
	}
	err = errors.Join(err, b.show()) // what was measured before is worth a look
	if n := b.book.Failures(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d of the rows have failed", n))
	}
	return err
}

// invite chooses the peers that take part in a measure.
func (b *bench) invite(measure int) {
	b.peers = b.started
	if n := len(b.started); b.OnePeer && n > 0 {
		b.peers = b.started[measure%n:][:1]
	}
}

// measure measures one thing, and keeps what has come of it so far.
func (b *bench) measure(ctx context.Context, m measure) error {
	started := time.Now()
	if err := b.revive(ctx); err != nil {
		return err
	}
	err := m.run(b, ctx)
	progress("%s: took %v", m.name, time.Since(started).Round(time.Second))
	b.addOwn()
	b.book.Judge(aims())
	return errors.Join(err, b.save())
}

// show writes the table to standard output, and what was reached of the targets.
func (b *bench) show() error {
	if err := b.table(os.Stdout); err != nil {
		return err
	}
	b.warn()
	return b.save()
}

func (b *bench) table(w io.Writer) error {
	if err := b.book.WriteTable(w); err != nil {
		return err
	}
	if b.Base != "" {
		return b.book.WriteVersus(w, baseName, ours)
	}
	return b.book.WriteAims(w, aims())
}

// save writes the medians, a plot of them and the table to their files.
func (b *bench) save() error {
	if err := os.MkdirAll(filepath.Dir(b.Out), 0o755); err != nil {
		return err
	}
	beside := strings.TrimSuffix(b.Out, filepath.Ext(b.Out))
	return errors.Join(
		writeFile(b.Out, b.book.WriteJSON), writeFile(beside+".svg", b.plot), writeFile(beside+".txt", b.table),
	)
}

func (b *bench) plot(w io.Writer) error {
	return b.book.WriteSVG(w, report.Plot{
		Title: fmt.Sprintf("Lovage beside others, %s, %d processors with everything on them", b.begun.Format(time.DateOnly), runtime.NumCPU()),
		Ours:  ours, Sections: b.sections(),
	})
}

func (b *bench) sections() []report.Section {
	return []report.Section{
		{Title: "Submitting, one after the other", Names: []string{"submit"}},
		{Title: "Submitting at a rate", Names: []string{"open"}},
		{Title: "Many at once", Names: []string{"batch", "delayed"}},
		{Title: "Working off a queue", Names: []string{"drain", "workers"}},
		{Title: "From the confirm to the first line of the handler", Names: []string{"pickup"}},
		{Title: "From the request to the result", Names: []string{"run"}},
		{Title: "While many wait", Names: []string{"growth"}},
		{Title: fmt.Sprintf("With %v of latency, either way, between all of them", b.Latency), Names: []string{"latency"}},
		{Title: "While RabbitMQ, Redis or PostgreSQL stands still, or is gone", Names: []string{"outage"}},
	}
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
