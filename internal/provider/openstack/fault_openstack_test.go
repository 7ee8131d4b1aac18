//go:build openstack

package openstack_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"

	"github.com/scalehook/scalehook/e2e/openstack/lab"
	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/provider/openstack"
	"github.com/scalehook/scalehook/internal/scaling"
)

// wantError checks class and words of an error.
func wantError(t *testing.T, what string, err error, class scaling.Class, says string) {
	t.Helper()
	if err == nil {
		t.Errorf("%s succeeded, want %s", what, class)
		return
	}
	if scaling.ClassOf(err) != class || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v (%s); want %s and %q", what, err, scaling.ClassOf(err), class, says)
	}
}

// TestFaults provokes what goes wrong at a real cloud.
func TestFaults(t *testing.T) {
	s := startSite(t, "prvfault")
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s *site)
	}{
		{"a wrong password", faultPassword},
		{"a token that was revoked is renewed", faultToken},
		{"names that are wrong are told with those that come near", faultNames},
		{"a cloud or region that there is not", faultRegion},
		{"a server that cannot be built", faultError},
		{"a build that takes longer than the call", faultSlow},
		{"an endpoint that hangs", faultHang},
		{"the answer to the making call is lost", faultLost},
		{"a quota", faultQuota},
		{"a public address that is used elsewhere", faultPublic},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.run(t, s)
			if left := s.left(t); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

// all calls every method with an instance that was never made.
func all(t *testing.T, p *openstack.Provider, owner string, check func(what string, err error)) {
	t.Helper()
	spec := scaling.LaunchSpec{ID: newID(9), Group: "web", Name: owner + "-9", Number: 9}
	ref := scaling.Ref{ID: spec.ID, Group: spec.Group, Name: spec.Name}
	_, err := p.Create(step(t), spec)
	check("Create", err)
	_, err = p.Get(step(t), ref)
	check("Get", err)
	_, err = p.List(step(t))
	check("List", err)
	check("Delete", p.Delete(step(t), ref))
	check("Shutdown", p.Shutdown(step(t), ref, true))
	check("Release", p.Release(step(t), ref))
	_, err = p.Adopt(step(t), spec)
	check("Adopt", err)
}

func faultPassword(t *testing.T, s *site) {
	text, err := os.ReadFile(s.CloudsFile())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(string(text), lab.Password, "wrong")), 0o600); err != nil {
		t.Fatal(err)
	}
	p := s.provider(t, openstack.Config{Config: cloud.Config{Cloud: lab.Member, CloudsFile: file}})
	all(t, p, s.owner, func(what string, err error) {
		wantError(t, what, err, scaling.Permanent, "user name, password, project or credential is wrong")
		if strings.Contains(fmt.Sprint(err), `"wrong"`) {
			t.Errorf("%s shows the password: %v", what, err)
		}
	})
}

// faultToken revokes a token before any service but Keystone has seen it: they
// remember for minutes that one was good.
func faultToken(t *testing.T, s *site) {
	c, err := cloud.Open(s.cloud.Config, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	nova, err := c.Compute(step(t))
	if err != nil {
		t.Fatal(err)
	}
	token := nova.Token()
	keystone := &gophercloud.ServiceClient{ProviderClient: nova.ProviderClient, Endpoint: lab.AuthURL + "/"}
	if err := tokens.Revoke(step(t), keystone, token).Err; err != nil {
		t.Fatal(err)
	}
	if _, err := c.ServersCalled(step(t), "nobody"); err != nil {
		t.Error(err)
	}
	if nova.Token() == token {
		t.Error("the token was not renewed: nothing is shown")
	}
}

func faultNames(t *testing.T, s *site) {
	for _, c := range []struct {
		name   string
		change func(*openstack.Template)
		says   string
	}{
		{"image", func(t *openstack.Template) { t.Image = "lab-gest" }, `image "lab-gest" does not exist; did you mean "lab-guest"?`},
		{"image property", func(t *openstack.Template) { t.ImageProperty = map[string]string{"os_distro": "nothing"} }, `image "lab-guest os_distro=nothing" does not exist`},
		{"flavor", func(t *openstack.Template) { t.Flavor = "m1.nanno" }, `flavor "m1.nanno" does not exist; did you mean "m1.nano"?`},
		{"network", func(t *openstack.Template) { t.Networks[0].Network = "prvfault-nett" }, `network "prvfault-nett" does not exist; did you mean "prvfault-net"?`},
		{"subnet", func(t *openstack.Template) { t.Networks[0].Subnet = "prvfault-subnett" }, `did you mean "prvfault-subnet"?`},
		{"security group", func(t *openstack.Template) { t.SecurityGroups = []string{"defaultt"} }, `security group "defaultt" does not exist; did you mean "default"?`},
		{"key pair", func(t *openstack.Template) { t.KeyPair = "prvfault-key" }, `key pair "prvfault-key" does not exist`},
		{"server group", func(t *openstack.Template) { t.ServerGroup = "prvfault-group" }, `server group "prvfault-group" does not exist`},
		{"external network", func(t *openstack.Template) {
			t.MemberAddress, t.FloatingNetwork = openstack.MemberFloating, "pubic"
		}, `external network "pubic" does not exist; did you mean "public"?`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := s.provider(t, s.cloud, c.change)
			_, _, err := s.create(t, p, 3)
			wantError(t, "Create", err, scaling.Permanent, c.says)
			_, err = p.Check(step(t))
			wantError(t, "Check", err, scaling.ClassOf(err), c.says)
		})
	}
	if warnings, err := s.p.Check(step(t)); err != nil || len(warnings) != 0 {
		t.Errorf("Check() = %q, %v; want nothing", warnings, err)
	}
}

func faultRegion(t *testing.T, s *site) {
	cfg := s.cloud
	cfg.Region = "RegionTwo"
	p := s.provider(t, cfg)
	all(t, p, s.owner, func(what string, err error) { wantError(t, what, err, scaling.Permanent, `did you mean "RegionOne"?`) })
	cfg = s.cloud
	cfg.Cloud = "labb"
	_, err := openstack.New(cfg, s.owner, nil, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), `cloud "labb" does not exist; did you mean "lab"`) {
		t.Error(err)
	}
}

func faultError(t *testing.T, s *site) {
	for _, order := range []string{"abort", "fail"} {
		p := s.provider(t, s.cloud, func(t *openstack.Template) { t.Metadata["lab_spawn"] = order })
		_, ref, err := s.create(t, p, 4)
		wantError(t, "Create of what Nova cannot build ("+order+")", err, scaling.Permanent, "is in ERROR: ")
		t.Log(err)
		vm, err := p.Get(step(t), ref)
		if err != nil || vm.Power != scaling.PowerCrashed {
			t.Errorf("Get: %+v, %v; want it crashed", vm, err)
		}
		if found, err := p.List(step(t)); err != nil || len(found) != 1 || found[0].Power != scaling.PowerCrashed {
			t.Errorf("List: %+v, %v; want it crashed", found, err)
		}
		if err := p.Delete(step(t), ref); err != nil {
			t.Error(err)
		}
	}
	// No room is the same class as an exceeded quota, and only Nova's words tell which.
	huge := s.owner + "-huge"
	s.OpenStack(t, lab.Admin, "flavor", "create", "--ram", "128", "--disk", "5000000", "--vcpus", "1", huge)
	t.Cleanup(func() { s.Client(context.WithoutCancel(t.Context()), lab.Admin, "flavor", "delete", huge) })
	p := s.provider(t, s.cloud, func(t *openstack.Template) { t.Flavor = huge })
	_, ref, err := s.create(t, p, 5)
	wantError(t, "Create of what no host has room for", err, scaling.Quota, "is in ERROR: No valid host was found")
	if strings.Contains(strings.ToLower(fmt.Sprint(err)), "quota") {
		t.Errorf("no room reads like a quota: %v", err)
	}
	if err := p.Delete(step(t), ref); err != nil {
		t.Error(err)
	}
	// To name a host is an administrator's right: refused at once, and no later launch helps.
	p = s.provider(t, s.cloud, func(t *openstack.Template) { t.AvailabilityZone = "nova:nowhere" })
	_, ref, err = s.create(t, p, 5)
	wantError(t, "Create at a host by its name", err, scaling.Permanent, "forced_host")
	if err := p.Delete(step(t), ref); err != nil {
		t.Error(err)
	}
}

func faultSlow(t *testing.T, s *site) {
	p := s.provider(t, s.cloud, func(t *openstack.Template) { t.Metadata["lab_boot"] = "40" })
	spec := scaling.LaunchSpec{ID: newID(6), Group: "web", Name: s.owner + "-6", Number: 6}
	ref := scaling.Ref{ID: spec.ID, Group: spec.Group, Name: spec.Name}
	t.Cleanup(func() { s.log(p.Delete(step(t), ref)) })
	soon, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	if _, err := p.Create(soon, spec); scaling.ClassOf(err) != scaling.Temporary && scaling.ClassOf(err) != scaling.Unknown {
		t.Errorf("Create whose time is up: %v (%s)", err, scaling.ClassOf(err))
	}
	vm, err := p.Create(step(t), spec)
	if err != nil || vm.Power != scaling.PowerRunning {
		t.Fatalf("Create again: %+v, %v", vm, err)
	}
	if found, err := p.List(step(t)); err != nil || len(found) != 1 {
		t.Errorf("List: %+v, %v", found, err)
	}

	// One that is still being built is deleted with all that it has.
	other := scaling.LaunchSpec{ID: newID(7), Group: "web", Name: s.owner + "-7", Number: 7}
	soon, cancel = context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	_, err = p.Create(soon, other)
	t.Log(err)
	otherRef := scaling.Ref{ID: other.ID, Group: other.Group, Name: other.Name}
	if err := p.Delete(step(t), otherRef); err != nil {
		t.Error(err)
	}
	if _, err := p.Get(step(t), otherRef); !scaling.IsNotFound(err) {
		t.Errorf("Get of what was deleted while it was built: %v", err)
	}
	if err := p.Delete(step(t), ref); err != nil {
		t.Error(err)
	}
}

// silent accepts connections and never answers.
func silent(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
		}
	})
	t.Cleanup(func() { listener.Close(); wait.Wait() })
	return "http://" + listener.Addr().String()
}

func faultHang(t *testing.T, s *site) {
	for _, service := range []string{cloud.Compute, cloud.Network} {
		cfg := s.cloud
		cfg.Endpoints = map[string]string{service: silent(t)}
		p := s.provider(t, cfg, func(t *openstack.Template) { t.MemberAddress = openstack.MemberFloating })
		spec := scaling.LaunchSpec{ID: newID(8), Group: "web", Name: s.owner + "-8", Number: 8}
		ref := scaling.Ref{ID: spec.ID, Group: spec.Group, Name: spec.Name}
		for what, call := range map[string]func(context.Context) error{
			"Create": func(ctx context.Context) error { _, err := p.Create(ctx, spec); return err },
			"Delete": func(ctx context.Context) error { return p.Delete(ctx, ref) },
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			begun := time.Now()
			err := call(ctx)
			cancel()
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("%s with %s hanging took %v", what, service, took)
			}
			wantError(t, what+" with "+service+" hanging", err, scaling.Temporary, "")
		}
		if service == cloud.Compute {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := p.List(ctx)
			cancel()
			wantError(t, "List", err, scaling.Temporary, "no whole answer")
		}
	}
}

// faultLost makes a server through a proxy that swallows the answer.
func faultLost(t *testing.T, s *site) {
	nova, err := s.raw.Compute(step(t))
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(nova.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: target.Scheme, Host: target.Host})
	swallow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/servers") {
			forward.ServeHTTP(httptest.NewRecorder(), r.WithContext(context.WithoutCancel(r.Context())))
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	}))
	t.Cleanup(swallow.Close)
	cfg := s.cloud
	cfg.Endpoints = map[string]string{cloud.Compute: swallow.URL + target.Path}
	p := s.provider(t, cfg)
	_, ref, err := s.create(t, p, 10)
	wantError(t, "Create whose answer is lost", err, scaling.Unknown, "no whole answer")
	vm, err := s.p.Create(step(t), scaling.LaunchSpec{ID: ref.ID, Group: ref.Group, Name: ref.Name, Number: 10})
	if err != nil || vm.Power != scaling.PowerRunning {
		t.Fatalf("Create again: %+v, %v", vm, err)
	}
	var rows []any
	s.client(t, &rows, "server", "list", "--name", ref.Name)
	if len(rows) != 1 {
		t.Errorf("the openstack command sees %d servers, want 1: %v", len(rows), rows)
	}
	if err := s.p.Delete(step(t), ref); err != nil {
		t.Error(err)
	}
}

// faultQuota uses a project of its own, which may have one server.
func faultQuota(t *testing.T, s *site) {
	project := "prvquota"
	s.OpenStack(t, lab.Admin, "project", "create", project)
	t.Cleanup(func() { s.Client(context.WithoutCancel(t.Context()), lab.Admin, "project", "delete", project) })
	s.OpenStack(t, lab.Admin, "role", "add", "--project", project, "--user", "demo", "member")
	s.OpenStack(t, lab.Admin, "quota", "set", "--instances", "1", "--floating-ips", "1", project)
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	text := fmt.Sprintf("clouds:\n  q:\n    region_name: %s\n    auth: {auth_url: %q, username: demo, password: %s, project_name: %s}\n", lab.Region, lab.AuthURL, lab.Password, project)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("in use", func(t *testing.T) {
		q := settle(t, s.Cloud, openstack.Config{Config: cloud.Config{Cloud: "q", CloudsFile: file}}, project, func(t *openstack.Template) { t.MemberAddress = openstack.MemberFloating })
		_, first, err := q.create(t, q.p, 1)
		if err != nil {
			t.Fatal(err)
		}
		if warnings, err := q.p.Check(step(t)); err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "uses 1 of 1 instances") {
			t.Errorf("Check() = %q, %v", warnings, err)
		}
		_, second, err := q.create(t, q.p, 2)
		wantError(t, "Create past the quota of floating IPs", err, scaling.Quota, "floatingip")
		fixed := q.provider(t, q.cloud)
		_, err = fixed.Create(step(t), scaling.LaunchSpec{ID: second.ID, Group: "web", Name: second.Name, Number: 2})
		wantError(t, "Create past the quota of instances", err, scaling.Quota, "Quota exceeded")
		for _, ref := range []scaling.Ref{second, first} {
			if err := q.p.Delete(step(t), ref); err != nil {
				t.Error(err)
			}
		}
		if left := q.left(t); len(left) != 0 {
			t.Errorf("left behind: %q", left)
		}
	})
}

func faultPublic(t *testing.T, s *site) {
	uuid := s.makeServer(t, s.owner+"-other", nil)
	var ip struct {
		ID      string `json:"id"`
		Address string `json:"floating_ip_address"`
	}
	var nics []struct {
		ID string `json:"ID"`
	}
	s.client(t, &nics, "port", "list", "--server", uuid)
	s.client(t, &ip, "floating", "ip", "create", "--port", nics[0].ID, lab.External)
	t.Cleanup(func() { s.OpenStack(t, lab.Member, "floating", "ip", "delete", ip.ID) })
	p := s.provider(t, s.cloud, func(t *openstack.Template) { t.PublicAddress = &openstack.PublicAddress{Address: ip.Address} })
	vm, ref, err := s.create(t, p, 11)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "MoveAddress of an address in use", p.MoveAddress(step(t), ref), scaling.Conflict, "prvfault-other")
	at, err := p.Address(step(t), "web")
	if err != nil || at.UUID != uuid || at.Addr.String() != ip.Address {
		t.Errorf("Address() = %+v, %v; want it where it was", at, err)
	}
	s.OpenStack(t, lab.Member, "floating", "ip", "unset", "--port", ip.ID)
	if err := p.MoveAddress(step(t), ref); err != nil {
		t.Error(err)
	}
	if at, err := p.Address(step(t), "web"); err != nil || at.UUID != vm.UUID {
		t.Errorf("Address() = %+v, %v; want it to lead to %s", at, err, vm.UUID)
	}
	if err := p.Delete(step(t), ref); err != nil {
		t.Error(err)
	}
	if at, err := p.Address(step(t), "web"); err != nil || at.UUID != "" {
		t.Errorf("Address() = %+v, %v; want it to be kept and lead nowhere", at, err)
	}
}
