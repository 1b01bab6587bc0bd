package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// tokenPrefix makes a key that was published by mistake easy to find:
	// lovage_[a-z2-7]{8}_[a-z2-7]{52}.
	tokenPrefix = "lovage_"
	idLength    = 8
	// secretLength is that of 256 random bits in base 32.
	secretLength = 52
	tokenLength  = len(tokenPrefix) + idLength + 1 + secretLength

	longestName  = 100
	mostPatterns = 100
)

// Key is an API key as it is kept: without what its owner shows.
type Key struct {
	ID     string    `json:"id"`
	Name   string    `json:"name"`
	Hash   Hash      `json:"sha256"`
	Scopes []Scope   `json:"scopes"`
	Tasks  []Pattern `json:"tasks,omitempty"`
	Queues []Pattern `json:"queues,omitempty"`
	Rate   Rate      `json:"rate,omitzero"`

	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	RevokedAt time.Time `json:"revoked_at,omitzero"`
}

// Hash is the SHA-256 of a token. A token has 256 random bits, so nothing slower
// is needed to keep it from being guessed.
type Hash [sha256.Size]byte

// MarshalText writes the hash in hexadecimal.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText reads what MarshalText has written.
func (h *Hash) UnmarshalText(text []byte) error {
	raw, err := hex.DecodeString(string(text))
	if err != nil || len(raw) != len(h) {
		return fmt.Errorf("must be the %d hexadecimal digits of a SHA-256", 2*len(h))
	}
	copy(h[:], raw)
	return nil
}

// New makes a key of what the template says about its name, scopes, patterns,
// rate and expiry. The token is what its owner shows; it is kept nowhere.
//
// The error names everything that is wrong with the template.
func New(template Key) (key Key, token string, err error) {
	random := make([]byte, 5+32) // 8 and 52 characters in base 32
	_, _ = rand.Read(random)     // never fails
	base := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	key = template
	key.ID = base.EncodeToString(random[:5])
	token = tokenPrefix + key.ID + "_" + base.EncodeToString(random[5:])
	key.Hash = hashOf(token)
	key.CreatedAt, key.RevokedAt = time.Now().UTC().Truncate(time.Second), time.Time{}
	key.ExpiresAt = key.ExpiresAt.UTC().Truncate(time.Second)
	return key, token, key.validate()
}

// Rotate makes a key in the place of another, which ends when the overlap is
// over, if it does not end before. A zero time is no end of the new one.
func (k Key) Rotate(overlap time.Duration, expires time.Time) (old, successor Key, token string, err error) {
	now := time.Now()
	if state := k.State(now); state != Active {
		return k, Key{}, "", fmt.Errorf("key %s is %s: create one", k.ID, state)
	}
	template := k
	template.ExpiresAt = expires
	successor, token, err = New(template)
	old = k
	if end := now.Add(overlap).UTC().Truncate(time.Second); k.ExpiresAt.IsZero() || end.Before(k.ExpiresAt) {
		old.ExpiresAt = end
	}
	return old, successor, token, err
}

// The states of a key.
const (
	Active  = "active"
	Expired = "expired"
	Revoked = "revoked"
)

// State says whether the key is of use at a time.
func (k Key) State(now time.Time) string {
	switch {
	case !k.RevokedAt.IsZero():
		return Revoked
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		return Expired
	}
	return Active
}

// forgotten reports whether the key has been of no use for so long that nobody
// asks for it.
func (k Key) forgotten(now time.Time) bool {
	const kept = 30 * 24 * time.Hour
	ended := k.RevokedAt
	if ended.IsZero() {
		ended = k.ExpiresAt
	}
	return !ended.IsZero() && now.Sub(ended) > kept
}

func (k Key) grant() *Grant {
	return &Grant{Who: k.Name, KeyID: k.ID, Scopes: k.Scopes, Tasks: k.Tasks, Queues: k.Queues, Rate: k.Rate}
}

func (k Key) validate() error {
	var errs []error
	if len(k.ID) != idLength || strings.ContainsFunc(k.ID, notBase32) {
		errs = append(errs, fmt.Errorf("id: must have %d characters of a-z and 2-7, is %q", idLength, k.ID))
	}
	if k.Name == "" || len(k.Name) > longestName || k.Name == Anonymous || strings.ContainsFunc(k.Name, notInName) {
		errs = append(errs, fmt.Errorf("name: must have 1 to %d letters, digits, dots, hyphens, underscores and @, and not be %s, is %q", longestName, Anonymous, k.Name))
	}
	if len(k.Scopes) == 0 {
		errs = append(errs, errors.New("scopes: at least one of submit, read, admin"))
	}
	for _, s := range k.Scopes {
		if !slices.Contains(Scopes(), s) {
			errs = append(errs, fmt.Errorf("scopes: must be of submit, read, admin, is %q", string(s)))
		}
	}
	for _, list := range []struct {
		field    string
		patterns []Pattern
	}{{"tasks", k.Tasks}, {"queues", k.Queues}} {
		if len(list.patterns) > mostPatterns {
			errs = append(errs, fmt.Errorf("%s: at most %d patterns, are %d", list.field, mostPatterns, len(list.patterns)))
		}
		for _, p := range list.patterns {
			if err := p.validate(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", list.field, err))
			}
		}
	}
	if err := k.Rate.validate(); err != nil {
		errs = append(errs, fmt.Errorf("rate: %w", err))
	}
	return errors.Join(errs...)
}

func notBase32(r rune) bool { return (r < 'a' || r > 'z') && (r < '2' || r > '7') }

func notInName(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune(".-_@", r)
}

// hashOf works on the stack.
func hashOf(token string) Hash {
	var text [tokenLength]byte
	n := copy(text[:], token)
	return sha256.Sum256(text[:n])
}

// idOf returns the id in a token, and whether it is one at all.
func idOf(token string) (id string, ok bool) {
	if len(token) != tokenLength || !strings.HasPrefix(token, tokenPrefix) || token[len(tokenPrefix)+idLength] != '_' {
		return "", false
	}
	return token[len(tokenPrefix) : len(tokenPrefix)+idLength], true
}

// is reports in constant time whether the token is that of the key.
func (k *Key) is(token string) bool {
	h := hashOf(token)
	return subtle.ConstantTimeCompare(h[:], k.Hash[:]) == 1
}

// encodeKeys and decodeKeys are the form of the file.
func encodeKeys(keys []Key) ([]byte, error) {
	text, err := json.MarshalIndent(struct {
		Keys []Key `json:"keys"`
	}{keys}, "", "  ")
	return append(text, '\n'), err
}

func decodeKeys(text []byte) ([]Key, error) {
	var file struct {
		Keys []Key `json:"keys"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	var errs []error
	seen := map[string]bool{}
	for i, k := range file.Keys {
		if err := k.validate(); err != nil {
			errs = append(errs, fmt.Errorf("key %d (%s): %w", i+1, k.ID, err))
		}
		if seen[k.ID] {
			errs = append(errs, fmt.Errorf("key %d: there is another one with the id %s", i+1, k.ID))
		}
		seen[k.ID] = true
	}
	return file.Keys, errors.Join(errs...)
}
