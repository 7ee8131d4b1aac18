package doc_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)(?: "[^"]*")?\)`)
	code    = regexp.MustCompile("``.*?``|`[^`]*`")
	heading = regexp.MustCompile(`^#{1,6} +(.*?)[ #]*$`)
	anchor  = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
)

// prose returns a page's lines without those inside fences.
func prose(text string) (lines []string) {
	fenced := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
			continue
		}
		if !fenced {
			lines = append(lines, line)
		}
	}
	return lines
}

// anchors are what a link can lead to in a page, as GitHub and others name them.
func anchors(text string) map[string]bool {
	out := map[string]bool{}
	for _, line := range prose(text) {
		for _, m := range anchor.FindAllStringSubmatch(line, -1) {
			out[m[1]] = true
		}
		m := heading.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		title := link.ReplaceAllString(m[1], "]")
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, title)
		for n, first := 0, name; out[name]; {
			n++
			name = fmt.Sprintf("%s-%d", first, n)
		}
		out[name] = true
	}
	return out
}

// TestEveryLinkLeadsSomewhere follows the relative links of all Markdown of the tree,
// to files, folders and headings.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	all := map[string]string{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 || d.Name() == "node_modules"):
			return fs.SkipDir
		case path.Ext(file) != ".md":
			return nil
		}
		text, err := os.ReadFile(file)
		name, _ := filepath.Rel(root, file)
		all[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	followed := 0
	for name, text := range all {
		for _, line := range prose(text) {
			for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, "code"), -1) {
				if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
					continue
				}
				followed++
				if problem := leads(all, name, m[1]); problem != "" {
					t.Errorf("%s: (%s): %s", name, m[1], problem)
				}
			}
		}
	}
	if followed < 200 {
		t.Errorf("only %d links were followed", followed)
	}
}

// leads says where a link of a page does not lead.
func leads(all map[string]string, page, to string) string {
	file, at, _ := strings.Cut(to, "#")
	target := page
	if file != "" {
		target = path.Join(path.Dir(page), file)
	}
	if strings.HasPrefix(target, "..") {
		return "it leads out of the tree"
	}
	if _, err := os.Stat(filepath.Join(root, target)); err != nil {
		return "there is no such file"
	}
	if at == "" {
		return ""
	}
	text, is := all[target]
	if !is {
		return "only pages have headings"
	}
	if known := anchors(text); !known[at] {
		return "there is no such heading"
	}
	return ""
}

// TestTheIndexHasEveryPage of docs/.
func TestTheIndexHasEveryPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range link.FindAllStringSubmatch(string(text), -1) {
		to, _, _ := strings.Cut(m[1], "#")
		listed = append(listed, path.Join("docs", to))
	}
	for name := range pages(t) {
		if strings.HasPrefix(name, "docs/") && name != "docs/README.md" && !slices.Contains(listed, name) {
			t.Errorf("docs/README.md does not list %s", name)
		}
	}
}

func TestAnchorsAreNamedAsTheyAreRead(t *testing.T) {
	got := anchors("# The `release` of a group, *twice*\n## [What](x.md) it is\n```\n# no heading\n```\n## A_b – c\n## Twice\n## Twice\n<a id=\"own\"></a>\n")
	for _, want := range []string{"the-release-of-a-group-twice", "what-it-is", "a_b--c", "twice", "twice-1", "own"} {
		if !got[want] {
			t.Errorf("no anchor %q in %v", want, got)
		}
	}
	if len(got) != 6 {
		t.Errorf("anchors %v", got)
	}
}
