package stack

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/lovage-mq/lovage/bench/internal/procfs"
)

// RedisMemory is how much memory Redis uses for what it keeps, in bytes.
func (s *Stack) RedisMemory(ctx context.Context) (float64, error) {
	info, err := s.records.Info(ctx, "memory").Result()
	if err != nil {
		return 0, fmt.Errorf("ask Redis for its memory: %w", err)
	}
	_, rest, _ := strings.Cut(info, "used_memory_dataset:")
	value, _, _ := strings.Cut(rest, "\r\n")
	return strconv.ParseFloat(value, 64)
}

// PostgresSize is how much of the disk the database takes, in bytes.
func (s *Stack) PostgresSize(ctx context.Context) (float64, error) {
	n, err := s.postgres.Count(ctx, "SELECT pg_database_size(current_database())")
	return float64(n), err
}

// ServerMemory is the memory of all servers in RAM, in bytes.
func (s *Stack) ServerMemory() (sum float64, err error) {
	for _, pid := range s.serverPIDs() {
		n, err := procfs.TreeMemory(pid)
		if err != nil {
			return 0, err
		}
		sum += float64(n)
	}
	return sum, nil
}

// catalog is the one key of ours that is there to stay: which tasks there are.
const catalog = "lovage:catalog"

// forget removes all records of tasks of ours.
func (s *Stack) forget(ctx context.Context) error {
	entries, err := s.records.HGetAll(ctx, catalog).Result()
	if err != nil {
		return fmt.Errorf("read catalog: %w", err)
	}
	_, err = s.records.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.FlushDB(ctx)
		if len(entries) > 0 {
			p.HSet(ctx, catalog, entries)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget tasks: %w", err)
	}
	return nil
}
