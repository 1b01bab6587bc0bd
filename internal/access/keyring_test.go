package access_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/internal/access"
)

func newKeyring(t *testing.T, stores ...access.Store) *access.Keyring {
	t.Helper()
	k := access.NewKeyring(nil, zap.NewNop(), stores...)
	require.NoError(t, k.Refresh(t.Context()))
	return k
}

func newFile(t *testing.T) access.File {
	t.Helper()
	return access.File{Path: filepath.Join(t.TempDir(), "keys.json")}
}

// Both places where keys can be do the same.
func TestKeysAreKept(t *testing.T) {
	t.Parallel()
	for name, store := range map[string]func(*testing.T) access.Store{
		"in a file": func(t *testing.T) access.Store { t.Helper(); return newFile(t) },
		"in Redis": func(t *testing.T) access.Store {
			t.Helper()
			r, _ := newRedis(t)
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := store(t)
			first, token := newKey(t)
			require.NoError(t, s.Save(t.Context(), first))
			ring := newKeyring(t, s)
			grant, err := ring.Check(token, time.Now())
			require.NoError(t, err)
			require.Equal(t, "ci", grant.Who)
			require.Equal(t, first.ID, grant.KeyID)
			require.True(t, grant.Has(access.Submit))
			_, err = ring.Grant(first.ID, time.Now())
			require.NoError(t, err)

			old, successor, next, err := first.Rotate(time.Hour, time.Time{})
			require.NoError(t, err)
			require.NoError(t, s.Save(t.Context(), old, successor))
			require.NoError(t, ring.Refresh(t.Context()))
			for _, good := range []string{token, next} {
				_, err = ring.Check(good, time.Now())
				require.NoError(t, err, "both count while they overlap")
			}
			_, err = ring.Check(token, time.Now().Add(2*time.Hour))
			require.ErrorIs(t, err, access.ErrExpired)

			successor.RevokedAt = time.Now()
			require.NoError(t, s.Save(t.Context(), successor))
			require.NoError(t, ring.Refresh(t.Context()))
			_, err = ring.Check(next, time.Now())
			require.ErrorIs(t, err, access.ErrRevoked)
			_, err = ring.Check(token, time.Now())
			require.NoError(t, err, "the other one is as it was")

			ended, gone := newKey(t)
			ended.RevokedAt = time.Now().Add(-40 * 24 * time.Hour)
			require.NoError(t, s.Save(t.Context(), ended))
			require.NoError(t, ring.Refresh(t.Context()))
			_, err = ring.Check(gone, time.Now())
			require.ErrorIs(t, err, access.ErrUnknown, "long revoked, and forgotten")

			wrong := first
			wrong.Scopes = nil
			require.ErrorContains(t, s.Save(t.Context(), wrong), "scopes")
		})
	}
}

func TestManyWhoSaveAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	r, _ := newRedis(t)
	for _, s := range []access.Store{newFile(t), r} {
		var all sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			key, _ := newKey(t)
			all.Go(func() { errs[i] = s.Save(t.Context(), key) })
		}
		all.Wait()
		require.NoError(t, errors.Join(errs...))
		keys, _, err := s.Load(t.Context(), "")
		require.NoError(t, err)
		require.Len(t, keys, 8)
	}
}

func TestOnlyTheWholeKeyCounts(t *testing.T) {
	t.Parallel()
	s := newFile(t)
	key, token := newKey(t)
	_, other := newKey(t)
	require.NoError(t, s.Save(t.Context(), key))
	ring := newKeyring(t, s)
	for _, wrong := range []string{
		"", " ", token[:len(token)-1], token + "a", strings.ToUpper(token), strings.Replace(token, "lovage_", "lovage-", 1), other,
		token[:16] + other[16:], other[:16] + token[16:], key.ID, strings.Repeat("x", 1<<16), "lovage_" + key.ID + "_" + strings.Repeat("a", 52),
	} {
		_, err := ring.Check(wrong, time.Now())
		require.ErrorIs(t, err, access.ErrUnknown, wrong)
	}
	id, known := ring.Known("lovage_" + key.ID + "_" + strings.Repeat("a", 52))
	require.True(t, known)
	require.Equal(t, key.ID, id)
	_, known = ring.Known(other)
	require.False(t, known)
}

func FuzzToken(f *testing.F) {
	ring := access.NewKeyring(nil, zap.NewNop(), noKeys{})
	require.NoError(f, ring.Refresh(f.Context()))
	key, token, err := access.New(access.Key{Name: "ci", Scopes: []access.Scope{access.Read}})
	require.NoError(f, err)
	f.Add(token)
	f.Add("lovage_" + key.ID)
	f.Fuzz(func(t *testing.T, token string) {
		grant, err := ring.Check(token, time.Now())
		require.ErrorIs(t, err, access.ErrUnknown)
		require.Nil(t, grant)
		ring.Known(token)
	})
}

// noKeys is a store that is loaded and empty.
type noKeys struct{ access.Store }

func (noKeys) Load(context.Context, string) ([]access.Key, string, error) { return nil, "1", nil }

func TestAFileThatIsBrokenLeavesTheKeysAsTheyWere(t *testing.T) {
	t.Parallel()
	s := newFile(t)
	require.ErrorIs(t, access.NewKeyring(nil, zap.NewNop(), s).Refresh(t.Context()), os.ErrNotExist)
	key, token := newKey(t)
	require.NoError(t, s.Save(t.Context(), key))
	info, err := os.Stat(s.Path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "nobody else reads it")
	ring := newKeyring(t, s)
	for _, broken := range []string{"", "{", `{"keys":[{"id":"x"}]}`, `{"keys":[{"id":"aaaaaaaa","sha256":"00"}]}`} {
		require.NoError(t, os.WriteFile(s.Path, []byte(broken), 0o600))
		require.Error(t, ring.Refresh(t.Context()), broken)
		_, err := ring.Check(token, time.Now())
		require.NoError(t, err, broken)
		require.Error(t, s.Save(t.Context(), key), "nothing is written over what nobody can read")
	}
	require.NoError(t, os.WriteFile(s.Path, []byte(`{"keys":[]}`), 0o600))
	require.NoError(t, ring.Refresh(t.Context()))
	_, err = ring.Check(token, time.Now())
	require.ErrorIs(t, err, access.ErrUnknown, "it is the file that counts")
}

// A Secret that is mounted is a directory of links, one of which is replaced.
func TestAMountedSecretIsReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := filepath.Join(dir, "..data")
	publish := func(version string, keys ...access.Key) {
		require.NoError(t, os.Mkdir(filepath.Join(dir, version), 0o700))
		require.NoError(t, access.File{Path: filepath.Join(dir, version, "keys.json")}.Save(t.Context(), keys...))
		require.NoError(t, os.Symlink(version, data+"_tmp"))
		require.NoError(t, os.Rename(data+"_tmp", data))
	}
	first, token := newKey(t)
	publish("..1", first)
	file := filepath.Join(dir, "keys.json")
	require.NoError(t, os.Symlink(filepath.Join("..data", "keys.json"), file))
	ring := newKeyring(t, access.File{Path: file})
	_, err := ring.Check(token, time.Now())
	require.NoError(t, err)

	old, successor, next, err := first.Rotate(time.Hour, time.Time{})
	require.NoError(t, err)
	publish("..2", old, successor)
	require.NoError(t, ring.Refresh(t.Context()))
	for _, good := range []string{token, next} {
		_, err = ring.Check(good, time.Now())
		require.NoError(t, err)
	}
}

func FuzzKeysFile(f *testing.F) {
	dir := f.TempDir()
	f.Add([]byte(`{"keys":[{"id":"aaaaaaaa","name":"a","sha256":"` + strings.Repeat("00", 32) + `","scopes":["read"],"created_at":"2026-01-01T00:00:00Z"}]}`))
	f.Add([]byte(`{"keys":[{},{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := access.File{Path: filepath.Join(dir, "keys.json")}
		require.NoError(t, os.WriteFile(s.Path, text, 0o600))
		keys, _, err := s.Load(t.Context(), "")
		if err != nil {
			require.Nil(t, keys)
			return
		}
		for _, k := range keys {
			require.Len(t, k.ID, 8)
			require.NotEmpty(t, k.Scopes)
		}
	})
}

// away is a store that does not answer while broken is set.
type away struct {
	access.Store
	broken bool
}

func (a *away) Load(ctx context.Context, have string) ([]access.Key, string, error) {
	if a.broken {
		return nil, "", access.ErrUnavailable
	}
	return a.Store.Load(ctx, have)
}

func TestAStoreThatIsAwayTakesNoKeyFromAnybody(t *testing.T) {
	t.Parallel()
	file, r := newFile(t), &away{Store: newFile(t), broken: true}
	inFile, first := newKey(t)
	inRedis, second := newKey(t)
	require.NoError(t, file.Save(t.Context(), inFile))
	require.NoError(t, r.Save(t.Context(), inRedis))
	ring := access.NewKeyring(nil, zap.NewNop(), file, r)
	require.ErrorIs(t, ring.Refresh(t.Context()), access.ErrUnavailable)
	_, err := ring.Check(first, time.Now())
	require.NoError(t, err, "the file is enough for its own")
	_, err = ring.Check(second, time.Now())
	require.ErrorIs(t, err, access.ErrNotLoaded, "it may be right")
	_, err = ring.Grant(inRedis.ID, time.Now())
	require.ErrorIs(t, err, access.ErrNotLoaded)
	_, err = ring.Check("nonsense", time.Now())
	require.ErrorIs(t, err, access.ErrUnknown)

	r.broken = false
	require.NoError(t, ring.Refresh(t.Context()))
	_, err = ring.Check(second, time.Now())
	require.NoError(t, err)
	r.broken = true
	require.Error(t, ring.Refresh(t.Context()))
	_, err = ring.Check(second, time.Now())
	require.NoError(t, err, "what was known is known")
}

func TestTheLastUseIsKept(t *testing.T) {
	t.Parallel()
	r, _ := newRedis(t)
	key, token := newKey(t)
	unused, _ := newKey(t)
	require.NoError(t, r.Save(t.Context(), key, unused))
	ring := access.NewKeyring(r, zap.NewNop(), r)
	require.NoError(t, ring.Refresh(t.Context()))
	_, err := ring.Check(token, time.Now())
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	require.NoError(t, ring.Run(ctx), "it is written at the end, too")
	used, err := r.Usage(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), used[key.ID], time.Minute)
	require.Zero(t, used[unused.ID])
}

func TestRedisThatIsNotThereIsToldFromOneThatIsBroken(t *testing.T) {
	t.Parallel()
	r, client := newRedis(t)
	require.NoError(t, client.HSet(t.Context(), "lovage:{keys}:all", "aaaaaaaa", "{").Err())
	_, _, err := r.Load(t.Context(), "")
	require.ErrorContains(t, err, "aaaaaaaa")
	require.NotErrorIs(t, err, access.ErrUnavailable)
	require.NoError(t, client.Close())
	_, _, err = r.Load(t.Context(), "")
	require.ErrorIs(t, err, access.ErrUnavailable)
}

func BenchmarkCheck(b *testing.B) {
	key, token, err := access.New(access.Key{Name: "ci", Scopes: []access.Scope{access.Submit}})
	require.NoError(b, err)
	s := access.File{Path: filepath.Join(b.TempDir(), "keys.json")}
	require.NoError(b, s.Save(b.Context(), key))
	ring := access.NewKeyring(nil, zap.NewNop(), s)
	require.NoError(b, ring.Refresh(b.Context()))
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ring.Check(token, now); err != nil {
			b.Fatal(err)
		}
	}
}
