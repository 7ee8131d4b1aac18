package provision

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write what the plans come to into testdata")

// planCase is a file of testdata/plan, destroy or cleanup. Its name is the expected
// outcome.
type planCase struct {
	// From is the world that the case begins with: empty, whole (all made for the
	// file) or adopted (all there, and somebody else's).
	From string `yaml:"from"`
	// World replaces lists of it.
	World yaml.Node `yaml:"world"`
	// Replace changes the text of the usual file.
	Replace map[string]string `yaml:"replace"`
	// File is another file altogether.
	File string `yaml:"file"`
	// Keep leaves snapshots with --destroy.
	Keep bool `yaml:"keep_snapshots"`
	// Want is what the plan has to say.
	Want string `yaml:"want"`
}

func TestPlansComeToWhatTheirNamesSay(t *testing.T) {
	for dir, plan := range map[string]func(*File, *World, planCase) Plan{
		"plan": func(f *File, w *World, _ planCase) Plan { return makePlan(f, w) },
		"destroy": func(f *File, w *World, c planCase) Plan {
			return destroyPlan(f, w, DestroyOptions{KeepSnapshots: c.Keep})
		},
		"cleanup": func(f *File, w *World, _ planCase) Plan { return cleanupPlan(f, w, 2) },
	} {
		paths, err := filepath.Glob("testdata/" + dir + "/*.yml")
		if err != nil || len(paths) == 0 {
			t.Fatalf("no cases in %s: %v", dir, err)
		}
		for _, path := range paths {
			t.Run(dir+"/"+strings.TrimSuffix(filepath.Base(path), ".yml"), func(t *testing.T) {
				c := readCase(t, path)
				got := render(plan(c.file(t), c.world(t), c))
				if *update {
					c.write(t, path, got)
					return
				}
				if diff := cmp.Diff(c.Want, got); diff != "" {
					t.Errorf("the plan is another (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func readCase(t *testing.T, path string) planCase {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c planCase
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return c
}

func (c planCase) write(t *testing.T, path, want string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(text), "want: |\n")
	var out strings.Builder
	out.WriteString(head + "want: |\n")
	for line := range strings.Lines(want) {
		out.WriteString("  " + line)
	}
	if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (c planCase) file(t *testing.T) *File {
	t.Helper()
	text := []byte(c.File)
	if c.File == "" {
		var err error
		if text, err = os.ReadFile("testdata/file.yml"); err != nil {
			t.Fatal(err)
		}
	}
	for from, to := range c.Replace {
		if !bytes.Contains(text, []byte(from)) {
			t.Fatalf("the file has no %q", from)
		}
		text = bytes.ReplaceAll(text, []byte(from), []byte(to))
	}
	f, err := Parse("lab.yml", text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (c planCase) world(t *testing.T) *World {
	t.Helper()
	from := c.From
	if from == "adopted" {
		from = "whole"
	}
	text, err := os.ReadFile("testdata/" + from + ".yml")
	if err != nil {
		t.Fatal(err)
	}
	if c.From == "adopted" {
		text = unmarked(text)
	}
	w := &World{}
	if err := yaml.Unmarshal(text, w); err != nil {
		t.Fatal(err)
	}
	if c.World.Kind == 0 {
		return w
	}
	over, err := yaml.Marshal(&c.World)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(over, w); err != nil {
		t.Fatal(err)
	}
	return w
}

// unmarked makes what was made for the file somebody else's.
func unmarked(text []byte) []byte {
	for mark, other := range map[string]string{
		"made by scalehook for scalehook lab": "what a person wrote", "scalehook-provision=lab": "a", "scalehook-owner=scalehook": "b",
		" scalehook:scalehook:lab:demo": "", "scalehook_owner: scalehook": "a: b",
	} {
		text = bytes.ReplaceAll(text, []byte(mark), []byte(other))
	}
	return text
}

func render(p Plan) string {
	var out strings.Builder
	for _, it := range p.Items {
		adopted := ""
		if it.Adopted {
			adopted = " (not ours)"
		}
		fmt.Fprintf(&out, "%s %s %s%s\n", it.Action, it.Kind, it.Name, adopted)
		for _, d := range it.Details {
			fmt.Fprintf(&out, "  %s\n", d)
		}
		for _, s := range it.steps {
			if !slices.Contains(it.Details, s.what) {
				fmt.Fprintf(&out, "  > %s\n", s.what)
			}
		}
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&out, "note: %s\n", n)
	}
	if err := p.Err(); err != nil {
		fmt.Fprintf(&out, "%v\n", err)
	}
	return out.String()
}

// TestEveryStepSaysWhatHasToBeReadAgain guards the loop: a step after which nothing
// is read would look as if it had done nothing.
func TestEveryStepSaysWhatHasToBeReadAgain(t *testing.T) {
	for _, from := range []string{"empty", "whole", "adopted"} {
		c := planCase{From: from}
		f, w := c.file(t), c.world(t)
		for _, p := range []Plan{makePlan(f, w), destroyPlan(f, w, DestroyOptions{}), cleanupPlan(f, w, 1)} {
			for _, it := range p.Items {
				for _, s := range it.steps {
					if len(s.touches) == 0 || s.do == nil || s.what == "" {
						t.Errorf("%s %s: step %q touches nothing or does nothing", it.Action, it.Kind, s.what)
					}
				}
			}
		}
	}
}
