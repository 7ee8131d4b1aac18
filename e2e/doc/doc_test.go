package doc_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/doc"
	"github.com/scalehook/scalehook/internal/testenv"
)

func blocks(t *testing.T, lines ...string) []doc.Block {
	t.Helper()
	out, err := doc.Blocks(strings.Join(lines, "\n") + "\n")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func run(t *testing.T, r doc.Runner, list []doc.Block) (outputs []string, err error) {
	t.Helper()
	testenv.Need(t, testenv.Program("bash"))
	if r.Each == 0 {
		r.Each = time.Minute
	}
	r.Command = exec.CommandContext(t.Context(), "bash")
	r.Command.Dir = t.TempDir()
	r.Done = func(_ doc.Block, _ time.Time, output string) { outputs = append(outputs, output) }
	err = r.Run(t.Context(), list)
	return outputs, err
}

func TestOneSessionRunsThePageInOrder(t *testing.T) {
	did := ""
	got, err := run(t, doc.Runner{Instead: map[string]func(context.Context) error{
		"load": func(context.Context) error { did = "load"; return nil },
	}}, blocks(t,
		"# A page", "```sh", "export WORD='it'\\''s said'", "mkdir a && cd a", "```",
		"    indented is not run", "```yaml", "a: b", "```",
		"<!-- not run: it would fail -->", "```sh", "false", "```",
		"<!-- instead: load -->", "```sh", "false", "```",
		"- in a list", "  ```sh", "  echo \"$WORD in ${PWD##*/}\"", "  cat", "  ```",
		"<!-- until: ^xxx$ -->", "```sh", "printf x >> tries; cat tries; test -s tries", "```",
		"<!-- shows: ^x+$ -->", "```sh", "cat tries", "```",
	))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"", "", "it's said in a\n", "xxx", "xxx"}, got); diff != "" || did != "load" {
		t.Errorf("did %q; outputs (-want +got):\n%s", did, diff)
	}
}

func TestAPageThatIsNotTrueIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  string
	}{
		"a command that fails":               {[]string{"```sh", "echo before", "ls /nowhere", "echo after", "```"}, "line 1: a command failed"},
		"one that fails in a pipe":           {[]string{"```sh", "false | cat", "```"}, "line 1: a command failed"},
		"a variable that nobody set":         {[]string{"```sh", "echo $NOBODY", "```"}, "line 1: a command failed"},
		"another output":                     {[]string{"<!-- shows: ^good$ -->", "```sh", "echo bad", "```"}, "line 2: it does not print (?m)^good$"},
		"what never comes":                   {[]string{"<!-- until: ^good$ -->", "```sh", "echo bad", "```"}, "line 2: it never succeeded with (?m)^good$"},
		"what comes, from one that fails":    {[]string{"<!-- until: ^good$ -->", "```sh", "echo good; false", "```"}, "line 2: it never succeeded with (?m)^good$"},
		"something that nobody does instead": {[]string{"<!-- instead: this -->", "```sh", "true", "```"}, `line 2: the test knows no "this"`},
	} {
		t.Run(name, func(t *testing.T) {
			each := time.Minute
			if strings.Contains(c.lines[0], "until") {
				each = 2 * time.Second
			}
			_, err := run(t, doc.Runner{Each: each}, blocks(t, c.lines...))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestAPageThatCannotBeReadIsRefused(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"another name for the shell":    {"```console\n$ ls\n```\n", "line 1: commands stand in blocks of the language sh, not console"},
		"a block without an end":        {"```sh\nls\n", "the last block has no end"},
		"a remark without a block":      {"<!-- not run: x -->\ntext\n", "line 2: a remark for commands stands before something else"},
		"a remark before other blocks":  {"<!-- not run: x -->\n```yaml\n```\n", "line 2: a remark for commands stands before something else"},
		"a pattern that cannot be read": {"<!-- until: ( -->\n```sh\n```\n", "line 1: error parsing regexp"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := doc.Blocks(c.text)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
