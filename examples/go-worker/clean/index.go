package clean

import "slices"

// index holds the texts that are kept, so that one like a new text is found
// without a comparison with each.
type index struct {
	sets  [][]uint32
	bands [bands]map[[rows]uint64][]int
}

func newIndex() *index {
	x := &index{}
	for i := range x.bands {
		x.bands[i] = map[[rows]uint64][]int{}
	}
	return x
}

// find returns the first text with at least this likeness, -1 if there is none,
// and how like it is.
func (x *index) find(set []uint32, sig *[bands * rows]uint64, least float64) (int, float64) {
	var candidates []int
	for i := range x.bands {
		candidates = append(candidates, x.bands[i][band(sig, i)]...)
	}
	slices.Sort(candidates)
	for _, n := range slices.Compact(candidates) {
		if l := likeness(set, x.sets[n]); l >= least {
			return n, l
		}
	}
	return -1, 0
}

func (x *index) add(set []uint32, sig *[bands * rows]uint64) {
	n := len(x.sets)
	x.sets = append(x.sets, set)
	for i := range x.bands {
		key := band(sig, i)
		x.bands[i][key] = append(x.bands[i][key], n)
	}
}

func band(sig *[bands * rows]uint64, i int) [rows]uint64 {
	return [rows]uint64(sig[i*rows : (i+1)*rows])
}
