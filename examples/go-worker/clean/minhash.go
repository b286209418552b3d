package clean

import (
	"hash/crc32"
	"slices"
	"strings"
)

const (
	// shingle is how many neighbouring words make one member of a text's set.
	shingle = 3
	// bands and rows make the signature: two texts are compared if all rows of
	// one band agree. With 32 bands of 4, two of 80 % likeness meet with a
	// probability of 1 - (1 - 0.8^4)^32, which is 0.99999997.
	bands, rows = 32, 4
)

// hashes are the functions h -> a*h + b modulo 2^64, a odd, one for each place
// of a signature. Their numbers are those of SplitMix64 from seed 1.
var hashes = func() (all [bands * rows]struct{ a, b uint64 }) {
	state := uint64(1)
	next := func() uint64 {
		state += 0x9e3779b97f4a7c15
		z := state
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		return z ^ z>>31
	}
	for i := range all {
		all[i].a = next() | 1
		all[i].b = next()
	}
	return all
}()

// shingles is the sorted set of the CRC-32s of each three neighbouring words; of
// all words, where there are fewer.
func shingles(words []string) []uint32 {
	if len(words) == 0 {
		return nil
	}
	set := make([]uint32, 0, len(words))
	for i := range max(1, len(words)-shingle+1) {
		text := strings.Join(words[i:min(i+shingle, len(words))], " ")
		set = append(set, crc32.ChecksumIEEE([]byte(text)))
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// signature is the least value of each hash function over a set.
func signature(set []uint32) (sig [bands * rows]uint64) {
	for i, f := range hashes {
		least := ^uint64(0)
		for _, h := range set {
			least = min(least, f.a*uint64(h)+f.b)
		}
		sig[i] = least
	}
	return sig
}

// likeness is the Jaccard index of two sorted sets, of which one is not empty.
func likeness(a, b []uint32) float64 {
	both := 0
	for i, j := 0, 0; i < len(a) && j < len(b); {
		switch {
		case a[i] < b[j]:
			i++
		case a[i] > b[j]:
			j++
		default:
			both, i, j = both+1, i+1, j+1
		}
	}
	return float64(both) / float64(len(a)+len(b)-both)
}
