package protocol

import (
	"bytes"
	"io"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// split is what a LineReader must say of these bytes, the simple way.
func split(data []byte, limit int) []event {
	var all []event
	for {
		i := bytes.IndexByte(data, '\n')
		line, whole := data, i >= 0
		if whole {
			line = bytes.TrimSuffix(data[:i], []byte("\r"))
			data = data[i+1:]
		}
		switch {
		case len(line) > limit:
			all = append(all, event{"long", string(line[:min(IDWindow, len(line))]), int64(len(line))})
		case whole:
			all = append(all, event{"line", string(line), 0})
		case len(line) > 0:
			all = append(all, event{"cut", string(line), 0})
		}
		if !whole {
			return append(all, event{kind: "eof"})
		}
	}
}

// chunked hands data out in pieces of random size, some of them empty, and
// sometimes the end together with the last bytes.
type chunked struct {
	data []byte
	rng  *rand.Rand
	most int
}

func (c *chunked) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.data[:min(len(c.data), c.rng.IntN(c.most+1))])
	c.data = c.data[n:]
	if len(c.data) == 0 && c.rng.IntN(2) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// The same bytes in any chunking give the same lines; memory stays bounded;
// after an over-long line the next good one is returned; an unterminated tail
// is reported with the tail.
func FuzzLineReader(f *testing.F) {
	f.Add([]byte("a\nb\r\nc"), uint32(10), uint64(1))
	f.Add([]byte(strings.Repeat("x", 500)+"\nok\n"), uint32(100), uint64(2))
	f.Fuzz(func(t *testing.T, data []byte, limit32 uint32, seed uint64) {
		limit := int(limit32%(1<<18)) + 1
		rng := rand.New(rand.NewPCG(seed, 0))
		want := split(data, limit)
		in := &chunked{data: data, rng: rng, most: 1 + rng.IntN(1<<rng.IntN(17))}
		r := NewLineReader(in, limit)
		for i, w := range want {
			if got := next(r); !reflect.DeepEqual(got, w) {
				t.Fatalf("limit %d, event %d: got %v, want %v", limit, i, got, w)
			}
			if bound := max(readSize, limit+2); cap(r.buf) > bound {
				t.Fatalf("the buffer has %d bytes, the bound is %d", cap(r.buf), bound)
			}
		}
	})
}
