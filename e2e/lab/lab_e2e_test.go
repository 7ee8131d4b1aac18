//go:build e2e

package lab_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/e2e/guest"
	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/e2e/loadgen"
	"github.com/scalehook/scalehook/internal/testenv"
)

// victimVariable makes the test binary a program that starts a lab in the
// folder it names and then waits to be killed.
const victimVariable = "LAB_TEST_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimVariable); dir != "" {
		if err := victim(dir); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// victim starts a lab with a VM, HAProxy and a program that detaches itself,
// says so and waits.
func victim(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Name: "lab-victim", Dir: dir})
	if err != nil {
		return err
	}
	if err := populate(ctx, l, "web-1"); err != nil {
		return err
	}
	if _, err := l.StartHAProxy(ctx, lab.HAProxyOptions{Config: haproxyConfig}); err != nil {
		return err
	}
	if err := l.Command(ctx, "sh", "-c", "setsid sleep 600 >/dev/null 2>&1 &").Run(); err != nil {
		return err
	}
	fmt.Println("ready", l.Dir())
	select {}
}

// populate uploads the guest image and creates VMs.
func populate(ctx context.Context, l *lab.Lab, names ...string) error {
	img, err := guest.Build(ctx, guest.BuildOptions{})
	if err != nil {
		return err
	}
	if _, err := l.UploadImage(ctx, "base.qcow2", img.Path); err != nil {
		return err
	}
	for _, name := range names {
		if err := l.CreateVM(ctx, lab.VMSpec{Name: name, Base: "base.qcow2", InstanceID: "i-" + name}); err != nil {
			return err
		}
	}
	return nil
}

// haproxyConfig is what a fair judgement needs: no retries that would hide a
// loss, no idle connection closed by HAProxy of its own accord, and checks that
// do not take a busy guest for a dead one ("timeout check" is "inter" by default).
const haproxyConfig = `global
  stats socket {{stats}} mode 600 level admin expose-fd listeners
  maxconn 2000
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-keep-alive 10m
  timeout check 15s
  retries 0
  option idle-close-on-response
frontend fe
  bind 127.0.0.1:8080
  default_backend web
backend web
  balance leastconn
  option httpchk GET /health
`

func need(t *testing.T) {
	t.Helper()
	needs := []testenv.Requirement{testenv.Root}
	for _, p := range lab.Programs() {
		needs = append(needs, testenv.Program(p))
	}
	testenv.Need(t, needs...)
}

func start(t *testing.T, opts lab.Options) *lab.Lab {
	t.Helper()
	need(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	opts.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	l, err := lab.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

func TestTwoClonesBootReportAndLeaveNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	l := start(t, lab.Options{Name: "lab-two", GuestNice: -5})
	if err := populate(ctx, l); err != nil {
		t.Fatal(err)
	}
	before, err := l.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	names := []string{"web-1", "web-2"}
	for _, name := range names {
		if err := l.CreateVM(ctx, lab.VMSpec{Name: name, Base: "base.qcow2", InstanceID: "i-" + name}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range names {
		addr, err := l.AwaitHealthy(ctx, name)
		if err != nil {
			console, _ := os.ReadFile(l.ConsolePath(name))
			t.Fatalf("%v; console:\n%s", err, console)
		}
		t.Logf("%s healthy at %s after %s", name, addr, time.Since(began))
	}
	for _, name := range names {
		stopped := time.Now()
		if err := l.ShutdownVM(ctx, name); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s off after %s", name, time.Since(stopped))
		if err := l.RemoveVM(ctx, name); err != nil {
			t.Fatal(err)
		}
		if err := l.Collector().AwaitFinal(ctx, name); err != nil {
			t.Error(err)
		}
	}
	after, err := l.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("left behind (-before +after):\n%s", diff)
	}
	for _, b := range l.Collector().Books() {
		t.Logf("%s (%s): received %v answered %v", b.Host, b.InstanceID, b.Received, b.Answered)
	}
}

// addMember puts a VM into the backend "web", ready for traffic, in the order that
// lets no request reach one that is not yet checked.
func addMember(ctx context.Context, h *lab.HAProxy, name, addr string) error {
	for _, cmd := range []string{
		"add server web/" + name + " " + addr + ":80 check inter 3s fastinter 500ms rise 1 fall 5",
		"enable health web/" + name, "set server web/" + name + " state drain",
	} {
		if _, err := h.Run(ctx, cmd); err != nil {
			return err
		}
	}
	if err := awaitStat(ctx, h, name, func(f map[string]string) bool { return f["status"] == "DRAIN" && f["check_status"] == "L7OK" }); err != nil {
		return err
	}
	_, err := h.Run(ctx, "set server web/"+name+" state ready")
	return err
}

func removeMember(ctx context.Context, h *lab.HAProxy, name string, drain bool) error {
	if drain {
		if _, err := h.Run(ctx, "set server web/"+name+" state drain"); err != nil {
			return err
		}
		if err := awaitStat(ctx, h, name, func(f map[string]string) bool { return f["scur"] == "0" }); err != nil {
			return err
		}
	}
	for _, cmd := range []string{"set server web/" + name + " state maint", "shutdown sessions server web/" + name, "del server web/" + name} {
		if _, err := h.Run(ctx, cmd); err != nil {
			return err
		}
	}
	return nil
}

func awaitStat(ctx context.Context, h *lab.HAProxy, server string, ok func(map[string]string) bool) error {
	for {
		out, err := h.Run(ctx, "show stat")
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimPrefix(out, "# "), "\n")
		names := strings.Split(lines[0], ",")
		fields := map[string]string{}
		for _, line := range lines[1:] {
			values := strings.Split(line, ",")
			if len(values) > 1 && values[0] == "web" && values[1] == server {
				for i := range min(len(names), len(values)) {
					fields[names[i]] = values[i]
				}
			}
		}
		if ok(fields) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for server %s: %w; it is %s", server, ctx.Err(), fields["status"])
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func TestRemovalOfALoadedVM(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	l := start(t, lab.Options{Name: "lab-load", GuestNice: -5})
	names := []string{"web-1", "web-2", "web-3"}
	if err := populate(ctx, l, names...); err != nil {
		t.Fatal(err)
	}
	h, err := l.StartHAProxy(ctx, lab.HAProxyOptions{Config: haproxyConfig})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		addr, err := l.AwaitHealthy(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := addMember(ctx, h, name, addr.String()); err != nil {
			t.Fatal(err)
		}
	}
	g, err := loadgen.New(loadgen.Options{
		Target: "127.0.0.1:8080", Dial: l.DialContext, TimeLimit: time.Minute,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	rctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); g.Run(rctx) }()
	defer func() { stop(); <-done }()
	g.SetLoad(4)
	began := time.Now()
	for g.Totals().OK < 100 {
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("100 requests answered after %s with 4 busy clients", time.Since(began).Round(time.Millisecond))

	if err := removeMember(ctx, h, "web-3", true); err != nil {
		t.Fatal(err)
	}
	if err := l.ShutdownVM(ctx, "web-3"); err != nil {
		t.Fatal(err)
	}
	if err := l.RemoveVM(ctx, "web-3"); err != nil {
		t.Fatal(err)
	}
	if err := l.Collector().AwaitFinal(ctx, "web-3"); err != nil {
		t.Error(err)
	}
	if tot := g.Totals(); tot.Lost != 0 {
		t.Errorf("a drained removal lost requests: %+v", tot)
	}
	// The judge must be able to condemn: without a drain requests are lost.
	lost := g.Totals().Lost
	if err := removeMember(ctx, h, "web-2", false); err != nil {
		t.Fatal(err)
	}
	if err := l.RemoveVM(ctx, "web-2"); err != nil {
		t.Fatal(err)
	}
	for g.Totals().Lost == lost {
		select {
		case <-ctx.Done():
			t.Fatal("a VM that was powered off under load lost no request")
		case <-time.After(50 * time.Millisecond):
		}
	}
	g.SetLoad(0)
	stop()
	<-done

	tot := g.Totals()
	if err := l.ShutdownVM(ctx, "web-1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Collector().AwaitFinal(ctx, "web-1"); err != nil {
		t.Error(err)
	}
	c := g.Compare(l.Collector().Books())
	t.Logf("totals %+v; comparison: ok %d noted %d missing %d unaccepted %d unfinished %v", tot, c.OK, c.Noted, len(c.Missing), len(c.Unaccepted), c.Unfinished)
	if len(c.Twice)+len(c.Elsewhere) > 0 {
		t.Errorf("repeated %v, elsewhere %v", c.Twice, c.Elsewhere)
	}
	// web-2 was cut off: what it had not yet reported is missing, nothing else.
	for _, id := range c.Missing {
		for _, r := range g.Records() {
			if r.ID == id && r.Server != "web-2" {
				t.Errorf("request %s was answered by %s, which does not know it", id, r.Server)
			}
		}
	}
	s := loadgen.Summarize(g.Records(), nil)
	t.Logf("latency p50 %s p99 %s max %s; by guest %v", s.Outside.P50, s.Outside.P99, s.Outside.Max, s.Servers)
	if tot.InFlight != 0 || s.Servers["web-1"] == 0 || s.Servers["web-2"] == 0 || s.Servers["web-3"] == 0 {
		t.Errorf("totals %+v, servers %v: want every guest used and nothing in flight", tot, s.Servers)
	}
}

func TestControlChainStartsReloadsAndStops(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	l := start(t, lab.Options{Name: "lab-chain"})
	prom, am := l.Path("prometheus.yml"), l.Path("alertmanager.yml")
	for file, text := range map[string]string{
		prom: "scrape_configs:\n- job_name: self\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['127.0.0.1:9090']\n",
		am:   "route:\n  receiver: none\nreceivers:\n- name: none\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.StartAlertmanager(ctx, lab.AlertmanagerOptions{ConfigFile: am}); err != nil {
		t.Fatal(err)
	}
	p, err := l.StartPrometheus(ctx, lab.PrometheusOptions{ConfigFile: prom})
	if err != nil {
		t.Fatal(err)
	}
	h, err := l.StartHAProxy(ctx, lab.HAProxyOptions{Config: haproxyConfig})
	if err != nil {
		t.Fatal(err)
	}
	before, _, err := h.Workers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	after, _, err := h.Workers(ctx)
	if err != nil || len(before) != 1 || len(after) != 1 || before[0] == after[0] {
		t.Errorf("workers %v before and %v after the reload (%v)", before, after, err)
	}
	if nice, own := niceness(t, p.PID()), niceness(t, os.Getpid()); nice != max(own-10, -20) {
		t.Errorf("Prometheus runs at niceness %d, want 10 below %d", nice, own)
	}
	if err := p.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := h.Stop(ctx); err != nil {
		t.Error(err)
	}
	if _, err := l.StartHAProxy(ctx, lab.HAProxyOptions{Name: "broken", Config: "frontend x\n  bogus\n"}); err == nil || !strings.Contains(err.Error(), "bogus") {
		t.Errorf("a broken configuration gives %v, want HAProxy's own words", err)
	}
	if _, err := l.StartProcess(ctx, lab.ProcessSpec{Name: "dies", Path: "sh", Args: []string{"-c", "echo last words; exit 3"}, Ready: func(context.Context) error { return io.EOF }}); err == nil ||
		!strings.Contains(err.Error(), "last words") {
		t.Errorf("a program that dies gives %v, want its last words", err)
	}
	// What is in the lab is not outside.
	client := http.Client{Timeout: time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:9093/-/ready", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := client.Do(req); err == nil && resp.Body.Close() == nil {
		t.Error("the lab's Alertmanager, or another one, answers outside the lab")
	}
}

func niceness(t *testing.T, pid int) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	n, err := strconv.Atoi(f[16])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestVMsOutliveLibvirtd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	l := start(t, lab.Options{Name: "lab-lv"})
	if err := populate(ctx, l, "web-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.AwaitHealthy(ctx, "web-1"); err != nil {
		t.Fatal(err)
	}
	for _, kill := range []bool{false, true} {
		if err := l.StopLibvirtd(ctx, kill); err != nil {
			t.Fatal(err)
		}
		if err := l.StartLibvirtd(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := l.AwaitHealthy(ctx, "web-1"); err != nil {
			t.Fatal(err)
		}
	}
	s, err := l.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"web-1"}, s.Guests); diff != "" {
		t.Errorf("VM processes (-want +got):\n%s", diff)
	}
	if books := l.Collector().Books(); len(books) > 1 {
		t.Errorf("the guest was started %d times", len(books))
	}
}

func TestAKilledProgramLeavesOnlyAFolderThatIsCleanedUp(t *testing.T) {
	need(t)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	base, err := os.MkdirTemp("", "lab-test-") //nolint:usetesting // a test's folder has too long a name for sockets
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env = append(os.Environ(), victimVariable+"="+base)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready ") {
		t.Fatalf("the victim says %q (%v)", line, err)
	}
	dir := strings.TrimSpace(strings.TrimPrefix(line, "ready "))
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	if removed, err := lab.CleanupAll(ctx, base, log); err != nil || len(removed) != 0 {
		t.Fatalf("while the program lives CleanupAll removed %v (%v)", removed, err)
	}
	first := initOf(t, dir)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// Everything but what detached itself is ended by the kernel.
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", first)); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("process 1 of the lab is still there")
		}
	}
	removed, err := lab.CleanupAll(ctx, base, log)
	if diff := cmp.Diff([]string{dir}, removed); diff != "" || err != nil {
		t.Errorf("error %v; removed (-want +got):\n%s", err, diff)
	}
	if left := marked(filepath.Base(dir)); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
	if again, err := lab.CleanupAll(ctx, base, log); err != nil || len(again) != 0 {
		t.Errorf("a second CleanupAll removed %v (%v)", again, err)
	}
}

func initOf(t *testing.T, dir string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if err != nil {
		t.Fatal(err)
	}
	var notes struct{ Init int }
	if err := json.Unmarshal(raw, &notes); err != nil || notes.Init == 0 {
		t.Fatalf("notes %s: %v", raw, err)
	}
	return notes.Init
}

// marked lists the processes whose command line or environment names the lab.
func marked(id string) []string {
	var out []string
	for _, file := range []string{"cmdline", "environ"} {
		paths, _ := filepath.Glob("/proc/[0-9]*/" + file)
		for _, p := range paths {
			if raw, err := os.ReadFile(p); err == nil && strings.Contains(string(raw), id) {
				out = append(out, p+": "+strings.ReplaceAll(string(raw[:min(len(raw), 200)]), "\x00", " "))
			}
		}
	}
	return out
}

func TestClosedLabLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	l := start(t, lab.Options{Name: "lab-close"})
	if err := populate(ctx, l, "web-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.StartHAProxy(ctx, lab.HAProxyOptions{Config: haproxyConfig}); err != nil {
		t.Fatal(err)
	}
	inside := l.Command(ctx, "sh", "-c", "setsid sleep 600 >/dev/null 2>&1 &")
	if err := inside.Run(); err != nil {
		t.Fatal(err)
	}
	id := filepath.Base(l.Dir())
	if len(marked(id)) == 0 {
		t.Fatal("the search for processes finds nothing while the lab is up")
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if left := marked(id); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
	if _, err := os.Stat(l.Dir()); !os.IsNotExist(err) {
		t.Errorf("the folder is still there: %v", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), id) {
		t.Errorf("a mount names the lab, or mounts cannot be read: %v", err)
	}
	if _, err := l.StartProcess(ctx, lab.ProcessSpec{Name: "late", Path: "true"}); err == nil {
		t.Error("a closed lab starts programs")
	}
}
