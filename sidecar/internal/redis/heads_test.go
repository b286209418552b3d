package redis

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The heads of a list are read in both directions, until the number of elements, the bytes of
// the reply or those of the whole elements reach a bound.
func TestListHeads(t *testing.T) {
	for _, c := range []struct {
		index, step, count, head, sent, read int
		want                                 string
	}{
		{0, 1, 9, 9, 1000, 1000, "0 1 2 3 4"},
		{1, 1, 2, 9, 1000, 1000, "1 2"},
		{-1, -1, 9, 9, 1000, 1000, "4 3 2 1 0"},
		{-2, -1, 2, 9, 1000, 1000, "3 2"},
		{0, 1, 9, 9, 30, 1000, "0 1 2 3"}, // 9 bytes of each
		{0, 1, 9, 9, 27, 1000, "0 1 2"},
		{0, 1, 9, 9, 28, 1000, "0 1 2 3"},
		{0, 1, 9, 11, 30, 1000, "0 1 2"}, // 10 bytes of each, the whole
		{0, 1, 9, 9, 1000, 30, "0 1 2"},
		{0, 1, 9, 9, 1000, 31, "0 1 2 3"},
		{5, 1, 9, 9, 1000, 1000, ""},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				key := e.o.Prefix + ":list"
				for i := range 5 {
					e.c.RPush(e.ctx, key, strings.Repeat(fmt.Sprint(i), 10))
				}
				reply, err := listHeadsScript().Run(e.ctx, e.Store.c, []string{key}, c.index, c.step, c.count, c.head, c.sent, c.read).Slice()
				if err != nil {
					t.Fatal(err)
				}
				heads, err := toHeads(reply, len(reply))
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, h := range heads {
					got = append(got, string(h.text[:1]))
					same(t, "length", h.length, 10)
					same(t, "bytes", len(h.text), min(c.head, 10))
				}
				same(t, "elements", strings.Join(got, " "), c.want)
			})
		})
	}
}

// Parts of the fields of a hash, of which some may be missing.
func TestHeadsOfFields(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		key := e.o.Prefix + ":hash"
		e.c.HSet(e.ctx, key, "a", "0123456789", "b", "", "c", "0123")
		for _, c := range []struct {
			offset, n int
			want      string
		}{{0, 4, "[0123 10] [ 0] none [0123 4]"}, {3, 4, "[3456 10] [ 0] none [3 4]"}, {9, 4, "[9 10] [ 0] none [ 4]"}} {
			heads, err := e.fieldParts(e.ctx, key, c.offset, c.n, []string{"a", "b", "x", "c"})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, h := range heads {
				if h.there {
					got = append(got, fmt.Sprintf("[%s %d]", h.text, h.length))
				} else {
					got = append(got, "none")
				}
			}
			same(t, fmt.Sprint(c.offset), strings.Join(got, " "), c.want)
		}
	})
}

// A record is read in as many parts as are asked for. A foreign key in the place of the parts
// stays as it is.
func TestRecordParts(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		record := sized("a", 3*PartBytes+5)
		c := e.claimOne(run, record)
		for _, part := range []struct{ first, n, from, to int }{{0, 1, 0, PartBytes}, {1, 2, PartBytes, 3 * PartBytes}, {3, 1, 3 * PartBytes, 3*PartBytes + 5}} {
			got, err := e.RecordParts(e.ctx, run, c.Delivery, part.first, part.n)
			if err != nil {
				t.Fatal(err)
			}
			same(t, fmt.Sprint("part ", part.first), string(got) == record[part.from:part.to], true)
		}
		same(t, "parts that are left", len(e.keysUnder(":sidecar:parts:*")), 0)
		key := e.keys.own("parts:" + c.Delivery)
		e.set(key, "x")
		if _, err := e.RecordParts(e.ctx, run, c.Delivery, 0, 1); err == nil {
			t.Error("no error")
		}
		same(t, "the time to live of a foreign key", e.c.TTL(e.ctx, key).Val(), time.Duration(-1))
	})
}
