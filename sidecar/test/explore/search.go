package explore

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// Result is what a search has found.
type Result struct {
	Scope       string
	States      int
	Transitions int
	Depth       int
	Longest     int // of the shortest faultless ways from a state to the end of all records
	Elapsed     time.Duration
	Violation   string   // "" for none
	History     []string // the shortest path to the violation
}

// Print writes the result.
func (r *Result) Print(w io.Writer) {
	fmt.Fprintf(w, "%s: %d states, %d transitions, depth %d, at most %d steps without faults to the end; %.1f s\n",
		r.Scope, r.States, r.Transitions, r.Depth, r.Longest, r.Elapsed.Seconds())
	if r.Violation == "" {
		return
	}
	fmt.Fprintf(w, "VIOLATION: %s\n", r.Violation)
	for i, line := range r.History {
		fmt.Fprintf(w, "%4d  %s\n", i+1, line)
	}
}

// node is a state in the record of a search.
type node struct {
	parent uint32
	act    action
}

// edge is a step without a fault.
type edge struct{ from, to uint32 }

// search is a running search.
type search struct {
	scope   Scope
	mu      sync.Mutex
	visited [shards]shard
	nodes   []node
	edges   []edge
	done    []uint32 // states in which all records have ended
	steps   int

	violation string
	at        uint32 // the state before the violation
	last      action
}

const shards = 64

type shard struct {
	mu  sync.Mutex
	ids map[key]uint32
}

// open is a state that has not been searched.
type open struct {
	id uint32
	w  *world
}

// Explore searches a scope with the given sources of the scripts.
func Explore(scope Scope, sources map[string]string) (*Result, error) {
	began := time.Now()
	s := &search{scope: scope}
	for i := range s.visited {
		s.visited[i].ids = make(map[key]uint32)
	}
	workers := max(runtime.GOMAXPROCS(0), 1)
	engines := make([]*engine, workers)
	canons := make([]canon, workers)
	for i := range engines {
		var err error
		if engines[i], err = newEngine(scope, sources); err != nil {
			return nil, err
		}
	}
	first := engines[0].start()
	s.nodes = append(s.nodes, node{})
	id, _ := s.visit(canons[0].key(first), 0, action{})
	level, depth := []open{{id, first}}, 0
	for len(level) > 0 && s.violation == "" {
		depth++
		level = s.expand(level, engines, canons)
		if scope.Most > 0 && len(s.nodes) > scope.Most {
			return nil, fmt.Errorf("%s: more than %d states, at depth %d", scope.Name, scope.Most, depth)
		}
	}
	r := &Result{Scope: scope.Name, States: len(s.nodes) - 1, Transitions: s.steps, Depth: depth - 1}
	if s.violation == "" {
		var stuck uint32
		if stuck, r.Longest = s.liveness(); stuck != 0 {
			s.violation, s.at = "from here, without further faults, not every record can end", stuck
		}
	}
	if r.Violation = s.violation; r.Violation != "" {
		r.History = s.history(engines[0])
	}
	r.Elapsed = time.Since(began)
	return r, nil
}

// visit stores a state. It returns its number, and whether it is new.
func (s *search) visit(k key, parent uint32, a action) (id uint32, fresh bool) {
	sh := &s.visited[k[0]%shards]
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if id, ok := sh.ids[k]; ok {
		return id, false
	}
	s.mu.Lock()
	id = uint32(len(s.nodes))
	s.nodes = append(s.nodes, node{parent, a})
	s.mu.Unlock()
	sh.ids[k] = id
	return id, true
}

// expand makes all steps from the states of one depth and returns the new states.
func (s *search) expand(level []open, engines []*engine, canons []canon) []open {
	var all sync.WaitGroup
	found := make([][]open, len(engines))
	var next sync.Mutex
	at := 0
	const part = 64
	for i := range engines {
		all.Go(func() {
			for {
				next.Lock()
				from := at
				at = min(at+part, len(level))
				to := at
				next.Unlock()
				if from == to {
					return
				}
				for j := from; j < to; j++ {
					found[i] = s.step(found[i], level[j], engines[i], &canons[i])
					level[j].w = nil
				}
			}
		})
	}
	all.Wait()
	var out []open
	for _, list := range found {
		out = append(out, list...)
	}
	return out
}

// step makes all steps from one state.
func (s *search) step(found []open, o open, e *engine, c *canon) []open {
	v := look(o.w)
	actions, good := e.actions(o.w, v)
	edges := make([]edge, 0, good)
	for i, a := range actions {
		m := e.run(o.w, v, a)
		if wrong := e.check(o.w, v, a, m); wrong != "" {
			s.fail(wrong, o.id, a)
			return found
		}
		id, fresh := s.visit(c.key(m.after), o.id, a)
		if fresh {
			found = append(found, open{id, m.after})
		}
		if i < good && id != o.id {
			edges = append(edges, edge{o.id, id})
		}
	}
	over := true
	for n := range s.scope.Records {
		over = over && (o.w.ended>>n&1 == 1 || v.where[n].kind == "dead")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps += len(actions)
	s.edges = append(s.edges, edges...)
	if over {
		s.done = append(s.done, o.id)
	}
	return found
}

func (s *search) fail(wrong string, at uint32, a action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.violation == "" {
		s.violation, s.at, s.last = wrong, at, a
	}
}

// liveness goes back from the states in which all records have ended, over the steps
// without a fault. It returns a state from which none of them can be reached, 0 for none,
// and the greatest distance.
func (s *search) liveness() (stuck uint32, longest int) {
	starts := make([]uint32, len(s.nodes)+1)
	for _, e := range s.edges {
		starts[e.to]++
	}
	sum := uint32(0)
	for i := range starts {
		starts[i], sum = sum, sum+starts[i]
	}
	into := make([]uint32, len(s.edges))
	next := append([]uint32(nil), starts...)
	for _, e := range s.edges {
		into[next[e.to]] = e.from
		next[e.to]++
	}
	reached := make([]bool, len(s.nodes))
	level := s.done
	for _, id := range level {
		reached[id] = true
	}
	for distance := 0; len(level) > 0; distance++ {
		longest = distance
		var before []uint32
		for _, id := range level {
			for _, from := range into[starts[id]:starts[id+1]] {
				if !reached[from] {
					reached[from] = true
					before = append(before, from)
				}
			}
		}
		level = before
	}
	for id := 1; id < len(reached); id++ {
		if !reached[id] {
			return uint32(id), longest
		}
	}
	return 0, longest
}

// history makes the steps to the violation again and returns them in words.
func (s *search) history(e *engine) []string {
	var path []action
	for id := s.at; id > 1; id = s.nodes[id].parent {
		path = append(path, s.nodes[id].act)
	}
	w := e.start()
	var lines []string
	play := func(a action) {
		v := look(w)
		m := e.run(w, v, a)
		_ = e.check(w, v, a, m) // stores what has ended
		lines, w = append(lines, strings.ReplaceAll(m.text, "\n", " ")), m.after
	}
	for _, a := range slices.Backward(path) {
		play(a)
	}
	if s.last != (action{}) {
		play(s.last)
	}
	return lines
}
