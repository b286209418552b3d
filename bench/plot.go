package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// plots writes the sweeps as SVG: bars of the medians with a line from the least
// to the most.
func (r *results) plots(folder string) error {
	for _, sweep := range []struct {
		name, title string
		values      []int
	}{
		{sweepSlots, "tasks/s by slots (one Go child)", []int{1, 4, 16, 64, 256}},
		{sweepChildren, "tasks/s by children (64 slots)", []int{1, 2, 4, 8}},
		{sweepSize, "tasks/s by record size in bytes", []int{300, 1_000, 10_000, 100_000, 1_000_000}},
		{sweepFleet, "tasks/s by sidecars on one queue (8 slots each)", []int{1, 10, 50}},
	} {
		var labels []string
		var bars []spread
		for _, v := range sweep.values {
			if samples := r.samples[at(sweep.name, v)]["tasks/s"]; len(samples) > 0 {
				labels, bars = append(labels, figure(float64(v))), append(bars, spreadOf(samples))
			}
		}
		file := filepath.Join(folder, strings.ReplaceAll(sweep.name, " ", "-")+".svg")
		if err := os.WriteFile(file, []byte(chart(sweep.title, labels, bars)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func chart(title string, labels []string, bars []spread) string {
	const width, height, left, top, bottom = 560.0, 260.0, 20.0, 40.0, 30.0
	most := 1.0
	for _, b := range bars {
		most = max(most, b.most)
	}
	y := func(v float64) float64 { return height - bottom - v/most*(height-top-bottom-14) }
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %g %g" font-family="system-ui, sans-serif" font-size="12" fill="#555">`+"\n", width, height)
	fmt.Fprintf(&s, `<text x="%g" y="20" font-size="14" font-weight="600">%s</text>`+"\n", left, title)
	fmt.Fprintf(&s, `<line x1="%g" y1="%g" x2="%g" y2="%g" stroke="#999"/>`+"\n", left, height-bottom, width-left, height-bottom)
	step := (width - 2*left) / float64(max(1, len(bars)))
	for i, b := range bars {
		x := left + step*(float64(i)+0.2)
		middle := x + step*0.3
		fmt.Fprintf(&s, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="#4c78a8"/>`+"\n", x, y(b.median), step*0.6, height-bottom-y(b.median))
		fmt.Fprintf(&s, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#222" stroke-width="1.5"/>`+"\n", middle, y(b.least), middle, y(b.most))
		fmt.Fprintf(&s, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", middle, y(b.most)-5, figure(b.median))
		fmt.Fprintf(&s, `<text x="%.1f" y="%g" text-anchor="middle">%s</text>`+"\n", middle, height-10, labels[i])
	}
	s.WriteString("</svg>\n")
	return s.String()
}
