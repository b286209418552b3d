package protocol

import (
	"unicode/utf8"

	"github.com/graflow/graflow-sidecar/internal/jsonscan"
)

// MaxDepth is how deep the arrays and objects of one message may nest, the
// message itself included (P12). Deeper is an error, never a stack overflow.
const MaxDepth = 1000

// scan reads the parts of a message.
type scan struct{ jsonscan.Scanner }

func newScan(text []byte) scan { return scan{jsonscan.Scanner{Data: text}} }

// value passes over one value that stands in depth containers.
func (s *scan) value(depth int) bool { return s.Value(MaxDepth - depth) }

// invalidUTF8 gives the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}
