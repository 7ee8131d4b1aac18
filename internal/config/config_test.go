package config_test

import (
	"bytes"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
)

var update = flag.Bool("update", false, "rewrite the messages in testdata and the generated part of docs/configuration.md")

func TestBadFilesAreRefusedWithEveryReasonAndItsLine(t *testing.T) {
	files, err := filepath.Glob("testdata/bad-*.yml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, err := config.Load(file)
			if err == nil {
				t.Fatal("it was accepted")
			}
			beside := strings.TrimSuffix(file, ".yml") + ".txt"
			got := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(beside, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(beside)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("message (-want +got):\n%s", diff)
			}
			for line := range strings.Lines(got) {
				if !strings.HasPrefix(line, file+":") {
					t.Errorf("a message without its place: %q", line)
				}
			}
		})
	}
}

func TestGoodFilesAndTheExamplesAreAcceptedAndBuild(t *testing.T) {
	files, err := filepath.Glob("testdata/good-*.yml")
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob("../../deploy/examples/scalehook*.yml")
	if err != nil || len(files) == 0 || len(examples) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range append(files, examples...) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := config.Load(file)
			if err != nil {
				t.Fatal(err)
			}
			r, err := c.Build(t.Context(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			for _, g := range r.Groups {
				if r.Providers[g.Provider] == nil || r.Balancers[g.Name] == nil {
					t.Errorf("group %s has no provider or no balancer", g.Name)
				}
				if slices.Contains(examples, file) && g.Mode != scaling.ModeObserve {
					t.Errorf("group %s of an example starts in mode %s, want observe", g.Name, g.Mode)
				}
			}
		})
	}
}

func load(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse(filepath.Join(t.TempDir(), "scalehook.yml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func build(t *testing.T, c *config.Config) *config.Runtime {
	t.Helper()
	r, err := c.Build(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestDefaultsAndStatedValuesArriveAtTheGroup(t *testing.T) {
	full, err := config.Load("testdata/good-full.yml")
	if err != nil {
		t.Fatal(err)
	}
	r := build(t, full)
	windows := scaling.Windows{Scrape: 5 * time.Second, Evaluation: 5 * time.Second, Rate: 20 * time.Second}
	want := []scaling.Group{
		{
			Name: "db", Mode: scaling.ModeObserve, Min: 1, Max: 2, High: 0.7, Low: 0.2, LeaseTTL: 3 * time.Minute, Cooldown: time.Minute,
			WarmUp: 30 * time.Second, Windows: windows, LaunchDeadline: 5 * time.Minute, DrainDeadline: 2 * time.Minute,
			ShutdownDeadline: time.Minute, CallDeadline: 30 * time.Second, CreationsPerHour: 20, RemovalsPerHour: 20,
			BackoffMin: 10 * time.Second, BackoffMax: 10 * time.Minute, Grace: 5 * time.Minute, MaxUnhealthy: 0.5, Victim: scaling.VictimNewest, OnRemove: scaling.OnRemoveKeep,
			NamePattern: "db-{n}", Provider: "sim", Balancer: "none", Port: 80, Confirm: []string{"prometheus", "alertmanager"},
		},
		{
			Name: "web", Mode: scaling.ModeFull, Min: 1, Max: 3, Surge: 1, High: 0.7, Low: 0.2, LowHold: time.Minute, LeaseTTL: 3 * time.Minute,
			Cooldown: 30 * time.Second, WarmUp: 20 * time.Second, Windows: windows, LaunchDeadline: 3 * time.Minute,
			DrainDeadline: 30 * time.Second, ShutdownDeadline: 20 * time.Second, CallDeadline: 10 * time.Second, CreationsPerHour: 10,
			RemovalsPerHour: 10, BackoffMin: 5 * time.Second, BackoffMax: 5 * time.Minute, Victim: scaling.VictimLeastBusy,
			Grace: 5 * time.Minute, MaxUnhealthy: 0.5, OnRemove: scaling.OnRemoveDelete, NamePattern: "autoscale-{n}", Adopt: []string{"vm-test"}, Provider: "kvm1",
			Balancer: "edge", Port: 8080, Confirm: []string{"prometheus"},
		},
	}
	if diff := cmp.Diff(want, r.Groups, cmpopts.IgnoreFields(scaling.Group{}, "Template", "Pool", "Place")); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
	if r.Meter == nil || len(r.Confirmers) != 2 || r.Confirmers[0].Source() != "prometheus" || r.Confirmers[1].Source() != "alertmanager" {
		t.Errorf("sources: meter %v, confirmers %v", r.Meter, r.Confirmers)
	}
	if len(r.Collectors) != 1 || r.Worlds["sim"] == nil {
		t.Errorf("%d collectors, worlds %v; want those of the simulated provider", len(r.Collectors), r.Worlds)
	}
	dir, _ := filepath.Abs("testdata")
	if r.Tokens[0].File != filepath.Join(dir, "alerts.token") || r.Tokens[1].File != "/etc/scalehook/ops.token" {
		t.Errorf("files of the tokens: %+v; want them relative to the configuration", r.Tokens)
	}
}

const base = `owner: lab
providers: {sim: {simulated: {boot_time: 0s}}, kvm: {libvirt: {}}}
balancers: {edge: {simulated: {provider: sim}}, front: {haproxy: {sockets: [/run/a.sock]}}}
groups:
  web: {max: 3, provider: sim, balancer: edge, template: {vcpus: 2}}
  api: {max: 3, provider: kvm, balancer: front, template: {image: base}, pool: {backend: api}}
`

func TestAReloadKeepsWhatDidNotChange(t *testing.T) {
	first := build(t, load(t, base))
	vm, err := first.Providers["sim"].Create(t.Context(), scaling.LaunchSpec{ID: "id-1", Group: "web", Name: "web-1", Number: 1})
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer("vcpus: 2", "vcpus: 3", "balancer: front, ", "balancer: front, high: 80%, ").Replace(base)
	second, err := first.Reload(t.Context(), load(t, changed))
	if err != nil {
		t.Fatal(err)
	}
	if first.Providers["kvm"] != second.Providers["kvm"] || first.Providers["sim"] != second.Providers["sim"] {
		t.Error("a provider that did not change was opened again")
	}
	if first.Balancers["api"] != second.Balancers["api"] {
		t.Error("a pool that did not change was opened again")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := second.Providers["sim"].Get(t.Context(), scaling.Ref{ID: "id-1"}); err != nil || got.UUID != vm.UUID {
		t.Errorf("after the reload: %+v, %v; want the VM", got, err)
	}
	third, err := second.Reload(t.Context(), load(t, strings.Replace(changed, "backend: api", "backend: api2", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if third.Balancers["api"] == second.Balancers["api"] {
		t.Error("a pool that changed was kept")
	}
	for name, text := range map[string]string{
		"another owner":                strings.Replace(base, "owner: lab", "owner: other", 1),
		"a changed simulated provider": strings.Replace(base, "boot_time: 0s", "boot_time: 9s", 1),
	} {
		if r, err := third.Reload(t.Context(), load(t, text)); err == nil {
			r.Close()
			t.Errorf("%s: the reload was accepted", name)
		}
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCheckSaysWhereAndWhatWouldBeRight(t *testing.T) {
	const text = `owner: lab
prometheus:
  url: http://127.0.0.1:1
tokens:
  - {name: ops, role: operator, file: none.token}
providers:
  kvm1:
    libvirt:
      uri: qemu:///system?socket=/nowhere/libvirt.sock
  kvm2:
    libvirt:
      uri: test:///default
balancers:
  edge:
    haproxy:
      sockets:
        - /nowhere/first.sock
        - address: /nowhere/second.sock
          master_socket: /nowhere/master.sock
groups:
  web:
    max: 3
    provider: kvm2
    template:
      image: base.qcow2
      pool: missing
      network: absent
    pool: {backend: web}
  api:
    max: 3
    provider: kvm2
    template: {image: base.qcow2, pool: default-pool, cloud_init: {}}
    pool: {backend: api}
`
	r := build(t, load(t, text))
	warnings, err := r.Check(t.Context())
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	lines := strings.Split(err.Error(), "\n")
	for _, w := range warnings {
		lines = append(lines, w.Error())
	}
	for _, line := range lines {
		if !regexp.MustCompile(`^/.*/scalehook\.yml:\d+: `).MatchString(line) {
			t.Errorf("without its place: %q", line)
		}
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{
		`yml:3: prometheus.url: .*: does it run, and is this its address`,
		`yml:9: providers.kvm1.libvirt.uri: .*Failed to connect socket to '/nowhere/libvirt.sock'.*: does libvirtd run there .* group`,
		`yml:17: balancers.edge.haproxy.sockets.0: .*group "web".*/nowhere/first.sock: connect: no such file.*: does HAProxy run`,
		`yml:17: balancers.edge.haproxy.sockets.0: .*group "api".*/nowhere/first.sock: connect: no such file.*: does HAProxy run`,
		`yml:19: balancers.edge.haproxy.sockets.1.master_socket: .*/nowhere/master.sock.*or leave master_socket out`,
		`yml:24: groups.web.template: no cloud_init`,
		`yml:26: groups.web.template.pool: .*pool "missing".*virsh pool-list`,
		`yml:27: groups.web.template.network: .*network "absent".*virsh net-list`,
		`yml:32: groups.api.template.image: .*base.qcow2.* in pool "default-pool".*template import`,
	} {
		if !regexp.MustCompile(`(?m)` + want).MatchString(all) {
			t.Errorf("no line like %s in\n%s", want, all)
		}
	}
	if strings.Contains(all, "virError") {
		t.Errorf("libvirt's words are wrapped:\n%s", all)
	}
}

func TestTheSimulatedPoolIsThatOfItsProvider(t *testing.T) {
	r := build(t, load(t, base))
	if _, ok := r.Balancers["web"].(*simulated.Balancer); !ok {
		t.Errorf("the balancer of web is %T", r.Balancers["web"])
	}
	if err := r.Worlds["sim"].SetLoad("web", 1); err != nil {
		t.Error(err)
	}
}

// FuzzParse finds inputs that make the parser panic, or that it refuses without
// saying where.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if bytes.Contains(content, []byte("domain_xml")) || bytes.Contains(content, []byte("user_data")) {
			return // files of this machine are no input
		}
		_, err := config.Parse("f.yml", content)
		if err != nil && !strings.HasPrefix(err.Error(), "f.yml:") {
			t.Errorf("a message without its place: %q", err)
		}
	})
}
