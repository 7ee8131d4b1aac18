package firstboot_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/firstboot"
)

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func data() firstboot.Data {
	return firstboot.Data{
		ID: "00000000-0000-4000-8000-00000000000a", Group: "web", Name: "web-4", Number: 4,
		MAC: "52:54:00:00:00:01", Address: "10.0.0.7",
	}
}

func TestOneInstanceGetsItsHostnameAndUserData(t *testing.T) {
	keys := []string{"ssh-ed25519 AAAA me", "ssh-rsa BBBB you"}
	for name, c := range map[string]struct {
		text     string
		template firstboot.Template
		want     firstboot.Rendered
		kind     firstboot.Kind
	}{
		"without a file, hostname and keys": {
			"",
			firstboot.Template{Keys: keys},
			firstboot.Rendered{Hostname: "web-4", UserData: "#cloud-config\nhostname: \"web-4\"\nssh_authorized_keys:\n  - \"ssh-ed25519 AAAA me\"\n  - \"ssh-rsa BBBB you\"\n"},
			firstboot.CloudConfig,
		},
		"without a file and keys, the hostname": {
			"",
			firstboot.Template{Hostname: "{{.Group}}-{{.Number}}.lan"},
			firstboot.Rendered{Hostname: "web-4.lan", UserData: "#cloud-config\nhostname: \"web-4.lan\"\n"},
			firstboot.CloudConfig,
		},
		"every field in a file": {
			"#!/bin/sh\n# {{.ID}} {{.Group}} {{.Name}} {{.Hostname}} {{.Number}} {{.MAC}} {{.Address}}\n{{range .Keys}}# {{.}} of {{$.Name}}\n{{end}}",
			firstboot.Template{Keys: keys},
			firstboot.Rendered{
				Hostname: "web-4",
				UserData: "#!/bin/sh\n# 00000000-0000-4000-8000-00000000000a web web-4 web-4 4 52:54:00:00:00:01 10.0.0.7\n# ssh-ed25519 AAAA me of web-4\n# ssh-rsa BBBB you of web-4\n",
			},
			firstboot.Script,
		},
		"a gzip file as it is": {
			"\x1f\x8b\x08{{.Nothing",
			firstboot.Template{},
			firstboot.Rendered{Hostname: "web-4", UserData: "\x1f\x8b\x08{{.Nothing"},
			firstboot.Gzip,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.text != "" {
				c.template.File = writeFile(t, "user-data", c.text)
			}
			got, err := c.template.Render(data())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if got.Kind() != c.kind {
				t.Errorf("kind %q, want %q", got.Kind(), c.kind)
			}
			if _, err := c.template.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatIsWrongIsNamedWithItsPlace(t *testing.T) {
	for name, c := range map[string]struct {
		text     string
		template firstboot.Template
		want     []string
	}{
		"a field that is not there":                {"a\n{{.Nothing}}", firstboot.Template{}, []string{"user-data:2:2: ", "can't evaluate field Nothing", "there are .ID .Group .Name"}},
		"a field that only some instances get to":  {"a\n\n{{if .Address}}{{else if eq .Group \"x\"}}{{.Addr}}{{end}}", firstboot.Template{}, []string{"user-data:3:", "field Addr"}},
		"a field that only the untaken branch has": {"{{if .Name}}{{else}}{{range .Keys}}{{$.Nam}}{{end}}{{end}}", firstboot.Template{}, []string{"user-data:1:", "field Nam:"}},
		"a field in a block":                       {"{{define \"x\"}}{{with .Named}}{{end}}{{end}}", firstboot.Template{}, []string{"user-data:1:", "field Named"}},
		"a field behind a function":                {"{{printf \"%s\" (index .Keyz 0)}}", firstboot.Template{}, []string{"user-data:1:", "field Keyz"}},
		"an action that is not closed":             {"a\nb\n{{if .Name}}", firstboot.Template{}, []string{"parse ", "user-data:3: "}},
		"a function that is not there":             {"{{upper .Name}}", firstboot.Template{}, []string{"user-data:1: ", "function \"upper\" not defined"}},
		"a call that fails":                        {"\n{{index .Keys 9}}", firstboot.Template{}, []string{"render ", "user-data:2:", "out of range"}},
		"a file that is not there":                 {"", firstboot.Template{File: "/nowhere"}, []string{"user_data: ", "/nowhere", "no such file"}},
		"a hostname with a space":                  {"", firstboot.Template{Hostname: "a {{.Name}}"}, []string{`hostname "a {{.Name}}" renders to "a sample-1": not a hostname`}},
		"a hostname of itself":                     {"", firstboot.Template{Hostname: "{{.Hostname}}"}, []string{"not a hostname"}},
		"a hostname's field that is not there":     {"", firstboot.Template{Hostname: "{{.Host}}"}, []string{"hostname:1:2: ", "field Host:"}},
		"a key on two lines":                       {"", firstboot.Template{Keys: []string{"ssh-rsa A me", "ssh-rsa A\nB"}}, []string{"keys[1]: not a public SSH key on one line"}},
		"all of it at once":                        {"{{.X}}", firstboot.Template{Keys: []string{"x"}, Hostname: "{{.Y}}"}, []string{"keys[0]", "field X", "field Y"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.text != "" {
				c.template.File = writeFile(t, "user-data", c.text)
			}
			_, err := c.template.Check()
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q", err, want)
				}
			}
			if c.template.File != "" && c.text != "" && !strings.Contains(err.Error(), c.template.File) {
				t.Errorf("%v does not name %s", err, c.template.File)
			}
		})
	}
}
