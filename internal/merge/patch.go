package merge

import (
	"fmt"
	"strings"
)

// context is how many lines around a change a patch shows.
const context = 3

// Patch is the merge as patch(1) takes it, empty if nothing is added.
func (m Merge) Patch(file string, text []byte) string {
	if len(m.Insertions) == 0 {
		return ""
	}
	old := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(text) == 0 {
		old = nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "--- %[1]s\n+++ %[1]s\n", file)
	added := 0 // before the hunk
	for i := 0; i < len(m.Insertions); {
		// Changes whose surroundings meet are one hunk.
		end := i + 1
		for end < len(m.Insertions) && m.Insertions[end].After-m.Insertions[end-1].After <= 2*context {
			end++
		}
		hunk := m.Insertions[i:end]
		from := max(hunk[0].After-context, 0)
		to := min(hunk[len(hunk)-1].After+context, len(old))
		var body strings.Builder
		at, more := from, 0
		for _, in := range hunk {
			for ; at < in.After; at++ {
				body.WriteString(" " + old[at] + "\n")
			}
			for _, line := range in.Lines {
				body.WriteString("+" + line + "\n")
				more++
			}
		}
		for ; at < to; at++ {
			body.WriteString(" " + old[at] + "\n")
		}
		first := from + 1
		if to == from {
			first = from // a hunk without lines of the old file names the line before
		}
		fmt.Fprintf(&b, "@@ -%d,%d +%d,%d @@\n%s", first, to-from, from+added+1, to-from+more, body.String())
		added += more
		i = end
	}
	return b.String()
}
