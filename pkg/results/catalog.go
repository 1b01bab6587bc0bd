package results

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/lovage-mq/lovage/pkg/messages"
)

const (
	// catalogKey is a hash: "<name>@<version>" to the entry.
	catalogKey = "lovage:catalog"
	// forgetAfter is how long a version without workers stays beside a newer
	// one.
	forgetAfter = 24 * time.Hour
)

// Catalog returns what can be run, by name: every version that a live worker
// runs, the one announced last first, or when nobody is alive the version
// announced last.
//
// Errors: [messages.ErrStoreUnavailable].
func (s *Store) Catalog(ctx context.Context) ([]messages.CatalogEntry, error) {
	versions, err := s.versions(ctx)
	if err != nil {
		return nil, storeError("read catalog", err)
	}
	var entries []messages.CatalogEntry
	for i, v := range versions {
		// Versions of a name are together, live ones first.
		if v.entry.Alive > 0 || i == 0 || versions[i-1].entry.Name != v.entry.Name {
			entries = append(entries, v.entry)
		}
	}
	return entries, nil
}

// version is an entry of the catalog as it stands in Redis.
type version struct {
	field, value string
	entry        messages.CatalogEntry
}

// versions reads the whole catalog, ordered by name, then those with live
// workers first, then by time, the last first.
func (s *Store) versions(ctx context.Context) ([]version, error) {
	catalog, err := s.client.HGetAll(ctx, catalogKey).Result()
	if err != nil {
		return nil, err
	}
	living, err := s.living(ctx)
	if err != nil {
		return nil, err
	}
	versions := make([]version, 0, len(catalog))
	for field, value := range catalog {
		v := version{field: field, value: value}
		if err := json.Unmarshal([]byte(value), &v.entry); err != nil {
			s.log.Debug("catalog entry not readable", zap.String("field", field), zap.Error(err))
			continue
		}
		v.entry.Alive = living[field]
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(a, b version) int {
		return cmp.Or(
			strings.Compare(a.entry.Name, b.entry.Name),
			-cmp.Compare(min(a.entry.Alive, 1), min(b.entry.Alive, 1)),
			-a.entry.AnnouncedAt.Compare(b.entry.AnnouncedAt),
			strings.Compare(a.field, b.field))
	})
	return versions, nil
}

// living counts the live workers by the field of the catalog that they run.
func (s *Store) living(ctx context.Context) (map[string]int, error) {
	lists, _, err := s.ofWorkers(ctx, tasksKey)
	if err != nil {
		return nil, err
	}
	living := make(map[string]int)
	for _, list := range lists {
		var fields []string
		if err := json.Unmarshal([]byte(list), &fields); err != nil {
			s.log.Debug("tasks of a worker not readable", zap.Error(err))
			continue
		}
		for _, field := range fields {
			living[field]++
		}
	}
	return living, nil
}

// forgetVersions removes versions that nobody has run for a day beside a newer
// one of the same name.
func (s *Store) forgetVersions(ctx context.Context) error {
	versions, err := s.versions(ctx)
	if err != nil {
		return err
	}
	newest := make(map[string]time.Time)
	for _, v := range versions {
		if v.entry.AnnouncedAt.After(newest[v.entry.Name]) {
			newest[v.entry.Name] = v.entry.AnnouncedAt
		}
	}
	for _, v := range versions {
		superseded := newest[v.entry.Name].After(v.entry.AnnouncedAt)
		if v.entry.Alive > 0 || !superseded || time.Since(v.entry.AnnouncedAt) < forgetAfter {
			continue
		}
		err := s.scripts.forget.Run(ctx, s.client, []string{catalogKey}, v.field, v.value).Err()
		if err != nil {
			return err
		}
	}
	return nil
}
