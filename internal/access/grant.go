package access

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Scope is a kind of thing that may be done.
type Scope string

// The scopes. Admin includes the others.
const (
	Submit Scope = "submit" // submit tasks, cancel them and run them again
	Read   Scope = "read"   // see everything
	Admin  Scope = "admin"  // steer queues, workers and dead letters, and read the audit
)

// Scopes returns all scopes.
func Scopes() []Scope { return []Scope{Submit, Read, Admin} }

// Anonymous is who somebody is who need not say it.
const Anonymous = "anonymous"

// Grant is what somebody may do. It is never written to; nil may do nothing.
type Grant struct {
	// Who is the name of the key, which outlives a rotation, and KeyID the one
	// key.
	Who   string
	KeyID string
	// Scopes, and the patterns that tasks and queues have to match. No pattern
	// means any.
	Scopes []Scope
	Tasks  []Pattern
	Queues []Pattern
	// Rate is how often it may be used; zero for what is the rule.
	Rate Rate
}

// Everything returns the grant of somebody who need not say who they are.
func Everything() *Grant { return &Grant{Who: Anonymous, Scopes: []Scope{Admin}} }

// Has reports whether a scope is granted.
func (g *Grant) Has(s Scope) bool {
	return g != nil && (slices.Contains(g.Scopes, s) || slices.Contains(g.Scopes, Admin))
}

// Task reports whether tasks of this name are meant.
func (g *Grant) Task(name string) bool { return g != nil && matchesAny(g.Tasks, name) }

// Queue reports whether this queue is meant.
func (g *Grant) Queue(name string) bool { return g != nil && matchesAny(g.Queues, name) }

// Restricted reports whether there is any task or queue that is not meant.
func (g *Grant) Restricted() bool { return g == nil || len(g.Tasks)+len(g.Queues) > 0 }

type grantKey struct{}

// With returns a context of somebody who has the grant.
func With(ctx context.Context, g *Grant) context.Context {
	return context.WithValue(ctx, grantKey{}, g)
}

// IsKey reports whether a key of a context asks for a grant. It is for contexts
// of one's own that have one.
func IsKey(key any) bool {
	_, is := key.(grantKey)
	return is
}

// From returns the grant of whom the context is, nil for nobody's.
func From(ctx context.Context) *Grant {
	g, _ := ctx.Value(grantKey{}).(*Grant)
	return g
}

// Pattern is a name in which * stands for any characters, and for none.
type Pattern string

// longestPattern is as long as the name of a task may be.
const longestPattern = 255

func (p Pattern) validate() error {
	if p == "" || len(p) > longestPattern || strings.ContainsFunc(string(p), func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("a pattern has 1 to %d characters and no control characters, is %q", longestPattern, string(p))
	}
	return nil
}

// Match reports whether the whole name is what the pattern says.
func (p Pattern) Match(name string) bool {
	first, rest, wild := strings.Cut(string(p), "*")
	name, ok := strings.CutPrefix(name, first)
	if !wild || !ok {
		return ok && name == ""
	}
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(name, part)
		}
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name, rest = name[at+len(part):], after
	}
}

func matchesAny(patterns []Pattern, name string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p Pattern) bool { return p.Match(name) })
}
