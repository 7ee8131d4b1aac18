package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// pageCommand is a line of a page on which one types scalehook, after whatever runs it
// as somebody or elsewhere.
var pageCommand = regexp.MustCompile(`(?m)^(?:\$ )?(?:if )?(?:(?:sudo|[A-Z_]+=\S+)(?: -[a-zA-Z](?: \S+)?)* |runuser -u \S+ -- |ssh \S+ )*(?:bin/)?scalehook ((?:[^\n\\]|\\\n|\\.)*)`)

// pageWords splits the arguments of a command up to where the shell ends it.
func pageWords(line string) (words []string) {
	var word strings.Builder
	begun, quote := false, rune(0)
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, r := range strings.ReplaceAll(line, "\\\n", " ") {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case r == ' ':
			end()
		case strings.ContainsRune("|>&;<)", r), r == '#' && !begun:
			end()
			return words
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	end()
	return words
}

// Every command of ours that a page has one type is one, with flags and arguments that
// it takes.
func TestCommandLinesInThePagesAreOnes(t *testing.T) {
	count := 0
	for _, at := range []string{"README.md", "docs", "deploy", "grafana"} {
		err := filepath.WalkDir(filepath.Join("..", "..", at), func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || filepath.Ext(file) != ".md" {
				return err
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			fenced := false
			var code strings.Builder // what stands in blocks, the rest as empty lines
			for line := range strings.Lines(string(text)) {
				fence := strings.HasPrefix(strings.TrimSpace(line), "```")
				if fence {
					fenced = !fenced
				}
				if !fence && (fenced || strings.HasPrefix(line, "    ")) {
					code.WriteString(strings.TrimLeft(line, " "))
				} else {
					code.WriteString("\n")
				}
			}
			for _, at := range pageCommand.FindAllStringSubmatchIndex(code.String(), -1) {
				args := code.String()[at[2]:at[3]]
				if command, _, _ := strings.Cut(args, " "); strings.HasSuffix(command, ":") || strings.ContainsAny(strings.SplitN(args, "#", 2)[0], "…·") {
					continue // what it said, a pattern, or a screen
				}
				count++
				number := strings.Count(code.String()[:at[0]], "\n") + 1
				if err := takes(pageWords(args)); err != nil {
					t.Errorf("%s:%d: scalehook %s: %v", strings.TrimPrefix(file, "../../"), number, args, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if count < 40 {
		t.Errorf("only %d command lines were found", count)
	}
}

func TestACommandLineThatIsNoneIsFound(t *testing.T) {
	for line, right := range map[string]bool{
		`release web --yes && echo done`: true, `pause web --reason "so it is" # why`: true, "rules > file": true,
		"release web --yess": false, "releas web": false, "explain": false, "groups a b": false, "scale-out web -n": false,
	} {
		if err := takes(pageWords(line)); (err == nil) != right {
			t.Errorf("scalehook %s: %v", line, err)
		}
	}
}

// takes parses a command line and runs nothing.
func takes(words []string) error {
	root := newRootCommand(func(string) string { return "" })
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd("")
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}
