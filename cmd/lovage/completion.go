package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"github.com/lovage-mq/lovage/pkg/client"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// The scripts ask the program for whole lines, none of which a shell evaluates:
// the names among them come from workers.
const (
	bashScript = `# eval "$(lovage completion bash)", best in ~/.bashrc
_lovage() {
	local word
	COMPREPLY=()
	while IFS= read -r word; do
		COMPREPLY+=("$(printf %q "$word")")
	done < <(lovage complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _lovage lovage
`
	zshScript = `#compdef lovage
# eval "$(lovage completion zsh)", best in ~/.zshrc after compinit
_lovage() {
	local -a found
	found=("${(@f)$(lovage complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	if [[ -n $found ]]; then compadd -a found; else _files; fi
}
compdef _lovage lovage
`
	fishScript = `# lovage completion fish > ~/.config/fish/completions/lovage.fish
function __lovage_complete
	set -l words (commandline -opc) (commandline -ct)
	lovage complete -- $words[2..-1] 2>/dev/null
end
complete -c lovage -f -a '(__lovage_complete)'
complete -c lovage -F -n '__fish_seen_subcommand_from batch'
`
)

// Run prints the script of a shell.
func (c *completionCmd) Run(a *app) error {
	_, err := fmt.Fprint(a.out, map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell])
	return err
}

type completeCmd struct {
	Words []string `arg:"" optional:"" passthrough:""`
}

// Run prints how the last word can go on, one answer a line.
func (c *completeCmd) Run(ctx context.Context, a *app) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	if len(words) == 0 {
		words = []string{""}
	}
	done := completer{node: a.parser.Model.Node, given: map[string]string{}}
	done.names = func(kind string) []string { return a.names(ctx, kind, done.given) }
	for _, word := range done.complete(words) {
		if _, err := fmt.Fprintln(a.out, word); err != nil {
			return err
		}
	}
	return nil
}

// names are what only the gateway or the configuration knows. Who presses a key
// does not wait long, and gets no errors. The gateway is the one that the line
// names already.
func (a *app) names(ctx context.Context, kind string, given map[string]string) []string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	a.Gateway, a.Profile = cmp.Or(given["gateway"], a.Gateway), cmp.Or(given["profile"], a.Profile)
	gateway, err := a.connect(os.Getenv)
	if err != nil {
		gateway = &client.Client{} // which knows nothing
	}
	var names []string
	switch kind {
	case "tasks":
		catalog, _ := gateway.Catalog(ctx)
		for _, e := range catalog {
			names = append(names, e.Name)
		}
	case "queues":
		queues, _ := gateway.Queues(ctx)
		for _, q := range queues {
			names = append(names, q.Name)
		}
	case "workers":
		workers, _ := gateway.Workers(ctx)
		for _, w := range workers {
			names = append(names, w.Name)
		}
	case "profiles":
		c, _ := readConfig()
		names = slices.Collect(maps.Keys(c.Profiles))
	case "states":
		for _, s := range []client.State{client.Pending, client.Received, client.Started, client.InWork, client.Retrying, client.Success, client.Failure, client.Revoked} {
			names = append(names, string(s))
		}
	}
	// A name that is no single line would be taken for several.
	return slices.DeleteFunc(names, func(s string) bool { return s != printable(s) })
}

// completer walks the commands along the words.
type completer struct {
	node  *kong.Node
	place int               // of the next argument of the node
	given map[string]string // values of flags by their names
	names func(kind string) []string
}

// complete returns how the last word can go on, sorted.
func (c *completer) complete(words []string) []string {
	last := words[len(words)-1]
	var value *kong.Value // what the next word is the value of
	for _, word := range words[:len(words)-1] {
		switch {
		case word == "=" && value != nil: // bash splits there
		case value != nil:
			c.given[value.Name] = word
			value = nil
		case strings.HasPrefix(word, "-"):
			_, rest, assigned := strings.Cut(word, "=")
			switch f := c.flag(word); {
			case f == nil || f.IsBool():
			case assigned:
				c.given[f.Name] = rest
			default:
				value = f.Value
			}
		default:
			c.enter(word)
		}
	}
	var found []string
	prefix := ""
	switch name, rest, assigned := strings.Cut(last, "="); {
	case value != nil:
		found = c.values(value)
		last = strings.TrimPrefix(last, "=")
	case strings.HasPrefix(last, "-") && assigned:
		if f := c.flag(name); f != nil {
			found, prefix, last = c.values(f.Value), name+"=", rest
		}
	case strings.HasPrefix(last, "-"):
		for _, f := range c.flags() {
			found = append(found, "--"+f.Name)
		}
	default:
		found = c.words()
	}
	found = slices.DeleteFunc(found, func(s string) bool { return !strings.HasPrefix(s, last) })
	for i := range found {
		found[i] = prefix + found[i]
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// enter goes to a command, or past an argument.
func (c *completer) enter(word string) {
	for _, child := range c.node.Children {
		if child.Name == word {
			c.node, c.place = child, 0
			return
		}
	}
	c.place++
}

// words are the commands and the values of the argument that can come next.
func (c *completer) words() []string {
	var found []string
	for _, child := range c.node.Children {
		if !child.Hidden {
			found = append(found, child.Name)
		}
	}
	if c.place < len(c.node.Positional) {
		found = append(found, c.values(c.node.Positional[c.place])...)
	}
	return found
}

func (c *completer) values(v *kong.Value) []string {
	if kind := v.Tag.Get("complete"); kind != "" {
		return c.names(kind)
	}
	return slices.DeleteFunc(v.EnumSlice(), func(s string) bool { return s == "" })
}

func (c *completer) flags() []*kong.Flag {
	var found []*kong.Flag
	for _, group := range c.node.AllFlags(true) {
		found = append(found, group...)
	}
	return found
}

func (c *completer) flag(word string) *kong.Flag {
	name, _, _ := strings.Cut(word, "=")
	for _, f := range c.flags() {
		if name == "--"+f.Name || f.Short != 0 && name == "-"+string(f.Short) {
			return f
		}
	}
	return nil
}
