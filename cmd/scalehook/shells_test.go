package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/scalehook/scalehook/internal/testenv"
)

// shell is where a shell of a user's looks for what the completion command prints,
// below the home folder, and how it is begun.
type shell struct {
	name, script string
	files        map[string]string
	begin        string
	tabs         int // after so many it shows what there is to choose from
}

func shells() []shell {
	return []shell{
		{
			name: "bash", script: ".local/share/bash-completion/completions/scalehook",
			files: map[string]string{".bashrc": ". /usr/share/bash-completion/bash_completion\nPS1='bash> '\n"},
			begin: "exec bash --rcfile ~/.bashrc -i", tabs: 2,
		},
		{
			name: "zsh", script: "zfunc/_scalehook",
			files: map[string]string{".zshrc": "fpath=(~/zfunc $fpath)\nautoload -U compinit\ncompinit -u\nPS1='zsh> '\n"},
			begin: "exec zsh -i", tabs: 1,
		},
		{
			name: "fish", script: ".config/fish/completions/scalehook.fish",
			files: map[string]string{".config/fish/config.fish": "set -g fish_greeting\nfunction fish_prompt; echo -n 'fish> '; end\n"},
			begin: "exec fish -i", tabs: 1,
		},
	}
}

// TestShellsTakeTheirCompletion has each shell parse what is printed for it, and ask
// a live server for the names of groups when somebody presses Tab.
func TestShellsTakeTheirCompletion(t *testing.T) {
	t.Parallel()
	testenv.Need(t, testenv.Program("tmux"), testenv.File("/usr/share/bash-completion/bash_completion", "package bash-completion"))
	w := newWatched(t)
	w.serve(t)
	for _, s := range shells() {
		t.Run(s.name, func(t *testing.T) {
			testenv.Need(t, testenv.Program(s.name))
			home := t.TempDir()
			write := func(name string, text []byte) string {
				t.Helper()
				path := filepath.Join(home, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			var script, errs bytes.Buffer
			if code := execute(t.Context(), []string{"completion", s.name}, func(string) string { return "" }, &script, &errs); code != exitOK {
				t.Fatalf("exit code %d: %s", code, &errs)
			}
			for name, text := range s.files {
				write(name, []byte(text))
			}
			parse := func(path string) ([]byte, error) {
				return exec.CommandContext(t.Context(), testenv.Path(t, s.name), "-n", path).CombinedOutput()
			}
			if out, err := parse(write(s.script, script.Bytes())); err != nil || len(out) > 0 {
				t.Errorf("%s does not parse it: %v\n%s", s.name, err, out)
			}
			if _, err := parse(write("broken", append(script.Bytes(), "\nif ((\n"...))); err == nil {
				t.Errorf("%s parses what is none of its language", s.name)
			}

			p := newPane(t, append(w.env(), "HOME="+home, "ZDOTDIR="+home, "XDG_CONFIG_HOME="+home+"/.config", "XDG_DATA_HOME="+home+"/.local/share", "XDG_CACHE_HOME="+home+"/.cache")...)
			p.run("clear; " + s.begin)
			p.await("a prompt", `^`+s.name+`> *$`)
			p.tmux("send-keys", "-l", "scalehook explain w")
			p.await("what was typed", `^`+s.name+`> scalehook explain w`)
			p.keys("Tab")
			p.await("the name of the group", `^`+s.name+`> scalehook explain web *$`)
			p.keys("Enter")
			p.await("that it is explained", `no signal stands`)
			// Where both may be meant, both are shown, with what is said of them.
			p.keys("C-l")
			p.gone("what was explained", `no signal stands`)
			p.tmux("send-keys", "-l", "scalehook explain ")
			p.await("what was typed", `^`+s.name+`> scalehook explain`)
			for range s.tabs {
				p.keys("Tab")
			}
			p.await("the names of all groups", `\bapi\b`, `\bweb\b`, `scale_out_only`)
		})
	}
}
