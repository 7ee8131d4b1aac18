package merge_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/deploy"
	"github.com/scalehook/scalehook/internal/merge"
	"github.com/scalehook/scalehook/internal/testenv"
)

func example(t *testing.T, kind string) []byte {
	t.Helper()
	text, err := deploy.Example(kind)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func into(t *testing.T, kind, file, text string) merge.Merge {
	t.Helper()
	m, err := merge.Into(kind, file, []byte(text), example(t, kind))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const socket = `	# scalehook runs with the group haproxy and works over this socket.
	stats socket /run/haproxy/scalehook.sock mode 660 level admin group haproxy
`

func TestWhatIsAdded(t *testing.T) {
	scalehook := `  - job_name: scalehook
    scrape_interval: 15s
    honor_labels: true # scalehook's label scaling_group must arrive as it is
    static_configs:
      - targets: ['127.0.0.1:10070']
`
	exporter := `  - job_name: scalehook-exporter # one target for each hypervisor
    scrape_interval: 15s
    static_configs:
      - targets: ['127.0.0.1:10071']
`
	rules := "  - /etc/prometheus/rules.d/scalehook.rules.yml\n"
	_, sections, _ := strings.Cut(string(example(t, "haproxy")), "\n\nfrontend ")
	for name, c := range map[string]struct{ kind, text, want string }{
		"a key without a value gets the entries below it": {
			"prometheus", "rule_files:\n  # - mine\nscrape_configs:\n  # mine\n  - job_name: a\n",
			"rule_files:\n" + rules + "  # - mine\nscrape_configs:\n" + scalehook + exporter + "  # mine\n  - job_name: a\n",
		},
		"a list that stands as deep as its key stays so": {
			"prometheus", "rule_files:\n- mine\nscrape_configs:\n- job_name: a\n",
			"rule_files:\n" + strings.TrimPrefix(rules, "  ") + "- mine\nscrape_configs:\n" +
				strings.TrimPrefix(strings.ReplaceAll(scalehook+exporter, "\n  ", "\n"), "  ") + "- job_name: a\n",
		},
		"keys that are not there come at the end": {
			"prometheus", "global: {}\n", "global: {}\nrule_files:\n" + rules + "scrape_configs:\n" + scalehook + exporter,
		},
		"what ends the document stays behind them": {
			"prometheus", "%YAML 1.1\n---\n# mine\nglobal: {}\n... # the end\n\n# not read\n",
			"%YAML 1.1\n---\n# mine\nglobal: {}\nrule_files:\n" + rules + "scrape_configs:\n" + scalehook + exporter + "... # the end\n\n# not read\n",
		},
		"dots that end no document do not count": {
			"prometheus", "global:\n  external_labels:\n    a: |\n     ...\n     ---\n....: {}\n",
			"global:\n  external_labels:\n    a: |\n     ...\n     ---\n....: {}\nrule_files:\n" + rules + "scrape_configs:\n" + scalehook + exporter,
		},
		"lines end as those of the file do, in YAML": {
			"prometheus", "global: {}\r\nscrape_configs:\r\n  - job_name: a\r\n...\r\n",
			strings.ReplaceAll("global: {}\nscrape_configs:\n"+scalehook+exporter+"  - job_name: a\nrule_files:\n"+rules+"...\n", "\n", "\r\n"),
		},
		"lines end as those of the file do, in HAProxy's": {
			"haproxy", "global\r\n\tdaemon\r\n",
			strings.ReplaceAll("global\n"+socket+"\tdaemon\n\nfrontend "+strings.ReplaceAll(sections,
				"# The pool of the group \"web\". Servers that you write here yourself stay yours.\n", ""), "\n", "\r\n"),
		},
		"an empty file is all of it": {
			"prometheus", "", "rule_files:\n" + rules + "scrape_configs:\n" + scalehook + exporter,
		},
		"a pattern that finds the rules is left as it is": {
			"prometheus", "rule_files: \n  - rules.d/*.yml\nscrape_configs:\n  - job_name: scalehook\n",
			"rule_files: \n  - rules.d/*.yml\nscrape_configs:\n" + exporter + "  - job_name: scalehook\n",
		},
		"with the backend there, HAProxy needs the socket alone, indented as its neighbours": {
			"haproxy", "global\n\tdaemon\n\tstats socket /a\n\tuser x\nbackend web\n\tserver a 192.0.2.1:80\n",
			"global\n\tdaemon\n\tstats socket /a\n" + socket + "\tuser x\nbackend web\n\tserver a 192.0.2.1:80\n",
		},
		"without the backend the frontend and it follow": {
			"haproxy", "global\n    daemon\n",
			"global\n" + strings.ReplaceAll(socket, "\t", "    ") + "    daemon\n\nfrontend " + strings.ReplaceAll(sections,
				"# The pool of the group \"web\". Servers that you write here yourself stay yours.\n", ""),
		},
		"a socket that is there is not opened twice": {
			"haproxy", "global\n    stats socket /run/haproxy/scalehook.sock mode 600\nbackend web\n",
			"global\n    stats socket /run/haproxy/scalehook.sock mode 600\nbackend web\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := into(t, c.kind, "/etc/prometheus/prometheus.yml", c.text)
			got := string(m.Apply([]byte(c.text)))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again := into(t, c.kind, "/etc/prometheus/prometheus.yml", got); len(again.Insertions) > 0 {
				t.Errorf("a second time adds %v", again.Insertions)
			}
		})
	}
}

func TestRoutesComeFirst(t *testing.T) {
	for name, text := range map[string]string{
		"before routes that are there": "route:\n  receiver: mail\n  routes:\n  - receiver: mail\nreceivers:\n- name: mail\n",
		"where there are none":         "route:\n  receiver: mail\nreceivers:\n- name: mail\n",
	} {
		t.Run(name, func(t *testing.T) {
			got := string(into(t, "alertmanager", "a.yml", text).Apply([]byte(text)))
			for _, part := range []string{"routes:\n", "scalehook_signal=~", "scalehook_heartbeat", "receivers:\n- name: scalehook\n", "- name: mail"} {
				_, after, found := strings.Cut(got, part)
				if !found {
					t.Fatalf("no %q in its place in\n%s", part, got)
				}
				_ = after
			}
			if first, mine := strings.Index(got, "scalehook_signal"), strings.Index(got, "- receiver: mail"); mine > 0 && first > mine {
				t.Errorf("scalehook's route is not the first:\n%s", got)
			}
		})
	}
}

func TestWhatCannotBeMergedIsSaidWithItsLine(t *testing.T) {
	for name, c := range map[string]struct{ kind, text, want string }{
		"a list on one line":            {"prometheus", "global: {}\nrule_files: [a]\n", "f: line 2: rule_files: it is written on one line"},
		"an empty list on one line":     {"prometheus", "rule_files: []\n", "f: line 1: rule_files: it is written on one line"},
		"a mapping on one line":         {"alertmanager", "route: {receiver: a}\n", "f: line 1: route: it is written on one line"},
		"no YAML":                       {"prometheus", "a: [\n", "f: read it: yaml: line"},
		"a list at the top":             {"prometheus", "- a\n", "f: line 1: want keys with values"},
		"a second document":             {"prometheus", "global: {}\n---\nrule_files:\n", "f: line 2: a second YAML document begins here"},
		"a second one after the end":    {"alertmanager", "---\nglobal: {}\n...\n# more\nroute:\n", "f: line 5: a second YAML document begins here"},
		"one that begins twice":         {"prometheus", "---\n--- \nglobal: {}\n", "f: line 2: a second YAML document begins here"},
		"a last line without an end":    {"haproxy", "global", "f: its last line has no end"},
		"an example that is whole file": {"kvm", "", `example "kvm" goes into no file that is there already: only alertmanager, haproxy, prometheus do`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := merge.Into(c.kind, "f", []byte(c.text), example(t, c.kind))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

// The configurations that Debian brings along: patch(1) puts the additions in and
// takes them out again to the byte, and the programs take what comes out.
func TestThePatchGoesInAndOut(t *testing.T) {
	testenv.Need(t, testenv.Program("patch"), testenv.Program("promtool"), testenv.Program("amtool"))
	for _, c := range []struct{ kind, file, ends string }{
		{"prometheus", "prometheus.yml", "\n"},
		{"prometheus", "prometheus.yml", "\r\n"},
		{"alertmanager", "alertmanager.yml", "\n"},
		{"haproxy", "haproxy.cfg", "\n"},
		{"haproxy", "haproxy.cfg", "\r\n"},
	} {
		kind, file := c.kind, c.file
		t.Run(fmt.Sprintf("%s with lines that end with %q", kind, c.ends), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", file))
			if err != nil {
				t.Fatal(err)
			}
			text = bytes.ReplaceAll(text, []byte("\n"), []byte(c.ends))
			m := into(t, kind, file, string(text))
			dir := t.TempDir()
			path, patch := filepath.Join(dir, file), filepath.Join(dir, "patch")
			for name, content := range map[string]string{path: string(text), patch: m.Patch(path, text)} {
				if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			run := func(args ...string) {
				t.Helper()
				if out, err := exec.CommandContext(t.Context(), testenv.Path(t, args[0]), args[1:]...).CombinedOutput(); err != nil || strings.Contains(string(out), "fuzz") || strings.Contains(string(out), "offset") {
					t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
				}
			}
			is := func(want []byte) {
				t.Helper()
				got, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), string(got)); diff != "" {
					t.Fatalf("(-want +got):\n%s", diff)
				}
			}
			run("patch", path, patch)
			is(m.Apply(text))
			switch kind {
			case "prometheus":
				run("promtool", "check", "config", "--syntax-only", path)
			case "alertmanager":
				run("amtool", "check-config", path)
			}
			run("patch", "-R", path, patch)
			is(text)
		})
	}
}

func TestAPatchOfNothingIsEmpty(t *testing.T) {
	if got := (merge.Merge{}).Patch("f", []byte("a\n")); got != "" {
		t.Errorf("got %q", got)
	}
}
