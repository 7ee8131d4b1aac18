package box

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/e2e/doc"
)

// Page are the commands of a page, for a test that has more to do between them than
// its remarks can say.
type Page struct {
	name   string
	blocks []doc.Block
	ran    []bool
}

// ReadPage reads a page.
func ReadPage(t testing.TB, name string) *Page {
	t.Helper()
	blocks := Blocks(t, name)
	return &Page{name: name, blocks: blocks, ran: make([]bool, len(blocks))}
}

// Blocks are the commands of a page.
func Blocks(t testing.TB, name string) []doc.Block {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := doc.Blocks(string(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return blocks
}

// Run runs the one block that has these words, in a folder of the box, and returns
// what it printed. The test ends if it fails.
func (p *Page) Run(t testing.TB, b *Box, folder, words string) (output string) {
	t.Helper()
	found := -1
	for n, block := range p.blocks {
		if strings.Contains(block.Text, words) && block.NotRun == "" {
			if found >= 0 {
				t.Fatalf("%s: %q is in more than one block", p.name, words)
			}
			found = n
		}
	}
	if found < 0 {
		t.Fatalf("%s: no block has %q", p.name, words)
	}
	err := doc.Runner{
		Command: b.Command(t.Context(), "bash", "-c", `cd "$0" && exec bash`, folder),
		Each:    patience,
		Done:    func(_ doc.Block, _ time.Time, said string) { output = said },
	}.Run(t.Context(), p.blocks[found:found+1])
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	p.ran[found] = true
	return output
}

// AllRan wants every block to have been run.
func (p *Page) AllRan(t testing.TB) {
	t.Helper()
	for n, block := range p.blocks {
		if !p.ran[n] && block.NotRun == "" {
			t.Errorf("%s: line %d is not run:\n%s", p.name, block.Line, block.Text)
		}
	}
}
