package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lovage-mq/lovage/internal/access"
	"github.com/lovage-mq/lovage/pkg/results"
)

// keysCmd works with the store of the keys and asks no gateway: without a key
// nobody could ask for the first one.
type keysCmd struct {
	KeysFile     string `name:"keys-file" env:"LOVAGE_API_KEYS_FILE" type:"path" placeholder:"FILE" help:"File with the keys, that of the gateways. Without it they are in Redis."`
	RedisURL     string `name:"redis-url" env:"LOVAGE_REDIS_URL" placeholder:"URL" help:"Redis of the gateways."`
	RedisURLFile string `name:"redis-url-file" env:"LOVAGE_REDIS_URL_FILE" type:"path" placeholder:"FILE" help:"File with the address of Redis; replaces --redis-url."`
	RedisCAFile  string `name:"redis-ca-file" env:"LOVAGE_REDIS_CA_FILE" type:"path" placeholder:"FILE" help:"Authorities (PEM) that sign Redis's certificate."`
	RedisCert    string `name:"redis-cert-file" env:"LOVAGE_REDIS_CERT_FILE" type:"path" placeholder:"FILE" help:"Client certificate (PEM) for Redis."`
	RedisKey     string `name:"redis-key-file" env:"LOVAGE_REDIS_KEY_FILE" type:"path" placeholder:"FILE" help:"Key (PEM) of the client certificate."`

	Create keysCreateCmd `cmd:"" offline:"" help:"Make a key and print it, this once."`
	List   keysListCmd   `cmd:"" offline:"" help:"List the keys, without what their owners show."`
	Revoke keysRevokeCmd `cmd:"" offline:"" help:"Make keys be of no use at once."`
	Rotate keysRotateCmd `cmd:"" offline:"" help:"Make a key in the place of another, which goes on for a while."`
}

// keyStore is where the keys are, and when they were used as far as anybody
// says.
type keyStore struct {
	access.Store
	usage func(context.Context) (map[string]time.Time, error)
	close func()
}

func (c *keysCmd) open() (keyStore, error) {
	s := keyStore{close: func() {}, usage: func(context.Context) (map[string]time.Time, error) { return map[string]time.Time{}, nil }}
	if c.RedisURL != "" || c.RedisURLFile != "" {
		client, err := results.OpenWith(results.Address{URL: c.RedisURL, URLFile: c.RedisURLFile, CAFile: c.RedisCAFile, CertFile: c.RedisCert, KeyFile: c.RedisKey})
		if err != nil {
			return s, wrong("--redis-url (LOVAGE_REDIS_URL): %w", err)
		}
		r := access.Redis{Client: client}
		s.Store, s.usage, s.close = r, r.Usage, func() { _ = client.Close() }
	}
	if c.KeysFile != "" {
		s.Store = access.File{Path: c.KeysFile}
	}
	if s.Store == nil {
		return s, wrong("where are the keys? Name their file (--keys-file, LOVAGE_API_KEYS_FILE) or Redis (--redis-url, LOVAGE_REDIS_URL)")
	}
	return s, nil
}

// with does something with the store, within the time of a call. A file that is
// not there has no keys.
func (c *keysCmd) with(ctx context.Context, a *app, do func(ctx context.Context, s keyStore, keys []access.Key) error) error {
	s, err := c.open()
	if err != nil {
		return err
	}
	defer s.close()
	ctx, cancel := context.WithTimeout(ctx, a.Timeout)
	defer cancel()
	keys, _, err := s.Load(ctx, "")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return storeFailure(err)
	}
	return storeFailure(do(ctx, s, keys))
}

// storeFailure says that it is the store that has failed, and no gateway.
func storeFailure(err error) error {
	var usage *usageError
	var said *outcome
	if err == nil || errors.As(err, &usage) || errors.As(err, &said) {
		return err
	}
	return &outcome{exitFailure, err.Error()}
}

type keysCreateCmd struct {
	Name    string   `arg:"" help:"Whose key it is. A name has one key; rotate makes another one."`
	Scope   []string `short:"s" required:"" enum:"submit,read,admin" help:"What it is for: ${enum}; several times, or separated by commas. Admin includes the others."`
	Task    []string `placeholder:"PATTERN" help:"Only tasks with such names; * stands for anything. Several times, or separated by commas."`
	Queue   []string `placeholder:"PATTERN" help:"Only these queues, likewise."`
	Expires future   `placeholder:"TIME" help:"When it ends: a time, or a duration from now. Never without it."`
	Rate    float64  `placeholder:"N" help:"At most so many requests a second in the long run, instead of LOVAGE_RATE_LIMIT."`
	Burst   int      `placeholder:"N" help:"With --rate, at most so many at once; as many as in a second without it."`
}

// Run makes a key.
func (c *keysCreateCmd) Run(ctx context.Context, a *app, keys *keysCmd) error {
	return keys.with(ctx, a, func(ctx context.Context, s keyStore, have []access.Key) error {
		for _, k := range have {
			if k.Name == c.Name && k.State(time.Now()) == access.Active {
				return wrong("%s has the key %s: rotate it, or revoke it first", c.Name, k.ID)
			}
		}
		template := access.Key{Name: c.Name, Rate: access.Rate{PerSecond: c.Rate, Burst: c.Burst}, ExpiresAt: c.Expires.Time}
		for _, scope := range c.Scope {
			template.Scopes = append(template.Scopes, access.Scope(scope))
		}
		template.Tasks, template.Queues = patterns(c.Task), patterns(c.Queue)
		key, token, err := access.New(template)
		if err != nil {
			return wrong("%w", err)
		}
		if err := s.Save(ctx, key); err != nil {
			return err
		}
		return a.handOver(key, token)
	})
}

func patterns(texts []string) (list []access.Pattern) {
	for _, text := range texts {
		list = append(list, access.Pattern(text))
	}
	return list
}

// handOver prints what is kept nowhere.
func (a *app) handOver(k access.Key, token string) error {
	return a.print(struct {
		access.Key
		Token string `json:"key"`
	}{k, token}, func(w io.Writer) error {
		a.say("this is the key %s of %s; it is not shown again", k.ID, k.Name)
		_, err := fmt.Fprintln(w, token)
		return err
	})
}

type keysListCmd struct{}

// Run lists the keys.
func (*keysListCmd) Run(ctx context.Context, a *app, keys *keysCmd) error {
	return keys.with(ctx, a, func(ctx context.Context, s keyStore, have []access.Key) error {
		used, err := s.usage(ctx)
		if err != nil {
			return err
		}
		slices.SortStableFunc(have, func(a, b access.Key) int { return a.CreatedAt.Compare(b.CreatedAt) })
		type listed struct {
			access.Key
			State    string    `json:"state"`
			LastUsed time.Time `json:"last_used_at,omitzero"`
		}
		all := []listed{}
		var rows [][]string
		for _, k := range have {
			l := listed{Key: k, State: k.State(time.Now()), LastUsed: used[k.ID]}
			all = append(all, l)
			rows = append(rows, []string{
				k.ID, k.Name, l.State, words(k.Scopes), dash(words(k.Tasks)), dash(words(k.Queues)), dash(rate(k.Rate)),
				dash(moment(k.ExpiresAt)), dash(moment(l.LastUsed)),
			})
		}
		return a.print(all, func(w io.Writer) error {
			return table(w, []string{"ID", "NAME", "STATE", "SCOPES", "TASKS", "QUEUES", "RATE", "EXPIRES", "LAST USED"}, rows)
		})
	})
}

func words[T ~string](list []T) string {
	var texts []string
	for _, one := range list {
		texts = append(texts, string(one))
	}
	return strings.Join(texts, " ")
}

func rate(r access.Rate) string {
	switch {
	case r == access.Rate{}:
		return ""
	case r.Burst == 0:
		return number(r.PerSecond) + "/s"
	}
	return fmt.Sprintf("%s/s, %d at once", number(r.PerSecond), r.Burst)
}

type keysRevokeCmd struct {
	Keys []string `arg:"" name:"key" help:"Ids of keys, or names: then all keys of the name."`
}

// Run revokes keys.
func (c *keysRevokeCmd) Run(ctx context.Context, a *app, keys *keysCmd) error {
	return keys.with(ctx, a, func(ctx context.Context, s keyStore, have []access.Key) error {
		var revoked []access.Key
		for _, which := range c.Keys {
			found := named(have, which)
			if len(found) == 0 {
				return wrong("there is no key %s that is active: see lovage keys list", which)
			}
			for _, k := range found {
				k.RevokedAt = time.Now().UTC().Truncate(time.Second)
				revoked = append(revoked, k)
			}
		}
		if err := s.Save(ctx, revoked...); err != nil {
			return err
		}
		for _, k := range revoked {
			a.say("revoked the key %s of %s; gateways let it in for a second or two yet", k.ID, k.Name)
		}
		return nil
	})
}

// named are the active keys that an id or a name means.
func named(keys []access.Key, which string) []access.Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k access.Key) bool {
		return k.ID != which && k.Name != which || k.State(time.Now()) != access.Active
	})
}

type keysRotateCmd struct {
	Key     string        `arg:"" help:"Id or name of the key."`
	Overlap time.Duration `default:"24h" help:"How long the old one goes on."`
	Expires future        `placeholder:"TIME" help:"When the new one ends. Never without it."`
}

// Run makes a key in the place of another.
func (c *keysRotateCmd) Run(ctx context.Context, a *app, keys *keysCmd) error {
	if c.Overlap < 0 {
		return wrong("--overlap must not be negative")
	}
	return keys.with(ctx, a, func(ctx context.Context, s keyStore, have []access.Key) error {
		found := named(have, c.Key)
		if len(found) == 0 {
			return wrong("there is no key %s that is active: see lovage keys list", c.Key)
		}
		newest := slices.MaxFunc(found, func(a, b access.Key) int { return a.CreatedAt.Compare(b.CreatedAt) })
		old, successor, token, err := newest.Rotate(c.Overlap, c.Expires.Time)
		if err != nil {
			return wrong("%w", err)
		}
		if err := s.Save(ctx, old, successor); err != nil {
			return err
		}
		a.say("the key %s goes on until %s", old.ID, moment(old.ExpiresAt))
		return a.handOver(successor, token)
	})
}
