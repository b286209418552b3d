// Package spelling finds the known names that a mistyped one may stand for.
package spelling

import (
	"cmp"
	"slices"
)

// Nearest returns the n names with the least edit distance to name, the nearest
// first; of equally near ones those that come first.
func Nearest(name string, names []string, n int) []string {
	distances := make(map[string]int, len(names))
	for _, candidate := range names {
		distances[candidate] = distance(name, candidate)
	}
	sorted := slices.Clone(names)
	slices.SortStableFunc(sorted, func(a, b string) int { return cmp.Compare(distances[a], distances[b]) })
	return sorted[:min(n, len(sorted))]
}

// Near returns the name with the least edit distance to name, if a third of its letters
// differ at most, and not more than three: two letters that change places count twice.
func Near(name string, names []string) (string, bool) {
	if len(names) == 0 {
		return "", false
	}
	nearest := Nearest(name, names, 1)[0]
	return nearest, distance(name, nearest) <= min(3, max(1, len(name)/3))
}

// distance counts the insertions, deletions and changes of one byte that turn
// a into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
