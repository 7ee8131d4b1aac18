package provision

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"

	"github.com/scalehook/scalehook/internal/schemagen"
)

// TestTheSchemaIsThatOfTheTypes keeps schema.json current.
func TestTheSchemaIsThatOfTheTypes(t *testing.T) {
	s, err := schemagen.Reflect(reflect.TypeFor[File](), schemagen.Options{
		Root: "../..",
		Name: func(t reflect.Type) string {
			name := strings.ToLower(t.Name())
			if name != "" && t.PkgPath() != "" && t.PkgPath() != schemagen.Module+"/internal/provision" {
				return path.Base(t.PkgPath()) + "." + name
			}
			return name
		},
		Map:  func(reflect.Type) *jsonschema.Schema { return nil },
		Text: func(reflect.Type, string) string { return "" },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Title = "A provisioning file of scalehook"
	s.Description = "See docs/provisioning.md. scalehook provision --dry-run also finds what only a look at the cloud shows."
	e := &schemagen.Edit{Schema: s}
	restrict(e)
	if err := errors.Join(e.Errs...); err != nil {
		t.Fatal(err)
	}
	want, err := schemagen.Text(s)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(Schema())); diff != "" {
		t.Errorf("schema.json is out of date: go test ./internal/provision -update (-want +got):\n%s", diff)
	}
}

// restrict says what only the validation of the file knows.
func restrict(e *schemagen.Edit) {
	e.Require("", "name")
	for _, key := range []string{"name", "owner"} {
		e.Key(key).Pattern = `^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$`
	}
	for _, key := range []string{"network", "security_group", "key", "server"} {
		e.Schema.AnyOf = append(e.Schema.AnyOf, &jsonschema.Schema{Required: []string{key}})
	}
	e.Schema.DependentRequired = map[string][]string{"floating_ip": {"server"}, "snapshot": {"server"}, "service": {"security_group"}}
	e.Require("networkspec", "name")
	e.Require("subnetspec", "cidr")
	e.Require("routerspec", "name", "external")
	e.Require("groupspec", "name")
	e.Require("rulespec", "protocol", "from")
	e.Enum("rulespec.protocol", "tcp", "udp", "icmp")
	e.Require("keyspec", "name")
	e.Require("serverspec", "name", "image", "flavor")
	e.Require("servicespec", "port", "balancer")
	e.Range("servicespec.port", "1", "65535")
	e.Key("servicespec.path").Pattern = "^/"
	e.Range("snapshotspec.keep", "0", "")
	e.Enum("cloud.config.interface", "public", "internal", "admin", "publicURL", "internalURL", "adminURL")
	e.Key("cloud.config.endpoints").PropertyNames = &jsonschema.Schema{Enum: []any{"compute", "network", "image", "block-storage", "load-balancer"}}
}

func TestGoodFilesPassTheSchemaAndBadOnesFailUnlessItCannotTell(t *testing.T) {
	cannot := map[string]string{
		"bad-addresses.yml":     "the gateway is compared with the range",
		"bad-ranges.yml":        "the kind of a range is not in its shape",
		"bad-small-ranges.yml":  "the size of a range is not in its shape",
		"bad-two-documents.yml": "a schema is for one document",
	}
	s, err := schemagen.Compile(Schema())
	if err != nil {
		t.Fatal(err)
	}
	good := 0
	for _, pattern := range []string{"testdata/*.yml", "testdata/*/*.yml", "../../deploy/*/provision*.yml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			schema := schemagen.Check(s, text)
			if !strings.Contains(filepath.Base(file), "bad-") {
				if _, err := Parse(file, text); err == nil {
					good++
					if schema != nil {
						t.Errorf("%s: the loader takes it and the schema does not: %v", file, schema)
					}
				}
				continue
			}
			reason := cannot[filepath.Base(file)]
			delete(cannot, filepath.Base(file))
			switch {
			case schema == nil && reason == "":
				t.Errorf("%s passes the schema: say more in restrict, or the reason here", file)
			case schema != nil && reason != "":
				t.Errorf("%s fails in the schema, and should not (%s): %v", file, reason, schema)
			}
		}
	}
	if good < 3 || len(cannot) > 0 {
		t.Errorf("%d good files were found; not found: %v", good, cannot)
	}
}
