package api

import (
	"cmp"
	"slices"
	"strings"
)

// nearest returns the names that look most like the unknown one, at most five,
// the most alike first.
func nearest(name string, known []string) []string {
	const most, longest, widest = 5, 100, 2000
	if len(name) > longest || len(known) > widest {
		return nil
	}
	type candidate struct {
		name     string
		distance int
	}
	found := make([]candidate, 0, len(known))
	for _, k := range known {
		found = append(found, candidate{k, unlikeness(strings.ToLower(name), strings.ToLower(k))})
	}
	slices.SortFunc(found, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance, b.distance), cmp.Compare(a.name, b.name))
	})
	var out []string
	for _, c := range found[:min(most, len(found))] {
		out = append(out, c.name)
	}
	return out
}

// unlikeness is the edit distance between two names, or that to the best part
// of the known one: "slep" means "sleep_task" rather than "add".
func unlikeness(name, known string) int {
	best := distance(name, known)
	for _, part := range strings.FieldsFunc(known, func(r rune) bool { return strings.ContainsRune("._-/:", r) }) {
		best = min(best, distance(name, part)+1)
	}
	return best
}

// distance is the number of single-rune edits between a and b (Levenshtein).
func distance(a, b string) int {
	target := []rune(b)
	row := make([]int, len(target)+1)
	for j := range row {
		row[j] = j
	}
	for i, r := range []rune(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j, s := range target {
			cost := diagonal
			if r != s {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(target)]
}
