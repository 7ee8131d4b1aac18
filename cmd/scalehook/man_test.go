package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestThePagesOfTheManual writes them twice and reads them as roff does: every
// request is known, what is opened is closed, and the sections are in their order.
func TestThePagesOfTheManual(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1760000000")
	t.Setenv(envURL, "http://elsewhere.example:1") // must not get into a page
	first, second := t.TempDir(), t.TempDir()
	for _, dir := range []string{first, second} {
		var out bytes.Buffer
		if code := execute(t.Context(), []string{"man", dir}, os.Getenv, &out, &out); code != exitOK {
			t.Fatalf("exit code %d: %s", code, &out)
		}
	}
	_, all := commands(t)
	pages := []string{"scalehook"}
	for _, c := range all {
		if c.Name() != "help" && !c.IsAdditionalHelpTopicCommand() {
			pages = append(pages, strings.ReplaceAll(c.CommandPath(), " ", "-"))
		}
	}
	for _, page := range pages {
		text, err := os.ReadFile(filepath.Join(first, page+".1"))
		if err != nil {
			t.Errorf("no page for %s: %v", page, err)
			continue
		}
		again, err := os.ReadFile(filepath.Join(second, page+".1"))
		if err != nil || !bytes.Equal(text, again) {
			t.Errorf("%s: another page the second time", page)
		}
		checkRoff(t, page, string(text))
	}
	if files, err := os.ReadDir(first); err != nil || len(files) != len(pages) {
		t.Errorf("%d files for %d pages: %v", len(files), len(pages), err)
	}
}

var requestRE = regexp.MustCompile(`^\.(TH|ad l|SH|TP|PP|RS 2|RE|nf|fi)( |$)`)

func checkRoff(t *testing.T, page, text string) {
	t.Helper()
	var sections []string
	open := map[string]int{}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		for _, r := range line {
			if r > 126 || r < 32 {
				t.Errorf("%s:%d: %q is not for every roff", page, i+1, r)
			}
		}
		if strings.HasPrefix(line, "'") || strings.HasPrefix(line, ".") && !requestRE.MatchString(line) {
			t.Errorf("%s:%d: an unknown request: %s", page, i+1, line)
		}
		if i == 0 && !regexp.MustCompile(`^\.TH "[A-Z\\-]+" 1 "2025\\-10\\-09" "scalehook`).MatchString(line) {
			t.Errorf("%s: begins with %s", page, line)
		}
		switch request, rest, _ := strings.Cut(line, " "); request {
		case ".SH":
			sections = append(sections, strings.Trim(rest, `"`))
		case ".RS", ".nf":
			open[request]++
		case ".RE":
			open[".RS"]--
		case ".fi":
			open[".nf"]--
		}
	}
	if open[".RS"] != 0 || open[".nf"] != 0 {
		t.Errorf("%s: not closed: %v", page, open)
	}
	order := []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "COMMANDS", "EXIT STATUS", "ENVIRONMENT", "SEE ALSO"}
	for _, s := range sections {
		for len(order) > 0 && order[0] != s {
			if n := order[0]; n == "NAME" || n == "SYNOPSIS" || n == "DESCRIPTION" || n == "OPTIONS" || n == "EXIT STATUS" {
				t.Errorf("%s: no section %s before %s", page, n, s)
			}
			order = order[1:]
		}
		if len(order) == 0 {
			t.Fatalf("%s: section %s is out of order in %v", page, s, sections)
		}
		order = order[1:]
	}
	if !strings.Contains(text, ".SH NAME\n"+strings.ReplaceAll(page, "-", `\-`)+` \- `) {
		t.Errorf("%s: its NAME cannot be indexed", page)
	}
	if strings.Contains(text, "elsewhere") {
		t.Errorf("%s: has something of the environment", page)
	}
}
