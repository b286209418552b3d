// Package clean is a step that every collection of texts needs before anything is
// counted or learned from it: it strips what is no text and leaves out what is
// there already, word for word or nearly so. A text's signature is some 128 times
// its length in multiplications (MinHash), which is what Go is for.
//
// clean.py is the same step in Python, record for record: the tests compare them,
// and the benchmark says what the difference costs.
package clean

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"

	"github.com/graflow/graflow-sidecar/protocol"
)

// DefaultThreshold is how like two texts are from which on one is left out.
const DefaultThreshold = 0.8

// step is how many records are cleaned between two words about progress.
const step = 64

// Input is what the task wants: Graflow's keyword arguments.
type Input struct {
	// Fetch is the result of the task fetch: objects with a string "text", and
	// whatever else, which stays with them.
	Fetch []Record `json:"fetch"`
	// Threshold is from above 0 to 1; DefaultThreshold if absent.
	Threshold *float64 `json:"threshold"`
}

// Record is one object of the collection.
type Record map[string]json.RawMessage

// Result is the task's result.
type Result struct {
	// Records are those that are kept, in their order, with their text cleaned.
	Records []Record `json:"records"`
	// Duplicates are those that were left out for one that is kept.
	Duplicates []Duplicate `json:"duplicates"`
	Stats      Stats       `json:"stats"`
}

// Duplicate says which record was left out, and for which: places in the input,
// from 0.
type Duplicate struct {
	Index int `json:"index"`
	Of    int `json:"of"`
	// Likeness is the share of the shingles of both that are in both.
	Likeness float64 `json:"likeness"`
}

// Stats are the numbers of it all. Read is Kept, Duplicates and Empty together.
type Stats struct {
	Read       int `json:"read"`
	Kept       int `json:"kept"`
	Duplicates int `json:"duplicates"`
	// Empty is how many had no word in their text.
	Empty int `json:"empty"`
	// Words and Bytes are those of what is kept.
	Words int `json:"words"`
	Bytes int `json:"bytes"`
}

// StatsKey is the channel key of a task's statistics: the numbers without the
// records.
func StatsKey(taskID string) string { return taskID + ".stats" }

// Task is the whole step as a task of a workflow.
func Task(ctx protocol.Context, in Input) (Result, error) {
	var record struct {
		TaskID string `json:"task_id"`
	}
	if err := ctx.Task().Decode(&record); err != nil {
		return Result{}, err
	}
	threshold := DefaultThreshold
	if in.Threshold != nil {
		threshold = *in.Threshold
	}
	r, err := Clean(ctx, in.Fetch, threshold, ctx.Progress)
	if err != nil {
		return Result{}, err
	}
	ctx.Log(slog.LevelInfo, "texts cleaned", "read", r.Stats.Read, "kept", r.Stats.Kept, "duplicates", r.Stats.Duplicates)
	// Set, and not one of the methods that add to a key: a task that is run
	// again, since its worker was killed, must leave the same.
	if err := ctx.Channel().Set(ctx, StatsKey(record.TaskID), r.Stats); err != nil {
		return Result{}, fmt.Errorf("leave the statistics in the channel: %w", err)
	}
	return r, nil
}

// Clean does the step: of records that are alike by threshold or more, the first
// stays. progress is called now and then. The same input gives the same result.
// It returns ctx's error soon after ctx ends, and changes nothing in records.
func Clean(ctx context.Context, records []Record, threshold float64, progress func(fraction float64, message string)) (Result, error) {
	if !(threshold > 0 && threshold <= 1) {
		return Result{}, fmt.Errorf("threshold is %v; it must be above 0, and 1 at most", threshold)
	}
	r := Result{Records: []Record{}, Duplicates: []Duplicate{}, Stats: Stats{Read: len(records)}}
	kept := newIndex()
	var places []int // of what is kept
	for i, record := range records {
		if i%step == 0 {
			if err := ctx.Err(); err != nil {
				return Result{}, err
			}
			progress(float64(i)/float64(len(records)), fmt.Sprintf("%d of %d texts", i, len(records)))
		}
		var text *string
		if err := json.Unmarshal(record["text"], &text); err != nil || text == nil {
			return Result{}, fmt.Errorf("record %d has no string \"text\"", i)
		}
		body := plain(*text)
		w := words(body)
		if len(w) == 0 {
			r.Stats.Empty++
			continue
		}
		set := shingles(w)
		sig := signature(set)
		if n, likeness := kept.find(set, &sig, threshold); n >= 0 {
			r.Duplicates = append(r.Duplicates, Duplicate{i, places[n], likeness})
			continue
		}
		kept.add(set, &sig)
		places = append(places, i)
		r.Records = append(r.Records, record.with(body))
		r.Stats.Words += len(w)
		r.Stats.Bytes += len(body)
	}
	r.Stats.Kept, r.Stats.Duplicates = len(r.Records), len(r.Duplicates)
	progress(1, fmt.Sprintf("%d of %d texts are kept", r.Stats.Kept, r.Stats.Read))
	return r, nil
}

// with is the record with another text.
func (r Record) with(text string) Record {
	c := maps.Clone(r)
	c["text"], _ = json.Marshal(text) // a string always has JSON
	return c
}
