package tasks

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/graflow/graflow-sidecar/protocol"
)

const (
	defaultTop = 10
	maxTop     = 10_000
	// maxWord is the longest word, in bytes: what is longer is counted as
	// several, so that a file without a space takes no memory.
	maxWord = 256
	// readAhead is how much of a file is read at a time, between two looks at
	// the context.
	readAhead = 1 << 16
)

type wordsParams struct {
	// Text is what to count; or Path, a regular file that this process can
	// read. One of the two.
	Text *string `json:"text"`
	Path string  `json:"path"`
	// Top is how many of the most frequent words to list; 10 if absent.
	Top int `json:"top"`
}

type wordsValue struct {
	Bytes    int64       `json:"bytes"`
	Lines    int64       `json:"lines"`
	Words    int64       `json:"words"`
	Distinct int         `json:"distinct"`
	SHA256   string      `json:"sha256"`
	Top      []wordCount `json:"top"`
}

type wordCount struct {
	Word  string `json:"word"`
	Count int64  `json:"count"`
}

// words says what a text is made of.
func words(ctx context.Context, t *protocol.Task, p wordsParams) (any, error) {
	if p.Top == 0 {
		p.Top = defaultTop
	}
	if p.Top < 0 || p.Top > maxTop {
		return nil, fmt.Errorf("params: top is %d; it must be from 1 to %d", p.Top, maxTop)
	}
	switch {
	case (p.Text == nil) == (p.Path == ""):
		return nil, errors.New("params: one of text and path is wanted")
	case p.Text != nil:
		return countWords(ctx, t, strings.NewReader(*p.Text), int64(len(*p.Text)), p.Top)
	}
	f, err := os.Open(p.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("params: %s is not a regular file", p.Path)
	}
	return countWords(ctx, t, f, info.Size(), p.Top)
}

// watched hashes, counts and reports what goes through it, and ends with the
// context.
type watched struct {
	ctx  context.Context
	r    io.Reader
	task *protocol.Task
	sum  hash.Hash
	done int64
	size int64
}

func (w *watched) Read(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(p)
	w.sum.Write(p[:n])
	w.done += int64(n)
	if w.size > 0 {
		w.task.Progress(float64(w.done)/float64(w.size), fmt.Sprintf("%d of %d bytes", w.done, w.size))
	}
	return n, err
}

func countWords(ctx context.Context, t *protocol.Task, r io.Reader, size int64, top int) (any, error) {
	in := &watched{ctx: ctx, r: r, task: t, sum: sha256.New(), size: size}
	text := bufio.NewReaderSize(in, readAhead)
	var v wordsValue
	counts := map[string]*int64{}
	var word []byte
	end := func() {
		if len(word) == 0 {
			return
		}
		v.Words++
		if n, ok := counts[string(word)]; ok { // no allocation for a known word
			*n++
		} else {
			n := int64(1)
			counts[string(word)] = &n
		}
		word = word[:0]
	}
	for {
		c, _, err := text.ReadRune()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if c == '\n' {
			v.Lines++
		}
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '\'' {
			end()
			continue
		}
		if len(word) > maxWord {
			end()
		}
		word = appendLower(word, c)
	}
	end()
	v.Bytes, v.Distinct = in.done, len(counts)
	v.SHA256 = hex.EncodeToString(in.sum.Sum(nil))
	v.Top = mostFrequent(counts, top)
	return v, nil
}

func appendLower(word []byte, c rune) []byte {
	if c < 0x80 {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		return append(word, byte(c))
	}
	return append(word, string(unicode.ToLower(c))...)
}

// mostFrequent lists the first n words by count, then by alphabet.
func mostFrequent(counts map[string]*int64, n int) []wordCount {
	all := make([]wordCount, 0, len(counts))
	for word, count := range counts {
		all = append(all, wordCount{word, *count})
	}
	slices.SortFunc(all, func(a, b wordCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Word, b.Word))
	})
	return all[:min(n, len(all))]
}
