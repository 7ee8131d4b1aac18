package simulated_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/scaling/scalingtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("SIMULATED_TEST_DIR"); dir != "" {
		createUntilKilled(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

func world(t *testing.T, cfg simulated.Config) *simulated.World {
	t.Helper()
	w, err := simulated.NewWorld(cfg, simulated.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestConformance(t *testing.T) {
	scalingtest.Provider(t, func(t *testing.T) scalingtest.ProviderUnderTest {
		cfg := simulated.DefaultConfig()
		cfg.BootTime, cfg.ShutdownTime = 40*time.Millisecond, 20*time.Millisecond
		w := world(t, cfg)
		return scalingtest.ProviderUnderTest{
			Provider: w.Provider("lab", map[string]simulated.Template{"web": {PublicAddress: netip.MustParseAddr("203.0.113.7")}}), Group: "web", Prefix: "vm", BootLimit: 10 * time.Second, StopLimit: 10 * time.Second,
			Foreign: func(t *testing.T, name string) string {
				uuid, err := w.AddVM(name, 1)
				if err != nil {
					t.Fatal(err)
				}
				return uuid
			},
			Snapshots: func(*testing.T) []string { return w.Snapshots("web") },
			Intact: func(t *testing.T, name string) error {
				other := w.Provider("nobody", nil)
				// A VM without a mark can be adopted by anybody, one with a mark cannot.
				vm, err := other.Adopt(t.Context(), scaling.LaunchSpec{ID: "probe", Name: name})
				if err != nil {
					return err
				}
				if vm.Power != scaling.PowerRunning {
					return fmt.Errorf("it is %s", vm.Power)
				}
				return other.Release(t.Context(), scaling.Ref{ID: "probe"})
			},
			CopyMark: func(t *testing.T, ref scaling.Ref, name string) string {
				uuid, err := w.CloneVM(name, ref.Name)
				if err != nil {
					t.Fatal(err)
				}
				return uuid
			},
			Leftovers: func(*testing.T) []string { return w.Leftovers() },
		}
	})
}

// backend is a VM as what a member points to.
type backend struct {
	t    *testing.T
	w    *simulated.World
	name string
	addr netip.AddrPort
}

func (b backend) Addr() netip.AddrPort { return b.addr }

func (b backend) SetHealthy(healthy bool) {
	power := scaling.PowerCrashed
	if healthy {
		power = scaling.PowerRunning
	}
	if err := b.w.SetPower(b.name, power); err != nil {
		b.t.Error(err)
	}
}

func TestBalancerConformance(t *testing.T) {
	scalingtest.Balancer(t, func(t *testing.T) scalingtest.BalancerUnderTest {
		cfg := simulated.DefaultConfig()
		cfg.BootTime, cfg.DrainTime = 0, 20*time.Millisecond
		w := world(t, cfg)
		if err := w.AddMember("web", "theirs", netip.MustParseAddrPort("198.51.100.1:80")); err != nil {
			t.Fatal(err)
		}
		n := 0
		return scalingtest.BalancerUnderTest{
			Balancer: w.Pool("web"), Group: "web", Foreign: "theirs",
			Backend: func(t *testing.T) scalingtest.Backend {
				n++
				name := fmt.Sprintf("backend-%d", n)
				must[string](t)(w.AddVM(name, 1))
				vm := must[scaling.VM](t)(w.Provider("probe", nil).Adopt(t.Context(), scaling.LaunchSpec{ID: name, Name: name}))
				return backend{t: t, w: w, name: name, addr: netip.AddrPortFrom(vm.Addresses[0], 80)}
			},
		}
	})
}

func spec(n int) scaling.LaunchSpec {
	return scaling.LaunchSpec{ID: fmt.Sprintf("id-%d", n), Group: "web", Name: fmt.Sprintf("web-%d", n), Number: n}
}

func ref(n int) scaling.Ref {
	return scaling.Ref{ID: fmt.Sprintf("id-%d", n), Group: "web", Name: fmt.Sprintf("web-%d", n)}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestLoadIsSharedByReadyMembersAndBootingBurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := simulated.DefaultConfig()
		cfg.BootTime, cfg.IdleBurn = 10*time.Second, 0
		cfg.Load = map[string][]simulated.LoadStep{"web": {{After: 0, VCPUs: 0.6}, {After: 40 * time.Second, VCPUs: 3}}}
		w := world(t, cfg)
		p := w.Provider("lab", nil)
		pool := w.Pool("web")
		var members []scaling.Member
		for n := 1; n <= 2; n++ {
			must[scaling.VM](t)(p.Create(t.Context(), spec(n)))
		}
		time.Sleep(10 * time.Second) // both burnt a vCPU while they booted
		for n := 1; n <= 2; n++ {
			vm := must[scaling.VM](t)(p.Get(t.Context(), ref(n)))
			members = append(members, scaling.Member{ID: vm.ID, Addr: netip.AddrPortFrom(vm.Addresses[0], 80), State: scaling.MemberReady})
		}
		members[1].State = scaling.MemberJoining
		if err := pool.Apply(t.Context(), scaling.Pool{Group: "web", Members: members}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // 0.6 on the first alone
		members[1].State = scaling.MemberReady
		if err := pool.Apply(t.Context(), scaling.Pool{Group: "web", Members: members}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(30 * time.Second) // 20 s of 0.3 each, then 10 s of what one vCPU can
		want := `
# HELP libvirt_domain_cpu_time_seconds_total CPU time used by a running domain (simulated).
# TYPE libvirt_domain_cpu_time_seconds_total counter
libvirt_domain_cpu_time_seconds_total{domain="web-1",uuid="UUID1"} 32
libvirt_domain_cpu_time_seconds_total{domain="web-2",uuid="UUID2"} 26
`
		for n := 1; n <= 2; n++ {
			vm := must[scaling.VM](t)(p.Get(t.Context(), ref(n)))
			want = strings.ReplaceAll(want, fmt.Sprintf("UUID%d", n), vm.UUID)
		}
		if err := testutil.CollectAndCompare(w.Collector(), strings.NewReader(want), "libvirt_domain_cpu_time_seconds_total"); err != nil {
			t.Error(err)
		}
	})
}

func TestAVMThatDoesNotRunHasNoCPUTimeButAState(t *testing.T) {
	w := world(t, simulated.DefaultConfig())
	uuid := must[string](t)(w.AddVM("idle", 2))
	for power, state := range map[scaling.Power]string{
		scaling.PowerPaused: "paused", scaling.PowerStopped: "shutoff", scaling.PowerCrashed: "crashed",
	} {
		if err := w.SetPower("idle", power); err != nil {
			t.Fatal(err)
		}
		if n := testutil.CollectAndCount(w.Collector(), "libvirt_domain_cpu_time_seconds_total"); n != 0 {
			t.Errorf("%s: %d series of CPU time, want none", power, n)
		}
		want := fmt.Sprintf(`
# HELP libvirt_domain_state The state that the domain is in, always 1 (simulated).
# TYPE libvirt_domain_state gauge
libvirt_domain_state{domain="idle",state=%q,uuid=%q} 1
# HELP libvirt_domain_vcpus Number of vCPUs of the domain (simulated).
# TYPE libvirt_domain_vcpus gauge
libvirt_domain_vcpus{domain="idle",uuid=%q} 2
`, state, uuid, uuid)
		if err := testutil.CollectAndCompare(w.Collector(), strings.NewReader(want), "libvirt_domain_state", "libvirt_domain_vcpus"); err != nil {
			t.Errorf("%s: %v", power, err)
		}
	}
	if problems, err := testutil.CollectAndLint(w.Collector()); err != nil || len(problems) != 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
}

func TestAGuestStopsInItsOwnTimeUnlessItIsStubborn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, simulated.DefaultConfig())
		p := w.Provider("lab", nil)
		must[scaling.VM](t)(p.Create(t.Context(), spec(1)))
		power := func() scaling.Power { return must[scaling.VM](t)(p.Get(t.Context(), ref(1))).Power }
		ask := func() {
			if err := p.Shutdown(t.Context(), ref(1), false); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
		}
		if ask(); power() != scaling.PowerRunning {
			t.Error("a booting guest heard the request")
		}
		time.Sleep(5 * time.Second)
		if err := w.SetStubborn("web-1", true); err != nil {
			t.Fatal(err)
		}
		if ask(); power() != scaling.PowerRunning {
			t.Error("a stubborn guest stopped")
		}
		if err := w.SetStubborn("web-1", false); err != nil {
			t.Fatal(err)
		}
		if ask(); power() != scaling.PowerStopped {
			t.Error("the guest did not stop")
		}
	})
}

func TestThePoolFollowsItsWishAndKeepsForeignMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, simulated.DefaultConfig())
		p := w.Provider("lab", nil)
		pool := w.Pool("web")
		if err := w.AddMember("web", "theirs", netip.MustParseAddrPort("198.51.100.1:80")); err != nil {
			t.Fatal(err)
		}
		must[scaling.VM](t)(p.Create(t.Context(), spec(1)))
		time.Sleep(3 * time.Second)
		vm := must[scaling.VM](t)(p.Get(t.Context(), ref(1)))
		m := scaling.Member{ID: vm.ID, Addr: netip.AddrPortFrom(vm.Addresses[0], 80), State: scaling.MemberJoining}
		apply := func(allowEmpty bool, ms ...scaling.Member) error {
			return pool.Apply(t.Context(), scaling.Pool{Group: "web", Members: ms, AllowEmpty: allowEmpty})
		}
		seen := func() string {
			st := must[scaling.PoolStatus](t)(pool.Observe(t.Context()))
			var words []string
			for _, m := range st.Members {
				if m.Foreign {
					words = append(words, m.Server)
				} else {
					words = append(words, fmt.Sprintf("%s:%s:%s:%d", m.ID, m.State, m.Health, m.Sessions))
				}
			}
			return strings.Join(words, " ")
		}
		if err := w.SetLoad("web", 0.5); err != nil {
			t.Fatal(err)
		}
		steps := []struct {
			do   func() error
			want string
		}{
			{func() error { return apply(false, m) }, "theirs id-1:joining:down:0"},
			{func() error { time.Sleep(3 * time.Second); return nil }, "theirs id-1:joining:up:0"},
			{func() error { m.State = scaling.MemberReady; return apply(false, m) }, "theirs id-1:ready:up:5"},
			{func() error { m.State = scaling.MemberDraining; return apply(false, m) }, "theirs id-1:draining:up:1"},
			{func() error { time.Sleep(2 * time.Second); return nil }, "theirs id-1:draining:up:0"},
			{func() error { m.State = scaling.MemberReady; return apply(false, m) }, "theirs id-1:ready:up:5"},
			{func() error { return apply(true) }, "theirs id-1:draining:up:1"},
			{func() error { time.Sleep(2 * time.Second); return apply(true) }, "theirs"},
			{func() error { return apply(false, m) }, "theirs id-1:ready:up:5"},
			{func() error { m.State = scaling.MemberLeaving; return apply(false, m) }, "theirs"},
			{func() error { m.State = scaling.MemberReady; return apply(false, m) }, "theirs id-1:ready:up:5"},
			{func() error { return w.ForgetPool("web") }, "theirs"},
			{func() error { return apply(false, m) }, "theirs id-1:ready:up:5"},
			{func() error {
				if apply(false) == nil {
					return errors.New("an empty wish was followed")
				}
				return nil
			}, "theirs id-1:ready:up:5"},
		}
		for i, s := range steps {
			if err := s.do(); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
			if got := seen(); got != s.want {
				t.Errorf("step %d: the pool is %q, want %q", i, got, s.want)
			}
		}
	})
}

// TestEveryFaultPointIsPassedAndCanBeRecoveredFrom runs a whole life with an error
// at each point in turn, repeating what failed, and expects the same end.
func TestEveryFaultPointIsPassedAndCanBeRecoveredFrom(t *testing.T) {
	for _, point := range simulated.FaultPoints() {
		t.Run(point, func(t *testing.T) {
			cfg := simulated.DefaultConfig()
			cfg.BootTime, cfg.DrainTime = 0, 0
			w := world(t, cfg)
			must[string](t)(w.AddVM("base", 1))
			p, pool := w.Provider("lab", nil), w.Pool("web")
			failures := 0
			w.SetFaults(func(_ context.Context, at string, _ scaling.Ref) error {
				if at == point && failures == 0 {
					failures++
					return scaling.Errorf(scaling.Unknown, "planted at %s", at)
				}
				return nil
			})
			base := scaling.LaunchSpec{ID: "base-id", Group: "web", Name: "base"}
			var vm scaling.VM
			again := func(do func() error) {
				t.Helper()
				err := do()
				if err != nil && strings.Contains(err.Error(), "planted") {
					err = do()
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			again(func() error { _, err := p.Adopt(t.Context(), base); return err })
			again(func() (err error) { vm, err = p.Create(t.Context(), spec(1)); return err })
			again(func() (err error) { vm, err = p.Get(t.Context(), ref(1)); return err })
			again(func() error {
				return pool.Apply(t.Context(), scaling.Pool{Group: "web", Members: []scaling.Member{
					{ID: vm.ID, Addr: netip.AddrPortFrom(vm.Addresses[0], 80), State: scaling.MemberReady},
				}})
			})
			again(func() error { _, err := pool.Observe(t.Context()); return err })
			again(func() error { return pool.Apply(t.Context(), scaling.Pool{Group: "web", AllowEmpty: true}) })
			again(func() error { return p.Snapshot(t.Context(), ref(1), "s") })
			again(func() error { return p.Shutdown(t.Context(), ref(1), true) })
			again(func() error { return p.Delete(t.Context(), ref(1)) })
			again(func() error { return p.Release(t.Context(), scaling.Ref{ID: "base-id"}) })
			again(func() error { _, err := p.Adopt(t.Context(), base); return err })
			again(func() error { return p.LetGo(t.Context(), scaling.Ref{ID: "base-id"}) })
			again(func() error { _, err := p.List(t.Context()); return err })
			if failures != 1 {
				t.Errorf("the point was passed %d times", failures)
			}
			if left := w.Leftovers(); len(left) != 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

func TestAHungCallHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world(t, simulated.DefaultConfig())
		p := w.Provider("lab", nil)
		w.SetFaults(func(ctx context.Context, point string, ref scaling.Ref) error {
			if point == "create.define" && ref.Name == "web-1" {
				return simulated.Hang(ctx)
			}
			return nil
		})
		done := make(chan error)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go func() { _, err := p.Create(ctx, spec(1)); done <- err }()
		synctest.Wait()
		must[scaling.VM](t)(p.Create(t.Context(), spec(2)))
		if err := <-done; scaling.ClassOf(err) != scaling.Unknown || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the hung call: %v (%s), want unknown and the deadline", err, scaling.ClassOf(err))
		}
		if left := w.Leftovers(); !slices.Contains(left, "disk of id-1") {
			t.Errorf("what the hung call had made is not there: %q", left)
		}
	})
}

func TestCapacityIsAQuota(t *testing.T) {
	cfg := simulated.DefaultConfig()
	cfg.Capacity = 1
	p := world(t, cfg).Provider("lab", nil)
	must[scaling.VM](t)(p.Create(t.Context(), spec(1)))
	if _, err := p.Create(t.Context(), spec(2)); scaling.ClassOf(err) != scaling.Quota {
		t.Errorf("Create beyond the capacity: %v, want a quota", err)
	}
}

// TestAKilledProcessLeavesAWholeWorld kills a process in the middle of its work
// and expects the next one to find what it had made.
func TestAKilledProcessLeavesAWholeWorld(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "SIMULATED_TEST_DIR="+dir)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the process ended by itself: %v\n%s", err, out)
	}
	cfg := simulated.DefaultConfig()
	cfg.Directory = dir
	w := world(t, cfg)
	p := w.Provider("lab", nil)
	if list := must[[]scaling.VM](t)(p.List(t.Context())); len(list) != 2 {
		t.Errorf("listed %+v, want the two VMs that were defined before the kill", list)
	}
	for n := 1; n <= 3; n++ {
		if err := p.Delete(t.Context(), ref(n)); err != nil {
			t.Error(err)
		}
	}
	if left := w.Leftovers(); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func createUntilKilled(dir string) {
	cfg := simulated.DefaultConfig()
	cfg.Directory = dir
	w, err := simulated.NewWorld(cfg, simulated.Options{Faults: func(_ context.Context, point string, ref scaling.Ref) error {
		if point == "create.disk" && ref.Name == "web-3" {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	}})
	if err != nil {
		panic(err)
	}
	for n := 1; n <= 3; n++ {
		if _, err := w.Provider("lab", nil).Create(context.Background(), spec(n)); err != nil {
			panic(err)
		}
	}
}

func TestAConfigThatCannotWorkIsRefusedWithEveryReason(t *testing.T) {
	cfg := simulated.DefaultConfig()
	cfg.Capacity, cfg.BootTime, cfg.Network = 0, -1, netip.Prefix{}
	cfg.Load = map[string][]simulated.LoadStep{"web": {{After: time.Second}, {After: 0}}}
	_, err := simulated.NewWorld(cfg, simulated.Options{})
	for _, want := range []string{"capacity", "boot_time", "network", "order"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewWorld() = %v, want it to name %s", err, want)
		}
	}
}
