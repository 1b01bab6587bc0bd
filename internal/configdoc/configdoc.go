// Package configdoc writes the tables of docs/configuration.md from the settings
// that the programs have.
package configdoc

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/lovage-mq/lovage/internal/settings"
)

// row is one of a table: variable, flag, default, unit and meaning.
var row = regexp.MustCompile("^\\| `(LOVAGE_[A-Z0-9_]+)` \\| [^|]* \\| [^|]* \\| ([^|]+) \\| ([^|]+) \\|\n$")

// Tables returns the page with the tables under these headings as they should
// be: a row for each setting, in the order of the program, with its variable, its
// flag and its default. What somebody has written about a setting in the columns
// Unit and Meaning stays; a new one has its help. Common settings are those that
// the page has under the heading Common.
func Tables(page string, options any, headings ...string) string {
	written := map[string][2]string{} // by heading and variable
	of := map[string]string{}         // the heading that has a variable
	each(page, headings, func(heading, line string) {
		if cells := row.FindStringSubmatch(line); cells != nil {
			written[cells[1]], of[cells[1]] = [2]string{cells[2], cells[3]}, heading
		}
	})
	tables := map[string]string{}
	for _, s := range settings.Of(options) {
		name := s.Env
		if name == "" {
			continue
		}
		text, found := written[name]
		if !found {
			of[name], text = headings[0], [2]string{"text", s.Help}
		}
		tables[of[name]] += fmt.Sprintf("| `%s` | `--%s` | %s | %s | %s |\n", name, s.Name, standard(s), text[0], text[1])
	}
	var out strings.Builder
	done := map[string]bool{}
	heading := ""
	for line := range strings.Lines(page) {
		if name, is := strings.CutPrefix(line, "## "); is {
			heading = strings.TrimSpace(name)
		}
		if table, ours := tables[heading]; ours && strings.HasPrefix(line, "| `") {
			if !done[heading] {
				out.WriteString(table)
			}
			done[heading] = true
			continue
		}
		out.WriteString(line)
	}
	return out.String()
}

// each goes through the rows of the tables under the headings.
func each(page string, headings []string, see func(heading, line string)) {
	heading := ""
	for line := range strings.Lines(page) {
		if name, is := strings.CutPrefix(line, "## "); is {
			heading = strings.TrimSpace(name)
		}
		for _, h := range headings {
			if h == heading {
				see(heading, line)
			}
		}
	}
}

// standard is the default of a setting, as the page shows it.
func standard(s settings.Setting) string {
	switch {
	case s.Default != "":
		return "`" + s.Default + "`"
	case s.IsBoolFlag():
		return "`false`"
	}
	return "none"
}
