package access

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
)

// sessionKey, with the hash of what the browser shows, is a session. It ends by
// itself.
const sessionKey = "lovage:session:"

// Session is that of a browser whose user has shown a key.
type Session struct {
	KeyID string    `json:"key_id"`
	Ends  time.Time `json:"ends"`
}

// ErrNoSession says that there is no such session, any more.
var ErrNoSession = errors.New("no such session")

// PutSession keeps a session by the hash of what the browser shows.
//
// Errors: [ErrUnavailable].
func (r Redis) PutSession(ctx context.Context, hash string, s Session) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return unavailable("keep the session", r.Client.Set(ctx, sessionKey+hash, text, time.Until(s.Ends)).Err())
}

// GetSession returns a session.
//
// Errors: [ErrNoSession], [ErrUnavailable].
func (r Redis) GetSession(ctx context.Context, hash string) (Session, error) {
	text, err := r.Client.Get(ctx, sessionKey+hash).Bytes()
	if errors.Is(err, redis.Nil) {
		return Session{}, ErrNoSession
	}
	if err != nil {
		return Session{}, unavailable("look the session up", err)
	}
	var s Session
	if json.Unmarshal(text, &s) != nil {
		return Session{}, ErrNoSession
	}
	return s, nil
}

// DropSession ends a session.
//
// Errors: [ErrUnavailable].
func (r Redis) DropSession(ctx context.Context, hash string) error {
	return unavailable("end the session", r.Client.Del(ctx, sessionKey+hash).Err())
}
