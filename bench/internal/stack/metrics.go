package stack

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// Metrics returns the metrics without labels that a gateway serves.
func (v *Service) Metrics(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.Address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	return parseMetrics(res.Body)
}

func parseMetrics(r io.Reader) (map[string]float64, error) {
	found := map[string]float64{}
	in := bufio.NewScanner(r)
	for in.Scan() {
		name, value, ok := strings.Cut(in.Text(), " ")
		if !ok || name == "#" || strings.Contains(name, "{") {
			continue
		}
		f, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("read metrics: %w", err)
		}
		found[name] = f
	}
	return found, in.Err()
}
