package cloud

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/scalehook/scalehook/internal/scaling"
)

// shown bounds how many names an error lists.
const shown = 5

// NotThere says that there is no kind (image, flavor …) called name, with the names
// that come nearest among others, or all if they are few. Its class is Permanent: a
// person has to correct the name or make the object.
func NotThere(kind, name string, others []string) error {
	return scaling.Errorf(scaling.Permanent, "%s %q does not exist%s", kind, name, near(name, others))
}

// Ambiguous says that several objects are called name: one of the ids has to be
// stated instead. Its class is Permanent.
func Ambiguous(kind, name string, ids []string) error {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return scaling.Errorf(scaling.Permanent, "%s %q is ambiguous: %d are called that; state the id of one instead: %s", kind, name, len(ids), strings.Join(ids, ", "))
}

// near is the end of a sentence that says what there is instead of name.
func near(name string, others []string) string {
	others = slices.DeleteFunc(slices.Clone(others), func(s string) bool { return s == "" || s == name })
	slices.Sort(others)
	others = slices.Compact(others)
	if len(others) == 0 {
		return "; there is none at all"
	}
	far := func(s string) int { return distance(strings.ToLower(name), strings.ToLower(s)) }
	slices.SortStableFunc(others, func(a, b string) int { return cmp.Compare(far(a), far(b)) })
	similar := slices.DeleteFunc(slices.Clone(others), func(s string) bool {
		return far(s) > max(2, len(name)/3) && !strings.Contains(strings.ToLower(s), strings.ToLower(name))
	})
	if name != "" && len(similar) > 0 {
		best := far(similar[0])
		similar = slices.DeleteFunc(similar, func(s string) bool { return far(s) > best+1 })
		return "; did you mean " + alternatives(similar[:min(len(similar), 3)]) + "?"
	}
	return "; there is " + listed(others)
}

// listed quotes names, the first few of many.
func listed(names []string) string {
	quoted := make([]string, 0, shown)
	for _, name := range names[:min(len(names), shown)] {
		quoted = append(quoted, strconv.Quote(name))
	}
	text := strings.Join(quoted, ", ")
	if more := len(names) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if text == "" {
		return "none"
	}
	return text
}

func alternatives(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = strconv.Quote(name)
	}
	return strings.Join(quoted, " or ")
}

// distance is the number of letters to change, add, drop or swap with the next.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			step := 1
			if x[i-1] == y[j-1] {
				step = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+step)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
