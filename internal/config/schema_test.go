package config_test

import (
	"errors"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/invopop/jsonschema"
	orderedmap "github.com/pb33f/ordered-map/v2"
	promconfig "github.com/prometheus/common/config"

	"github.com/scalehook/scalehook/internal/balancer/haproxy"
	"github.com/scalehook/scalehook/internal/balancer/octavia"
	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/provider/libvirt"
	"github.com/scalehook/scalehook/internal/provider/openstack"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/schemagen"
)

// TestTheSchemaIsThatOfTheTypes keeps schema.json current.
func TestTheSchemaIsThatOfTheTypes(t *testing.T) {
	want := generate(t)
	if *update {
		if err := os.WriteFile("schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(config.Schema())); diff != "" {
		t.Errorf("schema.json is out of date: go test ./internal/config -update (-want +got):\n%s", diff)
	}
}

func generate(t *testing.T) []byte {
	t.Helper()
	s, err := schemagen.Reflect(reflect.TypeFor[config.Config](), schemagen.Options{
		Root: "../..", Name: definition, Map: special, Text: explained,
		More: []reflect.Type{
			reflect.TypeFor[libvirt.Template](), reflect.TypeFor[openstack.Template](), reflect.TypeFor[simulated.Template](),
			reflect.TypeFor[haproxy.PoolConfig](), reflect.TypeFor[octavia.PoolConfig](),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Title = "scalehook's configuration file"
	s.Description = "See docs/configuration.md. scalehook check-config also finds what only a comparison of values or a look at the drivers shows."
	e := &schemagen.Edit{Schema: s}
	restrict(e)
	restrictDrivers(e)
	chooseSections(e)
	if err := errors.Join(e.Errs...); err != nil {
		t.Fatal(err)
	}
	text, err := schemagen.Text(s)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// definition names a type: those of this package by their own name, others with
// their package before it.
func definition(t reflect.Type) string {
	name := strings.ToLower(t.Name())
	if t.PkgPath() == "" || name == "" || t.PkgPath() == schemagen.Module+"/internal/config" {
		return name
	}
	if strings.HasPrefix(t.PkgPath(), schemagen.Module) {
		return path.Base(t.PkgPath()) + "." + name
	}
	return "http." + name // the client section of the Prometheus family
}

// special are the types with a decoder of their own, and those of others.
func special(t reflect.Type) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[config.Ratio]():
		return schemagen.Ref("share")
	case reflect.TypeFor[libvirt.Size]():
		return schemagen.Ref("size")
	case reflect.TypeFor[promconfig.URL]():
		return &jsonschema.Schema{Type: "string"}
	case reflect.TypeFor[promconfig.Headers]():
		return &jsonschema.Schema{Type: "object"}
	case reflect.TypeFor[promconfig.TLSVersion]():
		return &jsonschema.Schema{Type: "string", Enum: []any{"TLS10", "TLS11", "TLS12", "TLS13"}}
	}
	if t.PkgPath() == schemagen.Module+"/internal/config" && t.Name() == "section" {
		return &jsonschema.Schema{Type: "object"} // until chooseSections
	}
	return nil
}

// explained is what the reference says of a key whose field has no comment.
func explained(t reflect.Type, key string) string {
	for _, s := range sections() {
		if path.Join(schemagen.Module+"/internal/config", filepath.ToSlash(s.dir)) == t.PkgPath() && s.name == t.Name() {
			return plain()[s.title+" "+key]
		}
	}
	return ""
}

const (
	nameRE   = `^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`
	percents = `^\s*([0-9]{1,2}(\.[0-9]*)?|\.[0-9]+)\s*%\s*$`
	decimals = `^\s*0?\.[0-9]+\s*$`
)

// restrict says what only the validation of the file knows. What it says is held
// against the loader, both ways, by the tests below.
func restrict(e *schemagen.Edit) {
	d := e.Schema.Definitions
	d["share"] = &jsonschema.Schema{
		Description: "A share, written as 70% or 0.7.",
		AnyOf: []*jsonschema.Schema{
			{Type: "string", Pattern: percents},
			{Type: "string", Pattern: decimals},
			{Type: "number", ExclusiveMinimum: "0", ExclusiveMaximum: "1"},
		},
	}
	d["size"] = &jsonschema.Schema{
		Description: "A number of bytes, written as 256MiB, 10GiB or a plain number.",
		AnyOf: []*jsonschema.Schema{
			{Type: "string", Pattern: `^\s*[0-9]+\s*(B|[KMGT]iB|kB|MB|GB|TB)?\s*$`},
			{Type: "integer", Minimum: "0"},
		},
	}
	named := func(key string) { e.Key(key).Pattern = nameRE }
	one := uint64(1)

	e.Require("", "owner", "providers", "balancers", "groups")
	named("owner")
	for _, key := range []string{"providers", "balancers", "groups"} {
		m := e.Key(key)
		m.MinProperties, m.PropertyNames = &one, &jsonschema.Schema{Pattern: nameRE}
	}
	e.Require("token", "name", "role", "file")
	named("token.name")
	e.Enum("token.role", "alerts", "operator")
	e.Require("alertmanager", "url")

	e.Require("group", "max")
	e.Enum("group.mode", "observe", "scale_out_only", "full")
	e.Enum("group.victim", "newest", "oldest", "least_busy")
	e.Enum("group.on_remove", "keep", "delete")
	e.Enum("group.confirm[]", "prometheus", "alertmanager")
	e.Range("group.min", "0", "1000")
	e.Range("group.max", "1", "1000")
	e.Range("group.surge", "0", "")
	e.Range("group.snapshots_keep", "0", "")
	e.Range("group.creations_per_hour", "1", "")
	e.Range("group.removals_per_hour", "1", "")
	e.Range("group.port", "1", "65535")
	e.Key("group.name").Pattern = `^([A-Za-z0-9]|\{n\})([A-Za-z0-9_.-]|\{n\})*$`
	named("group.adopt[]")
	all := e.Key("group.max_unhealthy")
	*all = jsonschema.Schema{Description: all.Description, AnyOf: []*jsonschema.Schema{schemagen.Ref("share"), {Enum: []any{"100%", 1, "1"}}}}
	e.Require("webhook", "name", "url", "secret_file")
	named("webhook.name")
	e.Enum("webhook.kinds[]", words(scaling.ActivityKinds())...)
	e.Enum("webhook.statuses[]", "done", "undone", "failed")
	e.Range("webhook.max_tries", "1", "100")
	e.Require("maintenance", "schedule", "duration")
	e.Enum("maintenance.direction", "in", "out", "both")
}

func words[T ~string](list []T) (out []string) {
	for _, w := range list {
		out = append(out, string(w))
	}
	return out
}

// restrictDrivers does the like for what the drivers check.
func restrictDrivers(e *schemagen.Edit) {
	one := uint64(1)
	e.OneOf("provider")
	e.OneOf("balancer")

	e.Range("libvirt.config.keepalive_count", "1", "")
	e.Range("libvirt.config.max_connections", "2", "")
	e.Require("libvirt.template", "image")
	e.Enum("libvirt.template.domain_type", "auto", "kvm", "qemu")
	e.Enum("libvirt.template.firmware", "bios", "efi")
	e.Enum("libvirt.template.console", "pty", "none")
	e.Enum("libvirt.template.cache", "default", "none", "writethrough", "writeback", "directsync", "unsafe")
	e.Range("libvirt.template.vcpus", "0", "1024")
	e.Enum("libvirt.cloudinit.bus", "virtio", "sata", "scsi", "ide")
	e.Enum("libvirt.address.source", "lease", "agent", "range")

	for _, c := range []string{"openstack.config", "octavia.config"} {
		e.Enum(c+".interface", "public", "internal", "admin", "publicURL", "internalURL", "adminURL")
		services := []any{"compute", "network", "image", "block-storage", "load-balancer"}
		e.Key(c + ".endpoints").PropertyNames = &jsonschema.Schema{Enum: services}
	}
	e.Require("openstack.template", "flavor", "networks")
	e.Object("openstack.template").AnyOf = []*jsonschema.Schema{{Required: []string{"image"}}, {Required: []string{"image_property"}}}
	e.Key("openstack.template.networks").MinItems = &one
	e.Enum("openstack.template.member_address", "fixed", "floating")
	e.Object("openstack.interface").AnyOf = []*jsonschema.Schema{{Required: []string{"network"}}, {Required: []string{"subnet"}}}
	e.Require("openstack.volume", "size_gib")
	e.Range("openstack.volume.size_gib", "1", "")
	e.OrWord("openstack.interface")

	e.Range("simulated.config.capacity", "1", "")
	e.Range("simulated.config.vcpus", "1", "")
	e.Range("simulated.config.boot_burn", "0", "")
	e.Range("simulated.config.idle_burn", "0", "")
	e.Require("simulated.foreignvm", "name")
	e.Key("simulated.foreignvm.name").Pattern = nameRE
	e.Range("simulated.loadstep.vcpus", "0", "")

	e.Require("haproxy.config", "sockets")
	e.Key("haproxy.config.sockets").MinItems = &one
	e.Require("haproxy.socket", "address")
	e.OrWord("haproxy.socket")
	e.Require("haproxy.poolconfig", "backend")
	e.Key("haproxy.poolconfig.backend").Pattern = `^[A-Za-z0-9_.:-]{1,200}$`
	e.Key("haproxy.poolconfig.server_options[]").Pattern = `^[A-Za-z0-9_.:/,-]{1,200}$`
	e.Range("haproxy.check.rise", "0", "1000")
	e.Range("haproxy.check.fall", "0", "1000")
	e.Object("haproxy.fragment").DependentRequired = map[string][]string{"file": {"template"}, "template": {"file"}}

	e.Enum("octavia.poolconfig.protocol", "TCP", "UDP", "HTTP", "HTTPS")
	e.Enum("octavia.poolconfig.algorithm", "ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT")
	e.Range("octavia.poolconfig.weight", "0", "256")
	e.Enum("octavia.monitor.type", "TCP", "HTTP", "HTTPS", "TLS-HELLO", "PING", "UDP-CONNECT", "none")
	e.Range("octavia.monitor.rise", "0", "10")
	e.Range("octavia.monitor.fall", "0", "10")
	e.Object("octavia.poolconfig").AnyOf = []*jsonschema.Schema{{Required: []string{"port"}}, {Required: []string{"pool"}}, {Required: []string{"listener"}}}

	e.Enum("direct.check.type", "tcp", "http")
	e.Require("simulatedbalancer", "provider")

	e.Schema.Definitions["http.headers"] = &jsonschema.Schema{
		Type: "object", AdditionalProperties: &jsonschema.Schema{
			Type: "object", AdditionalProperties: jsonschema.FalseSchema, Properties: headerProperties(),
		},
	}
	*e.Key("http.httpclientconfig.http_headers") = *schemagen.Ref("http.headers")
}

func headerProperties() *orderedmap.OrderedMap[string, *jsonschema.Schema] {
	p := jsonschema.NewProperties()
	for _, key := range []string{"values", "secrets", "files"} {
		p.Set(key, &jsonschema.Schema{Type: "array", Items: schemagen.Word()})
	}
	return p
}

// chooseSections says what a group's template and pool look like: what the driver
// of its provider and balancer takes. Which one that is a schema cannot know where
// there are several kinds; then each of them will do.
func chooseSections(e *schemagen.Edit) {
	nothing := &jsonschema.Schema{Type: "object", AdditionalProperties: jsonschema.FalseSchema, Description: "This driver takes nothing."}
	e.Schema.Definitions["nothing"] = nothing
	for _, c := range []struct {
		places, key string
		of          map[string]string // definitions by driver
		needed      []string
	}{
		{"providers", "template", map[string]string{"libvirt": "libvirt.template", "openstack": "openstack.template", "simulated": "simulated.template"}, []string{"libvirt", "openstack"}},
		{"balancers", "pool", map[string]string{"haproxy": "haproxy.poolconfig", "octavia": "octavia.poolconfig", "direct": "nothing", "simulated": "nothing"}, []string{"haproxy", "octavia"}},
	} {
		one := uint64(1)
		property := e.Key("group." + c.key)
		either := &jsonschema.Schema{Description: property.Description}
		seen := map[string]bool{}
		drivers := e.Object(strings.TrimSuffix(c.places, "s")).Properties
		for p := drivers.Oldest(); p != nil; p = p.Next() {
			def, known := c.of[p.Key]
			if !known {
				e.Errs = append(e.Errs, errors.New("chooseSections does not know what driver "+p.Key+" takes"))
				continue
			}
			if !seen[def] {
				either.AnyOf = append(either.AnyOf, schemagen.Ref(def))
			}
			seen[def] = true
			group := &jsonschema.Schema{Properties: jsonschema.NewProperties()}
			group.Properties.Set(c.key, schemagen.Ref(def))
			if slices.Contains(c.needed, p.Key) {
				group.Required = []string{c.key}
			}
			when := &jsonschema.Schema{Required: []string{c.places}, Properties: jsonschema.NewProperties()}
			when.Properties.Set(c.places, &jsonschema.Schema{MinProperties: &one, AdditionalProperties: &jsonschema.Schema{Required: []string{p.Key}}})
			then := &jsonschema.Schema{Properties: jsonschema.NewProperties()}
			then.Properties.Set("groups", &jsonschema.Schema{AdditionalProperties: group})
			e.Schema.AllOf = append(e.Schema.AllOf, &jsonschema.Schema{If: when, Then: then})
		}
		*property = *either
	}
}
