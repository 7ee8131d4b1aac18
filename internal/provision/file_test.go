package provision

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestBadFilesSayWhereAndWhat reads testdata/file/bad-*.yml; the comment lines at the
// end of each are the error, word for word.
func TestBadFilesSayWhereAndWhat(t *testing.T) {
	paths, err := filepath.Glob("testdata/file/bad-*.yml")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			body, _, _ := strings.Cut(string(text), "# error:\n")
			_, err = Parse("p.yml", []byte(body))
			if err == nil {
				t.Fatal("it is taken for good")
			}
			got := body + "# error:\n# " + strings.ReplaceAll(err.Error(), "\n", "\n# ") + "\n"
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(string(text), got); diff != "" {
				t.Errorf("another error (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatAFileLeavesOutHasDefaults(t *testing.T) {
	f, err := Parse("/etc/scalehook/p.yml", []byte(`name: lab
network: {name: n, subnet: {cidr: 10.0.0.0/24}, router: {name: r, external: outside}}
key: {name: k, private_key: keys/k}
server: {name: s, image: i, flavor: f}
floating_ip: {}
snapshot: {}
`))
	if err != nil {
		t.Fatal(err)
	}
	got := []any{f.Owner, f.Network.Subnet.Name, f.Network.Subnet.Gateway.String(), f.Key.PrivateKey, f.Server.BootDeadline, f.FloatingIP.Network, f.Snapshot.Keep, f.Verify.User, f.Verify.Outbound}
	want := []any{"scalehook", "n-subnet", "10.0.0.1", "/etc/scalehook/keys/k", 5 * time.Minute, "outside", 3, "cirros", []string{"1.1.1.1", "8.8.8.8", "google.com"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheExampleIsTheSeedsSetUp(t *testing.T) {
	f, err := Load("../../deploy/examples/provision.yml")
	if err != nil {
		t.Fatal(err)
	}
	if f.Network.Subnet.CIDR.String() != "192.168.100.0/24" || f.Network.Router.External != "external" || f.Server.Image != "cirros" || len(f.SecurityGroup.Rules) != 2 {
		t.Errorf("the example is %+v", f)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(home, ".ssh", "lab-key"); f.Key.PrivateKey != want {
		t.Errorf("the private key is %s, want %s", f.Key.PrivateKey, want)
	}
}

// TestThePageHasEveryKey holds the table of docs/provisioning.md against the types
// that the file is decoded into.
func TestThePageHasEveryKey(t *testing.T) {
	text, err := os.ReadFile("../../docs/provisioning.md")
	if err != nil {
		t.Fatal(err)
	}
	var walk func(reflect.Type, string)
	walk = func(of reflect.Type, at string) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || !strings.HasSuffix(of.PkgPath(), "/provision") {
			return
		}
		for f := range of.Fields() {
			key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
			if key == "" {
				continue
			}
			path := strings.TrimPrefix(at+"."+key, ".")
			if f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct && strings.HasSuffix(f.Type.Elem().PkgPath(), "/provision") {
				path += "[]"
			}
			if !strings.Contains(string(text), "| `"+path+"` |") {
				t.Errorf("docs/provisioning.md has no row for `%s`", path)
			}
			walk(f.Type, path)
		}
	}
	walk(reflect.TypeFor[File](), "")
}
