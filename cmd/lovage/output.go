package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"
)

const outputJSON = "json"

// print writes v to programs, and to people what show writes.
func (a *app) print(v any, show func(io.Writer) error) error {
	if a.Output != outputJSON {
		return show(a.out)
	}
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// table writes rows of cells under their titles.
func table(w io.Writer, titles []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	line := func(cells []string) {
		_, _ = io.WriteString(t, strings.Join(cells, "\t")+"\n") // Flush says it
	}
	line(titles)
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
		line(row)
	}
	return t.Flush()
}

// fields writes names and values below each other, without those that have none.
func fields(w io.Writer, pairs ...string) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			_, _ = io.WriteString(t, pairs[i]+"\t"+printableLines(pairs[i+1])+"\n") // Flush says it
		}
	}
	return t.Flush()
}

// printable takes out what would do something to a terminal or a table: texts
// come from tasks, and so from anybody.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}

// printableLines is printable for a text of several lines.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = printable(strings.ReplaceAll(lines[i], "\t", "    "))
	}
	return strings.Join(lines, "\n")
}

// short cuts a text that is too long for a table.
func short(s string, longest int) string {
	runes := []rune(s)
	if len(runes) <= longest {
		return s
	}
	return string(runes[:longest-1]) + "…"
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// moment writes a time as it is where the user is.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

func count(n *int) string {
	if n == nil {
		return "?"
	}
	return strconv.Itoa(*n)
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// compact is JSON for people; null is nothing.
func compact(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	return string(raw)
}

// onTerminal reports whether a writer or reader is a terminal.
func onTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ask puts a question to whoever sits at the terminal.
func (a *app) confirm(question string) (bool, error) {
	if _, err := fmt.Fprint(a.err, question+" [y/N] "); err != nil {
		return false, err
	}
	var answer string
	_, _ = fmt.Fscanln(a.in, &answer) // no answer is a no
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"), nil
}
