package messages

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxRepr bounds argsrepr and kwargsrepr, in bytes: Celery's own bound is 1024
// characters.
const maxRepr = 1024

// pythonRepr renders JSON text as Python would print the value, for logs and
// Flower. A top-level array becomes a tuple when asked. What is longer than
// maxRepr is cut and ends in "...". The input is read only as far as needed.
func pythonRepr(raw []byte, tuple bool) string {
	p := reprWriter{raw: raw, tuple: tuple}
	for p.i < len(raw) && p.out.Len() <= maxRepr {
		p.token()
	}
	s := p.out.String()
	if len(s) > maxRepr {
		s = clip(s, maxRepr-3) + "..."
	}
	return s
}

type reprWriter struct {
	raw   []byte
	i     int
	out   strings.Builder
	depth int
	// tuple is whether the outermost array is one, commas how many elements
	// separators it has.
	tuple  bool
	commas int
}

// token renders one token.
func (p *reprWriter) token() {
	c := p.raw[p.i]
	switch c {
	case ' ', '\n', '\t', '\r':
		p.i++
	case '"':
		end := stringEnd(p.raw, p.i)
		p.str(p.raw[p.i:end])
		p.i = end
	case '[', '{':
		p.depth++
		p.i++
		p.open(c)
	case ']', '}':
		p.i++
		p.close(c)
		p.depth--
	case ',':
		p.i++
		if p.depth == 1 {
			p.commas++
		}
		p.out.WriteString(", ")
	case ':':
		p.i++
		p.out.WriteString(": ")
	default:
		p.scalar()
	}
}

func (p *reprWriter) open(c byte) {
	if c == '[' && p.tuple && p.depth == 1 {
		c = '('
	}
	p.out.WriteByte(c)
}

func (p *reprWriter) close(c byte) {
	if c == ']' && p.tuple && p.depth == 1 {
		if p.commas == 0 && p.out.Len() > 1 {
			p.out.WriteByte(',')
		}
		c = ')'
	}
	p.out.WriteByte(c)
}

func (p *reprWriter) scalar() {
	end, _ := valueEnd(p.raw, p.i)
	word := p.raw[p.i:max(end, p.i+1)]
	p.i += len(word)
	switch word[0] {
	case 't':
		p.out.WriteString("True")
	case 'f':
		p.out.WriteString("False")
	case 'n':
		p.out.WriteString("None")
	default:
		p.out.Write(word[:min(len(word), maxRepr+1)])
	}
}

// str renders a JSON string the way Python quotes it.
func (p *reprWriter) str(quoted []byte) {
	s := text(shorten(quoted))
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	p.out.WriteByte(quote)
	for _, r := range s {
		if p.out.Len() > maxRepr {
			break
		}
		p.char(r, quote)
	}
	p.out.WriteByte(quote)
}

// shorten cuts a JSON string that is longer than any rendering needs. A cut
// inside an escape sequence is moved to the left of it.
func shorten(quoted []byte) []byte {
	// The longest escape, \u0000, stands for one byte at least.
	const limit = 6 * maxRepr
	if len(quoted) <= limit {
		return quoted
	}
	for cut := limit; ; cut-- {
		if s := append(quoted[:cut:cut], '"'); json.Valid(s) {
			return s
		}
	}
}

func (p *reprWriter) char(r rune, quote byte) {
	switch {
	case r == rune(quote) || r == '\\':
		p.out.WriteByte('\\')
		p.out.WriteRune(r)
	case r == '\n':
		p.out.WriteString(`\n`)
	case r == '\r':
		p.out.WriteString(`\r`)
	case r == '\t':
		p.out.WriteString(`\t`)
	case r < ' ' || r >= 0x7f && r <= 0xff && !unicode.IsPrint(r):
		fmt.Fprintf(&p.out, `\x%02x`, r)
	case r == utf8.RuneError || unicode.IsPrint(r):
		p.out.WriteRune(r)
	case r <= 0xffff:
		fmt.Fprintf(&p.out, `\u%04x`, r)
	default:
		fmt.Fprintf(&p.out, `\U%08x`, r)
	}
}
