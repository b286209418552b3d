package main

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// report has the fates of all mutants.
type report struct {
	reasons map[string]string // by key
	unused  map[string]bool   // entries of the list that no mutant matched
	rows    []row
	failed  []fate // survivors without a reason
	wrong   []fate // with a reason, and noticed by a test
}

// row is the result of one file.
type row struct {
	file                           string
	mutants, killed, hung, survive int
}

func (r *report) add(fates []fate) {
	for _, f := range fates {
		if len(r.rows) == 0 || r.rows[len(r.rows)-1].file != f.File {
			r.rows = append(r.rows, row{file: f.File})
		}
		row := &r.rows[len(r.rows)-1]
		row.mutants++
		_, listed := r.reasons[f.Key()]
		switch {
		case f.by == "":
			row.survive++
			if !listed {
				r.failed = append(r.failed, f)
			}
		case listed:
			r.wrong = append(r.wrong, f)
			fallthrough
		default:
			row.killed++
			if f.hung {
				row.hung++
			}
		}
	}
}

// print writes the table, and returns an error if a survivor has no reason.
func (r *report) print(took time.Duration) error {
	var sum row
	fmt.Printf("%-52s %8s %8s %8s %8s\n", "file", "mutants", "killed", "by hang", "survive")
	for _, row := range r.rows {
		fmt.Printf("%-52s %8d %8d %8d %8d\n", row.file, row.mutants, row.killed, row.hung, row.survive)
		sum.mutants += row.mutants
		sum.killed += row.killed
		sum.hung += row.hung
		sum.survive += row.survive
	}
	fmt.Printf("%-52s %8d %8d %8d %8d\n", "all", sum.mutants, sum.killed, sum.hung, sum.survive)
	fmt.Printf("%s lists %d more; %.0f s\n", equivalentFile, len(r.reasons), took.Seconds())
	for _, f := range r.failed {
		fmt.Printf("survived: line %d: %s\n", f.Line, f.Key())
	}
	for _, f := range r.wrong {
		fmt.Printf("listed, but %s notices it: line %d: %s\n", f.by, f.Line, f.Key())
	}
	for _, key := range slices.Sorted(maps.Keys(r.unused)) {
		fmt.Printf("listed, but there is no such mutant: %s\n", key)
	}
	if n := len(r.failed) + len(r.wrong) + len(r.unused); n > 0 {
		return fmt.Errorf("%d survivors or wrong entries of %s", n, equivalentFile)
	}
	return nil
}
