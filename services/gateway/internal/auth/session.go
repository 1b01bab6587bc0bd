package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/lovage-mq/lovage/internal/access"
)

const (
	// The cookie of a session. Off loopback it has a name that browsers take from
	// this very host only, and over TLS only.
	plainCookie  = "lovage_session"
	secureCookie = "__Host-lovage_session"

	// recheckAfter is for how long a session is believed without asking for it,
	// so an end of it elsewhere counts that much later.
	recheckAfter = 10 * time.Second
	// mostSessions bounds the copies of sessions; further ones are asked for each
	// time.
	mostSessions = 10_000
	storeTimeout = time.Second
)

// SessionStore keeps sessions for all gateways. [access.Redis] does.
type SessionStore interface {
	PutSession(ctx context.Context, hash string, s access.Session) error
	GetSession(ctx context.Context, hash string) (access.Session, error)
	DropSession(ctx context.Context, hash string) error
}

// sessions are those of browsers. What the browser shows is kept nowhere; the
// hash of it is, in the store and in a copy here. While the store is away the
// copies are enough, so somebody can log in to the gateway that is there.
type sessions struct {
	store SessionStore
	life  time.Duration

	mu     sync.Mutex
	copies map[string]copied
}

type copied struct {
	access.Session
	checked time.Time
}

// begin makes a session for the owner of a key and returns what the browser is
// to show.
func (s *sessions) begin(ctx context.Context, keyID string, now time.Time) (token string, ends time.Time) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	token = base64.RawURLEncoding.EncodeToString(random)
	session := access.Session{KeyID: keyID, Ends: now.Add(s.life).UTC()}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_ = s.store.PutSession(ctx, hashOf(token), session) // else it is one of this gateway alone
	s.copy(hashOf(token), session, now)
	return token, session.Ends
}

// find returns the session that a browser shows.
//
// Errors: [access.ErrNoSession], [access.ErrUnavailable].
func (s *sessions) find(ctx context.Context, token string, now time.Time) (access.Session, error) {
	if len(token) != base64.RawURLEncoding.EncodedLen(32) {
		return access.Session{}, access.ErrNoSession
	}
	hash := hashOf(token)
	s.mu.Lock()
	have, known := s.copies[hash]
	s.mu.Unlock()
	if known && now.After(have.Ends) {
		return access.Session{}, access.ErrNoSession
	}
	if known && now.Sub(have.checked) < recheckAfter {
		return have.Session, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	session, err := s.store.GetSession(ctx, hash)
	switch {
	case errors.Is(err, access.ErrNoSession):
		s.forget(hash)
		return access.Session{}, err
	case err != nil && known:
		session = have.Session
	case err != nil:
		return access.Session{}, err
	case now.After(session.Ends):
		return access.Session{}, access.ErrNoSession
	}
	s.copy(hash, session, now) // it is asked for less often, too, while the store is away
	return session, nil
}

// end ends a session for all gateways, or for this one while the store is away.
func (s *sessions) end(ctx context.Context, token string) error {
	hash := hashOf(token)
	s.forget(hash)
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return s.store.DropSession(ctx, hash)
}

func (s *sessions) copy(hash string, session access.Session, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.copies == nil {
		s.copies = map[string]copied{}
	}
	if _, known := s.copies[hash]; !known && len(s.copies) >= mostSessions {
		for other, c := range s.copies {
			if now.After(c.Ends) || now.Sub(c.checked) > time.Hour {
				delete(s.copies, other)
			}
		}
		if len(s.copies) >= mostSessions {
			return
		}
	}
	s.copies[hash] = copied{session, now}
}

func (s *sessions) forget(hash string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.copies, hash)
}

func hashOf(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// secure reports whether the cookie is for TLS only: always, but on this very
// machine without it.
func secure(r *http.Request) bool {
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(host)
	return r.TLS != nil || host != "localhost" && host != "[::1]" && (ip == nil || !ip.IsLoopback())
}

func cookieName(r *http.Request) string {
	if secure(r) {
		return secureCookie
	}
	return plainCookie
}

// cookie is what a browser is told to show until a time, or no longer if that is
// zero. No page of another site makes it show it.
func cookie(r *http.Request, token string, ends time.Time) *http.Cookie {
	c := &http.Cookie{
		Name: cookieName(r), Value: token, Path: "/", Expires: ends,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: secure(r),
	}
	if ends.IsZero() {
		c.MaxAge = -1
	}
	return c
}

// shown returns what a browser shows of its session, empty for nothing.
func shown(r *http.Request) string {
	list := r.CookiesNamed(cookieName(r))
	if len(list) != 1 {
		return "" // two are one that somebody else has put there
	}
	return list[0].Value
}
