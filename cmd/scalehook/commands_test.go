package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const cliPage = "../../docs/cli.md"

// commands are all that a person can type, cobra's own included.
func commands(t *testing.T) (root *cobra.Command, all []*cobra.Command) {
	t.Helper()
	root = newRootCommand(func(string) string { return "" })
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd("")
	var add func(*cobra.Command)
	add = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if !sub.Hidden {
				all = append(all, sub)
				add(sub)
			}
		}
	}
	add(root)
	if len(all) < 30 {
		t.Fatalf("only %d commands", len(all))
	}
	return root, all
}

// name is a command's path without the program.
func name(c *cobra.Command) string { return strings.TrimPrefix(c.CommandPath(), "scalehook ") }

// cobras reports whether cobra wrote the command.
func cobras(c *cobra.Command) bool {
	return name(c) == "help" || strings.HasPrefix(name(c), "completion")
}

func TestEveryCommandExplainsItself(t *testing.T) {
	_, all := commands(t)
	for _, c := range all {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: Short is %q; it is one line without a full stop", name(c), c.Short)
		}
		if c.Long == "" && c.Example == "" {
			t.Errorf("%s: has neither Long nor Example", name(c))
		}
		if cobras(c) {
			continue
		}
		if c.Runnable() && !c.HasSubCommands() && c.Example == "" {
			t.Errorf("%s: has no Example: write one, there or in exampleOf", name(c))
		}
		for line := range strings.Lines(c.Long) {
			if len(strings.TrimRight(line, "\n")) > 100 {
				t.Errorf("%s: a line of Long is longer than 100 bytes: %s", name(c), line)
			}
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s is not explained", name(c), f.Name)
			}
		})
	}
}

// TestEveryExampleCanBeTyped parses the examples of every command's help.
func TestEveryExampleCanBeTyped(t *testing.T) {
	_, all := commands(t)
	tried := 0
	for _, c := range all {
		if cobras(c) {
			continue
		}
		for line := range strings.Lines(strings.ReplaceAll(c.Example, "\\\n", " ")) {
			words := shellWords(line)
			at := slices.Index(words, "scalehook")
			if at < 0 {
				continue
			}
			root, _ := commands(t) // flags keep what was parsed
			found, rest, err := root.Find(words[at+1:])
			if err == nil {
				err = found.ParseFlags(rest)
			}
			if err == nil {
				err = found.ValidateArgs(found.Flags().Args())
			}
			if err != nil {
				t.Errorf("%s: %s: %v", name(c), strings.TrimSpace(line), err)
			}
			tried++
		}
	}
	if tried < 40 {
		t.Errorf("only %d examples were found", tried)
	}
}

// shellWords splits a command line up to a pipe, a redirection, a second command or
// a comment.
func shellWords(line string) []string {
	var words []string
	for _, m := range regexp.MustCompile(`"[^"]*"|'[^']*'|[^\s'"]+`).FindAllString(line, -1) {
		if m == "|" || m == ">" || m == "#" || m == "&&" && slices.Contains(words, "scalehook") {
			break
		}
		words = append(words, strings.Trim(m, `"'`))
	}
	return words
}

// TestThePageHasEveryCommand holds docs/cli.md against the commands: each has its
// row, and the flags in a row are its own.
func TestThePageHasEveryCommand(t *testing.T) {
	root, all := commands(t)
	text, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{} // by command, what is typed
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z][^`]*)`(.*?) \\|").FindAllStringSubmatch(string(text), -1) {
		c, _, err := root.Find(strings.Fields(m[1]))
		if err == nil && c != root {
			if strings.Contains(rows[name(c)], m[1]+m[2]+"\n") {
				t.Errorf("docs/cli.md has two rows for `%s`", m[1])
			}
			rows[name(c)] += m[1] + m[2] + "\n"
		}
	}
	for _, c := range all {
		if c.Name() == "help" || cobras(c.Parent()) || c.HasSubCommands() && !cobras(c) || !c.Runnable() {
			continue
		}
		if rows[name(c)] == "" {
			t.Errorf("docs/cli.md has no row for `%s`: add one that begins with | `%s", name(c), c.Use)
		}
		for _, flag := range flagsIn(rows[name(c)]) {
			if c.Flags().Lookup(flag) == nil && c.InheritedFlags().Lookup(flag) == nil {
				t.Errorf("docs/cli.md: %s has no flag --%s", name(c), flag)
			}
		}
	}
	serve, _, err := root.Find([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	serve.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !strings.Contains(string(text), "`--"+f.Name+"`") {
			t.Errorf("docs/cli.md does not list --%s of serve", f.Name)
		}
	})
}

// TestFlagsThatAreNamedExist looks at every flag in docs/cli.md and in the helps.
func TestFlagsThatAreNamedExist(t *testing.T) {
	_, all := commands(t)
	known := map[string]bool{"help": true, "help-man": true} // of every program, of scalehook-exporter
	texts := map[string]string{}
	for _, c := range all {
		if !cobras(c) {
			texts["the help of "+name(c)] = c.Long
		}
		for _, flags := range []*pflag.FlagSet{c.Flags(), c.PersistentFlags()} {
			flags.VisitAll(func(f *pflag.Flag) { known[f.Name] = true })
		}
	}
	page, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	texts["docs/cli.md"] = string(page)
	for where, text := range texts {
		for _, flag := range flagsIn(text) {
			if !known[flag] {
				t.Errorf("%s names --%s, which no command has", where, flag)
			}
		}
	}
}

func flagsIn(text string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`(?:^|[^-\w])--([a-z][a-z0-9]*(?:[.-][a-z0-9]+)*)`).FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

func TestThePageHasTheExitCodes(t *testing.T) {
	page, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.NewBufferString("| code | meaning |\n|---|---|\n")
	for _, c := range exitCodes() {
		fmt.Fprintf(want, "| %d | %s |\n", c.code, c.meaning)
	}
	if !bytes.Contains(page, append(want.Bytes(), '\n')) {
		t.Errorf("docs/cli.md lacks this table:\n%s", want)
	}
	var help bytes.Buffer
	if code := execute(t.Context(), []string{"help", "exit-codes"}, os.Getenv, &help, &help); code != exitOK {
		t.Errorf("help exit-codes ends with %d", code)
	}
	for _, c := range exitCodes() {
		if !strings.Contains(help.String(), strconv.Itoa(c.code)+"  "+c.meaning) {
			t.Errorf("help exit-codes lacks %d:\n%s", c.code, &help)
		}
	}
	// Those that do their work and end with 1 for what they found.
	for _, judges := range []string{"check-config", "doctor", "verify", "suggest"} {
		if !strings.Contains(help.String(), strconv.Quote(judges)) {
			t.Errorf("help exit-codes does not say when %s ends with 1:\n%s", judges, &help)
		}
	}
}

// TestEveryListingIsPrintedInEveryFormat sees that --output is the same everywhere.
func TestEveryListingIsPrintedInEveryFormat(t *testing.T) {
	_, all := commands(t)
	for _, c := range all {
		f := c.Flags().Lookup("output")
		if f == nil {
			f = c.InheritedFlags().Lookup("output")
		}
		switch {
		case f == nil && c.GroupID == "show" && name(c) != "top": // draws
			t.Errorf("%s lists something and has no --output", name(c))
		case f != nil && (f.Shorthand != "o" || f.DefValue != formatTable || f.Usage != "how to print: table, json or yaml"):
			t.Errorf("%s: --output is not that of outputFlag: -%s, %q, %q", name(c), f.Shorthand, f.DefValue, f.Usage)
		}
	}
}

// typed are the command lines of the program in a Markdown text: those in blocks, and
// those that are a span of code.
func typed(text string) (lines []string) {
	fenced := false
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
			continue
		}
		if fenced || strings.HasPrefix(line, "    ") {
			words := shellWords(line)
			for k, w := range words {
				if w == "scalehook" || strings.HasSuffix(w, "/scalehook") {
					if k > 0 && words[k-1] == "exec" && k+1 < len(words) && words[k+1] == "scalehook" {
						k++ // in the container of that name
						lines = append(lines, strings.Join(words[k:], " "))
					} else if k == 0 || slices.Contains([]string{"sudo", "exec", "&&", "then"}, words[k-1]) || strings.Contains(words[k-1], "=") {
						lines = append(lines, strings.Join(words[k:], " "))
					}
					break
				}
			}
			continue
		}
		for _, m := range regexp.MustCompile("`(scalehook [a-z-][^`]*)`").FindAllStringSubmatch(line, -1) {
			lines = append(lines, strings.Join(shellWords(m[1]), " "))
		}
	}
	return lines
}

// TestEveryCommandInThePagesExists looks at all Markdown of the tree.
func TestEveryCommandInThePagesExists(t *testing.T) {
	tried := 0
	err := filepath.WalkDir("../..", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 || d.Name() == "node_modules"):
			return fs.SkipDir
		case filepath.Ext(file) != ".md":
			return nil
		}
		text, err := os.ReadFile(file)
		for _, line := range typed(string(text)) {
			tried++
			if problem := exists(t, strings.Fields(line)[1:]); problem != "" {
				t.Errorf("%s: %s: %s", file, line, problem)
			}
		}
		return err
	})
	if err != nil || tried < 100 {
		t.Errorf("%d commands were tried: %v", tried, err)
	}
}

// exists says what is wrong with a command line whose arguments may be placeholders.
func exists(t *testing.T, words []string) string {
	t.Helper()
	root, _ := commands(t)
	if len(words) == 0 || words[0] == "COMMAND" || words[0] == "…" || words[0] == "..." {
		return ""
	}
	found, rest, err := root.Find(words)
	if err != nil {
		return err.Error()
	}
	if found.HasSubCommands() && found.Name() != "completion" && len(rest) > 0 && regexp.MustCompile("^[a-z]+$").MatchString(rest[0]) {
		return "there is no such command: " + rest[0]
	}
	for _, word := range words {
		name, _, _ := strings.Cut(word, "=")
		name = strings.Trim(name, "[]…,.")
		if long, is := strings.CutPrefix(name, "--"); is && long != "" && long != "help" && found.Flags().Lookup(long) == nil && found.InheritedFlags().Lookup(long) == nil && (found != root || long != "version") {
			return "there is no flag " + name
		}
	}
	return ""
}
