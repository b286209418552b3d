package cli

import (
	"fmt"
	"sort"
	"strings"

	"github.com/rivo/uniseg"
)

// table prints rows under a head. On a terminal the widest columns are shortened
// until a line fits; in a pipe nothing is. The first column has what is given to other
// commands: its cells are shortened in the middle, see shownAs, and stay distinct as far
// as mostFirst columns show that.
func (p *printer) table(head []string, rows [][]string) {
	widths := make([]int, len(head))
	cells := make([][]string, 0, len(rows)+1)
	for _, row := range append([][]string{head}, rows...) {
		line := make([]string, len(head))
		for i := range line {
			line[i] = clean(row[i])
			widths[i] = max(widths[i], uniseg.StringWidth(line[i]))
		}
		cells = append(cells, line)
	}
	if p.width > 0 {
		narrow(widths, p.width-2*(len(head)-1), leastDistinct(cells, widths[0]))
	}
	for n, line := range cells {
		var b strings.Builder
		for i, cell := range line {
			if i == 0 {
				cell = shortenMiddle(cell, widths[i])
			} else {
				cell = shorten(cell, widths[i])
			}
			pad := widths[i] - uniseg.StringWidth(cell)
			if p.width == 0 {
				cell, pad = line[i], min(widths[i], mostPadded)-uniseg.StringWidth(line[i])
			}
			if n == 0 {
				cell = p.bold(cell)
			}
			b.WriteString(cell)
			if i < len(line)-1 {
				b.WriteString(strings.Repeat(" ", max(pad, 0)+2))
			}
		}
		fmt.Fprintln(p.w, b.String())
	}
}

// mostPadded is how wide a column is at most made for a longer cell of another row, in a
// pipe: one task id of a megabyte made 50 lines of a megabyte.
const mostPadded = 200

const (
	// leastColumn and leastFirst are how narrow a column may become.
	leastColumn, leastFirst = 6, 20
	// mostFirst is how wide the first column is made at most so that its cells differ.
	mostFirst = 200
)

// leastDistinct is the least width of the first column, whose widest cell has widest,
// at which cells that differ are shown differently; mostFirst where they are not then.
func leastDistinct(cells [][]string, widest int) int {
	whole := make(map[string][]string, len(cells))
	for _, line := range cells {
		whole[line[0]] = clusters(line[0])
	}
	most := min(max(widest, leastFirst), mostFirst)
	// What is shown at a width tells more than what is shown at a smaller one.
	return leastFirst + sort.Search(most-leastFirst, func(i int) bool {
		shown := make(map[string]bool, len(whole))
		for cell, parts := range whole {
			if uniseg.StringWidth(cell) > leastFirst+i {
				cell = cutMiddle(parts, leastFirst+i)
			}
			shown[cell] = true
		}
		return len(shown) == len(whole)
	})
}

// narrow takes from the widest columns until they fit together, from the first one
// not below leastFirst.
func narrow(widths []int, most, leastFirst int) {
	for {
		sum, widest := 0, -1
		for i, w := range widths {
			sum += w
			least := leastColumn
			if i == 0 {
				least = leastFirst
			}
			if w > least && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if sum <= most || widest < 0 {
			return
		}
		widths[widest]--
	}
}

// shorten cuts a text to a width, with … where something is missing.
func shorten(text string, width int) string {
	if uniseg.StringWidth(text) <= width {
		return text
	}
	var b strings.Builder
	used := 0
	for g := uniseg.NewGraphemes(text); g.Next(); {
		if used+g.Width() > width-1 {
			break
		}
		used += g.Width()
		b.WriteString(g.Str())
	}
	return b.String() + "…"
}

// shortenMiddle cuts the middle out of a text, for ids: they begin alike, with the name
// of a worker, and end with a number.
func shortenMiddle(text string, width int) string {
	if uniseg.StringWidth(text) <= width {
		return text
	}
	return cutMiddle(clusters(text), width)
}

// clusters are the characters of a text as a terminal shows them. Of a long text the
// middle is left out, which no column shows: an id may have megabytes.
func clusters(text string) (list []string) {
	for g := uniseg.NewGraphemes(text); g.Next(); {
		if len(list) == 4*mostFirst {
			list = append(list[:mostFirst], list[len(list)-mostFirst:]...)
		}
		list = append(list, g.Str())
	}
	return list
}

// cutMiddle takes clusters from both ends in turn while they fit into a width.
func cutMiddle(clusters []string, width int) string {
	head, tail, used := 0, len(clusters), 1
	for head < tail {
		next, fromTail := clusters[head], len(clusters)-tail <= head
		if fromTail {
			next = clusters[tail-1]
		}
		if used += uniseg.StringWidth(next); used > width {
			break
		}
		if fromTail {
			tail--
		} else {
			head++
		}
	}
	return strings.Join(clusters[:head], "") + "…" + strings.Join(clusters[tail:], "")
}

// shownAs reports whether typed is an id, a beginning of it, or what a table on a narrow
// terminal shows of it: its beginning and its end with … (or ...) between them.
func shownAs(id, typed string) bool {
	if typed == "" || strings.HasPrefix(id, typed) {
		return typed != ""
	}
	head, tail, cut := strings.Cut(strings.Replace(typed, "...", "…", 1), "…")
	return cut && head+tail != "" && len(id) >= len(head)+len(tail) && strings.HasPrefix(id, head) && strings.HasSuffix(id, tail)
}
