//go:build faultpoints

package fault

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAPointEndsTheProcessAtItsPassingAndPollingIsOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	ended := 0
	p, err := newPoints("call libvirt: define:2", file, func() { ended++ })
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		p.pass("call libvirt: define")
	}
	p.pass("other")
	if ended != 0 {
		t.Fatalf("ended after the first passing, polled three times")
	}
	clear(p.since)
	p.pass("call libvirt: define")
	if ended != 1 {
		t.Errorf("ended %d times at the second passing, want once", ended)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(content)) {
		got = append(got, line[:strings.LastIndex(line, "\t")])
	}
	if want := "call libvirt: define\t1,other\t1,call libvirt: define\t2"; strings.Join(got, ",") != want {
		t.Errorf("log %q, want %q", got, want)
	}
}

func TestASpecThatIsNoneIsRefused(t *testing.T) {
	for _, spec := range []string{"x", "x:", ":1", "x:0", "x:one"} {
		if _, err := newPoints(spec, "", nil); err == nil {
			t.Errorf("%q was taken", spec)
		}
	}
}
