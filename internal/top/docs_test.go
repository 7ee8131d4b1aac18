package top

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const page = "../../docs/top.md"

// TestThePageShowsWhatIsDrawn holds the frame and the table of keys in docs/top.md
// against the golden frame and the help view.
func TestThePageShowsWhatIsDrawn(t *testing.T) {
	frame, err := os.ReadFile("testdata/rising.txt")
	if err != nil {
		t.Fatal(err)
	}
	var keys strings.Builder
	keys.WriteString("| key | what it does |\n|---|---|\n")
	for _, k := range Keys() {
		names := strings.Fields(k.Keys)
		for i := range names {
			names[i] = "`" + names[i] + "`"
		}
		fmt.Fprintf(&keys, "| %s | %s |\n", strings.Join(names, " "), k.Does)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := string(text)
	want = between(t, want, "<!-- frame: internal/top/testdata/rising.txt -->\n```text\n", "```\n", string(frame))
	want = between(t, want, "<!-- keys -->\n", "\n", keys.String())
	golden(t, page, want)
}

// between puts a text in the place of what is between two marks.
func between(t *testing.T, text, from, to, put string) string {
	t.Helper()
	before, rest, found := strings.Cut(text, from)
	if !found {
		t.Fatalf("%s has no %q", page, from)
	}
	// The end is a line of its own.
	_, after, found := strings.Cut("\n"+rest, "\n"+to)
	if !found {
		t.Fatalf("%s has no end after %q", page, from)
	}
	return before + from + put + to + after
}

// TestTheHelpViewHasEveryKey, on a terminal of 80×24 and by scrolling on a small one.
func TestTheHelpViewHasEveryKey(t *testing.T) {
	m := clocked(nil, nil)
	size(m, 80, 24)
	press(m, "?")
	for _, k := range Keys() {
		if !strings.Contains(text(m), k.Keys) || !strings.Contains(said(m), strings.Join(strings.Fields(k.Does), " ")) {
			t.Errorf("help lacks %q:\n%s", k, text(m))
		}
	}
	size(m, 40, 10)
	var seen strings.Builder
	for range 40 {
		checkSize(t, m)
		seen.WriteString(text(m))
		press(m, "j")
	}
	for _, k := range Keys() {
		if !strings.Contains(seen.String(), k.Keys) {
			t.Errorf("no scrolling shows %q", k.Keys)
		}
	}
}
