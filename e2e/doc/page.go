package doc

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// patience is how long a block may take.
const patience = 5 * time.Minute

// Page are the commands of a page, for a test that has more to do between them than
// its remarks can say.
type Page struct {
	name   string
	blocks []Block
	ran    []bool
}

// ReadPage reads a page.
func ReadPage(t testing.TB, name string) *Page {
	t.Helper()
	blocks := Read(t, name)
	return &Page{name: name, blocks: blocks, ran: make([]bool, len(blocks))}
}

// Read returns the blocks of a page.
func Read(t testing.TB, name string) []Block {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := Blocks(string(text))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return blocks
}

// Run runs the one block that has these words, in a session of its own, and returns
// what it printed. The test ends if it fails.
func (p *Page) Run(t testing.TB, session *exec.Cmd, words string) (output string) {
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
	err := Runner{
		Command: session,
		Each:    patience,
		Done:    func(_ Block, _ time.Time, said string) { output = said },
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
