package access_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/lovage-mq/lovage/internal/access"
)

func TestAKeyIsKeptWithoutWhatItsOwnerShows(t *testing.T) {
	t.Parallel()
	key, token := newKey(t)
	require.Regexp(t, `^lovage_[a-z2-7]{8}_[a-z2-7]{52}$`, token, "256 random bits, and easy to find where it should not be")
	require.Contains(t, token, key.ID)
	text, err := json.Marshal(key)
	require.NoError(t, err)
	_, secret, _ := strings.Cut(strings.TrimPrefix(token, "lovage_"), "_")
	require.NotContains(t, string(text), secret)
	var back access.Key
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, key, back)
	_, other := newKey(t)
	require.NotEqual(t, token, other)
}

func TestATemplateIsToldAllThatIsWrongWithIt(t *testing.T) {
	t.Parallel()
	_, _, err := access.New(access.Key{
		Name: "a b", Scopes: []access.Scope{"root"}, Tasks: []access.Pattern{""}, Queues: []access.Pattern{"a\nb"},
		Rate: access.Rate{PerSecond: math.NaN()},
	})
	for _, field := range []string{"name:", "scopes:", "tasks:", "queues:", "rate:"} {
		require.ErrorContains(t, err, field)
	}
	_, _, err = access.New(access.Key{Name: access.Anonymous})
	require.ErrorContains(t, err, "name:", "nobody is taken for somebody else")
	require.ErrorContains(t, err, "at least one of submit, read, admin")
}

func TestARotatedKeyGoesOnForTheOverlap(t *testing.T) {
	t.Parallel()
	key, token := newKey(t, func(k *access.Key) { k.Tasks = []access.Pattern{"mail.*"} })
	old, successor, next, err := key.Rotate(time.Hour, time.Time{})
	require.NoError(t, err)
	require.NotEqual(t, token, next)
	require.NotEqual(t, old.ID, successor.ID)
	require.Equal(t, old.Name, successor.Name)
	require.Equal(t, old.Tasks, successor.Tasks)
	require.WithinDuration(t, time.Now().Add(time.Hour), old.ExpiresAt, time.Minute)
	require.True(t, successor.ExpiresAt.IsZero())
	now := time.Now()
	require.Equal(t, access.Active, old.State(now))
	require.Equal(t, access.Expired, old.State(now.Add(2*time.Hour)))

	again, _, _, err := old.Rotate(24*time.Hour, now.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, old.ExpiresAt, again.ExpiresAt, "a rotation makes no key live longer")
	old.RevokedAt = now
	_, _, _, err = old.Rotate(time.Hour, time.Time{})
	require.ErrorContains(t, err, "revoked")
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"mail", "mail", true},
		{"mail", "mail2", false},
		{"mail", "Mail", false},
		{"mail.*", "mail.send", true},
		{"mail.*", "mail.", true},
		{"mail.*", "mail", false},
		{"mail.*", "email.send", false},
		{"*", "", true},
		{"*", "anything/at all", true},
		{"*.send", "mail.send", true},
		{"*.send", "mail.send.all", false},
		{"a*b*c", "abc", true},
		{"a*b*c", "axxbyybc", true},
		{"a*b*c", "acb", false},
		{"a*a", "a", false},
		{"**", "x", true},
		{"a.b", "axb", false},
		{"a?", "ab", false},
		{"[ab]", "a", false},
	} {
		require.Equal(t, c.want, access.Pattern(c.pattern).Match(c.name), "%s %s", c.pattern, c.name)
	}
}

func FuzzPattern(f *testing.F) {
	f.Add("a*b*c", "axbxc")
	f.Add("*", "")
	f.Add("ab*", "a")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		p := access.Pattern(pattern)
		got := p.Match(name)
		// The same by the simplest means there are.
		require.Equal(t, simplyMatches(pattern, name), got)
		if !strings.Contains(pattern, "*") {
			require.Equal(t, pattern == name, got)
		}
	})
}

func simplyMatches(pattern, name string) bool {
	// reach holds which prefixes of the name the pattern so far can be.
	reach := make([]bool, len(name)+1)
	reach[0] = true
	for i := range len(pattern) {
		next := make([]bool, len(name)+1)
		for j := range next {
			if pattern[i] == '*' {
				next[j] = reach[j] || j > 0 && next[j-1]
			} else {
				next[j] = j > 0 && reach[j-1] && name[j-1] == pattern[i]
			}
		}
		reach = next
	}
	return reach[len(name)]
}

func TestAGrantSaysWhatMayBeDone(t *testing.T) {
	t.Parallel()
	var nobody *access.Grant
	for _, s := range access.Scopes() {
		require.False(t, nobody.Has(s))
		require.True(t, access.Everything().Has(s))
	}
	require.False(t, nobody.Task("x"))
	require.False(t, nobody.Queue("x"))
	require.True(t, nobody.Restricted())
	require.False(t, access.Everything().Restricted())
	reader := &access.Grant{Scopes: []access.Scope{access.Read}, Queues: []access.Pattern{"mail", "mail-*"}}
	require.True(t, reader.Has(access.Read))
	require.False(t, reader.Has(access.Submit))
	require.False(t, reader.Has(access.Admin))
	require.True(t, reader.Queue("mail-2"))
	require.False(t, reader.Queue("other"))
	require.True(t, reader.Task("any"))
	require.True(t, reader.Restricted())
	require.Same(t, reader, access.From(access.With(t.Context(), reader)))
	require.Nil(t, access.From(t.Context()))
}
