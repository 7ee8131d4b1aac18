package main

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// complete returns what a shell is offered.
func complete(t *testing.T, args ...string) (offers []string, directive string) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := execute(t.Context(), append([]string{"__complete"}, args...), func(string) string { return "" }, &out, &errs); code != exitOK {
		t.Fatalf("%q: exit code %d: %s", args, code, &errs)
	}
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, ":"); ok {
			return offers, rest
		}
		word, _, _ := strings.Cut(line, "\t")
		offers = append(offers, word)
	}
	t.Fatalf("%q: no directive in %q", args, &out)
	return nil, ""
}

const (
	noFiles = "4"
	files   = "0"
	dirs    = "16"
)

func TestFlagsAndArgumentsAreCompleted(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want []string
		then string
	}{
		{"formats", []string{"groups", "--output", ""}, []string{"table", "json", "yaml"}, noFiles},
		{"formats by the short flag", []string{"verify", "-o", ""}, []string{"table", "json", "yaml"}, noFiles},
		{"formats of a subcommand", []string{"host", "show", "-o", ""}, []string{"table", "json", "yaml"}, noFiles},
		{"directions", []string{"pause", "web", "--direction", ""}, []string{"out", "in", "both"}, noFiles},
		{"schemas", []string{"schema", "--of", ""}, []string{"config", "provision", "openapi"}, noFiles},
		{"levels", []string{"serve", "--log.level", "i"}, []string{"debug", "info", "warn", "error"}, noFiles},
		{"examples", []string{"example", "k"}, []string{"kvm"}, noFiles},
		{"a configuration", []string{"check-config", ""}, nil, files},
		{"a certificate", []string{"groups", "--tls.ca-file", ""}, nil, files},
		{"a folder for pages", []string{"man", ""}, nil, dirs},
		{"a folder of the store", []string{"serve", "--storage.path", ""}, nil, dirs},
		{"too many arguments", []string{"explain", "web", ""}, nil, noFiles},
		{"a number", []string{"set-desired", "web", ""}, nil, noFiles},
		{"no server", []string{"explain", "--url", "http://127.0.0.1:1", ""}, nil, noFiles},
		{"a server with a wrong address", []string{"explain", "--url", "nowhere", ""}, nil, noFiles},
		{"a token that is not there", []string{"explain", "--token-file", "none", ""}, nil, noFiles},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, then := complete(t, c.args...)
			if diff := cmp.Diff(c.want, got); diff != "" || then != c.then {
				t.Errorf("directive %s, want %s (-want +got):\n%s", then, c.then, diff)
			}
		})
	}
}

// A command without a server has its groups from the file.
func TestGroupsOfAFileAreCompleted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "scalehook.yml")
	if err := os.WriteFile(file, []byte(minimalConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := complete(t, "suggest", "--config.file", file, ""); !slices.Equal(got, []string{"web"}) {
		t.Errorf("offered %q, want web", got)
	}
}

// A server that takes the question and never answers holds nobody up.
func TestACompletionDoesNotWaitForASilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	begun := time.Now()
	if got, _ := complete(t, "groups", "--url", "http://"+l.Addr().String(), ""); got != nil {
		t.Errorf("offered %q", got)
	}
	if took := time.Since(begun); took > 20*time.Second { // of a slow machine; without the limit it is --timeout
		t.Errorf("it took %s, want about %s", took, completionDeadline)
	}
}

// TestEveryGroupIsCompleted sees that what a usage line calls GROUP or INSTANCE is
// recognized, for commands to come too.
func TestEveryGroupIsCompleted(t *testing.T) {
	_, all := commands(t)
	known := []string{"GROUP", "INSTANCE", "VM", "NAME", "NAME…", "FILE", "BASE", "DIR", "COUNT", "command"}
	for _, c := range all {
		if cobras(c) {
			continue
		}
		if c.ValidArgsFunction == nil && len(c.ValidArgs) == 0 {
			t.Errorf("%s: its arguments are not completed", name(c))
		}
		for i, word := range regexp.MustCompile(`[A-Z]+…?`).FindAllString(c.Use, -1) {
			if !slices.Contains(known, word) || argumentName(c, i) != word {
				t.Errorf("%s: completeArguments does not know %s (argument %d is %q)", name(c), word, i, argumentName(c, i))
			}
		}
	}
}
