package api

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

const (
	keyHeader = "Idempotency-Key"
	// longestKey is the longest value of a key, without its quotes.
	longestKey = 255
)

// idempotencyKey reads the header: a string of structured fields, as the draft
// asks, or the same without its quotes. It is empty when there is no header.
func idempotencyKey(h http.Header) (string, error) {
	lines := h.Values(keyHeader)
	if len(lines) == 0 {
		return "", nil
	}
	key, rule := strings.Trim(lines[0], " \t"), ""
	if strings.HasPrefix(key, `"`) {
		key, rule = unquoteKey(key)
	} else if strings.ContainsFunc(key, notInToken) {
		rule = `may have visible ASCII characters without "\,; when it has no quotes`
	}
	if rule == "" && (key == "" || len(key) > longestKey) {
		rule = fmt.Sprintf("must have 1 to %d characters", longestKey)
	}
	if rule != "" {
		p := newProblem(slugBadKey, keyHeader+": "+rule)
		p.Errors = []fieldError{{Header: keyHeader, Detail: rule}}
		return "", p
	}
	return key, nil
}

// unquoteKey reads a string of structured fields (RFC 8941, section 4.2.5).
func unquoteKey(s string) (key, rule string) {
	var out strings.Builder
	for i := 1; i < len(s); i++ {
		switch b := s[i]; {
		case b == '"' && i == len(s)-1:
			return out.String(), ""
		case b == '"':
			return "", "must end with the closing quote"
		case b == '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", `a \ must be followed by " or \`
			}
			out.WriteByte(s[i])
		case b < ' ' || b > '~':
			return "", "may have printable ASCII characters"
		default:
			out.WriteByte(b)
		}
	}
	return "", "has no closing quote"
}

// notInToken is more lenient than the tokens of RFC 9110, for keys in base64.
func notInToken(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`"\,;`, r) }

// payloadHash tells payloads apart: the route, the task in the path, the query
// in any order, and the body byte by byte. What the headers ask for, such as to
// wait, is not part of it.
func payloadHash(route string, c *call) string {
	query := c.request.URL.RawQuery
	if values, err := url.ParseQuery(query); err == nil {
		query = values.Encode()
	}
	hash := sha256.New()
	for _, part := range [][]byte{[]byte(route), []byte(c.name), []byte(query), c.body} {
		// The length keeps the end of one part from being the beginning of the next.
		hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		hash.Write(part)
	}
	return hex.EncodeToString(hash.Sum(nil))
}
