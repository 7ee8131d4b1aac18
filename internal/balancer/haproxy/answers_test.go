package haproxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/balancer/haproxy"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

// script answers commands on a socket by a function; for what real HAProxy does
// not do on demand.
type script struct {
	path string
	mu   sync.Mutex
	sent []string
}

func newScript(t *testing.T, answer func(command string) string) *script {
	t.Helper()
	dir, err := os.MkdirTemp("", "bal") //nolint:usetesting // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	s := &script{path: filepath.Join(dir, "s")}
	l, err := net.Listen("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(10 * time.Second))
				command, err := bufio.NewReader(c).ReadString('\n')
				if err != nil {
					return
				}
				command = strings.TrimSpace(command)
				s.mu.Lock()
				s.sent = append(s.sent, command)
				s.mu.Unlock()
				io.WriteString(c, answer(command))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
		os.RemoveAll(dir)
	})
	return s
}

func (s *script) commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.sent...)
}

func (s *script) pool(t *testing.T) *haproxy.Pool {
	t.Helper()
	b, err := haproxy.New(haproxy.Config{Sockets: []haproxy.Socket{{Address: s.path}}}, "test-owner", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Pool(group, haproxy.PoolConfig{Backend: "web"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	goodInfo  = "Name: HAProxy\nVersion: 2.6.12\nPid: 42\nUptime_sec: 9\n\n"
	goodState = "1\n# be_id be_name srv_id srv_name srv_addr srv_admin_state srv_check_state srv_port\n\n"
	goodStat  = "# pxname,svname,qcur,scur,status,check_status,\n\n"
)

func good(command string) string {
	switch {
	case command == "show info":
		return goodInfo
	case strings.HasPrefix(command, "show servers state"):
		return goodState
	case strings.HasPrefix(command, "show stat"):
		return goodStat
	case strings.HasPrefix(command, "add server"):
		return "New server registered.\n\n"
	}
	return "\n"
}

func TestWrongAnswersAreErrorsAndNeverAnEmptyPool(t *testing.T) {
	row := "3 web 2 static1 127.0.0.1 0 6 80\n"
	for _, c := range []struct {
		name   string
		answer func(string) string
		class  scaling.Class
	}{
		{"nothing", func(string) string { return "" }, scaling.Temporary},
		{"another protocol", func(string) string { return "HTTP/1.0 400 Bad Request\r\n\r\n" }, scaling.Temporary},
		{"half an info", func(c string) string { return strings.TrimSuffix(good(c), "\n") }, scaling.Temporary},
		{"an info without a pid", replaced(goodInfo, "Pid: 42\n", ""), scaling.Temporary},
		{"an info without a version", replaced(goodInfo, "2.6.12", "unknown"), scaling.Temporary},
		{"half a list of servers", replaced(goodState, "\n\n", "\n"+row[:12]), scaling.Temporary},
		{"a list cut between two rows", replaced(goodState, "\n\n", "\n"+row), scaling.Temporary},
		{"a row with too few columns", replaced(goodState, "\n\n", "\n3 web 2 static1\n\n"), scaling.Temporary},
		{"a state that is no number", replaced(goodState, "\n\n", "\n"+strings.Replace(row, " 0 6 ", " x 6 ", 1)+"\n"), scaling.Temporary},
		{"a server without statistics", replaced(goodState, "\n\n", "\n"+row+"\n"), scaling.Temporary},
		{"statistics that are no numbers", replaced(goodStat, "\n\n", "\nweb,static1,a,b,UP,L7OK,\n\n"), scaling.Temporary},
		{"an unknown list", replaced(goodState, "1\n#", "2\n;"), scaling.Temporary},
		{"an answer of old HAProxy", func(c string) string {
			if c == "show info" {
				return good(c)
			}
			return "Unknown command. Please enter one of the following commands only :\n\n"
		}, scaling.Permanent},
		{"a socket of a low level", func(c string) string {
			if c == "show info" {
				return good(c)
			}
			return "Permission denied\n\n"
		}, scaling.Permanent},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newScript(t, c.answer).pool(t)
			if status, err := p.Observe(t.Context()); err == nil || scaling.ClassOf(err) != c.class {
				t.Errorf("Observe: %+v, %v, want an error of class %v", status, err, c.class)
			}
			if err := p.Apply(t.Context(), scaling.Pool{Group: group, AllowEmpty: true}); err == nil || scaling.ClassOf(err) != c.class {
				t.Errorf("Apply: %v, want an error of class %v", err, c.class)
			}
		})
	}
}

// replaced is good, but for one of its answers.
func replaced(which, from, to string) func(string) string {
	return func(command string) string {
		answer := good(command)
		if answer == which {
			return strings.Replace(answer, from, to, 1)
		}
		return answer
	}
}

func TestAnAnswerIsNotBelievedWithoutLooking(t *testing.T) {
	p := newScript(t, good).pool(t)
	err := p.Apply(t.Context(), wish(member("a", newGuest(t), joining)))
	if err == nil || scaling.ClassOf(err) != scaling.Temporary {
		t.Errorf("HAProxy said that it added a server and has none: %v, want a temporary error", err)
	}
}

func TestARefusedOptionIsPermanentAndNamed(t *testing.T) {
	p := newScript(t, func(c string) string {
		if strings.HasPrefix(c, "add server") {
			return "'server web/x' : unknown keyword 'maxcon'.\n\n"
		}
		return good(c)
	}).pool(t)
	err := p.Apply(t.Context(), wish(member("a", newGuest(t), joining)))
	if err == nil || scaling.ClassOf(err) != scaling.Permanent || !strings.Contains(err.Error(), "maxcon") {
		t.Errorf("%v, want a permanent error that names the option", err)
	}
}

func TestFromHAProxy31OnServersStartFullyDown(t *testing.T) {
	for version, want := range map[string]bool{"2.6.12": false, "3.0.5": false, "3.1.0": true, "3.2-dev1": true, "10.0": true} {
		t.Run(version, func(t *testing.T) {
			s := newScript(t, replaced(goodInfo, "2.6.12", version))
			_ = s.pool(t).Apply(t.Context(), wish(member("a", newGuest(t), joining)))
			found := false
			for _, c := range s.commands() {
				if strings.HasPrefix(c, "add server") {
					found = strings.HasSuffix(c, " init-state fully-down")
				}
			}
			if found != want {
				t.Errorf("init-state was said: %v, want %v, in %q", found, want, s.commands())
			}
		})
	}
}

func TestADribblingAnswerEndsWithTheCommandsTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				for ctx.Err() == nil {
					if _, err := io.WriteString(c, "Name: x\n"); err != nil {
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			})
		}
	})
	t.Cleanup(func() { stop(); l.Close(); wg.Wait() })
	b, err := haproxy.New(haproxy.Config{Sockets: []haproxy.Socket{{Address: l.Addr().String()}}, Timeout: 50 * time.Millisecond}, "o", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Pool(group, haproxy.PoolConfig{Backend: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Observe(t.Context()); err == nil || scaling.ClassOf(err) != scaling.Temporary || scaling.Interrupted(err) {
		t.Errorf("%v, want a temporary error that does not blame the caller's context", err)
	}
}

func TestTwoHAProxyHaveOnePool(t *testing.T) {
	one, two := newRig(t, rigOptions{noStatic: true}), newRig(t, rigOptions{noStatic: true})
	p := one.poolOf(haproxy.Config{Sockets: []haproxy.Socket{
		{Address: one.stats, MasterSocket: one.master}, {Address: two.stats, MasterSocket: two.master},
	}})
	a, b := newGuest(t), newGuest(t)
	settle(t, p, wish(member("a", a, ready), member("b", b, ready)), "both ready at both", func(s scaling.PoolStatus) bool {
		return is("a", ready)(s) && is("b", ready)(s)
	})
	for _, r := range []*rig{one, two} {
		if err := post(t.Context(), r.front, "0s"); err != nil {
			t.Errorf("%s: %v", r.front, err)
		}
	}
	answers := make(chan error, 4)
	for _, r := range []*rig{one, one, two, two} {
		go func() { answers <- post(t.Context(), r.front, "4s") }()
	}
	testenv.Eventually(t, 4*time.Second, "the sum of the sessions", func() error {
		m, _ := observe(t, p).Member("a")
		n, _ := observe(t, p).Member("b")
		if m.Sessions+n.Sessions != 4 {
			return fmt.Errorf("%d and %d", m.Sessions, n.Sessions)
		}
		return nil
	})
	for range 4 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	two.proc.Kill(t)
	if _, err := p.Observe(t.Context()); scaling.ClassOf(err) != scaling.Temporary {
		t.Errorf("with one of two gone: %v, want a temporary error", err)
	}
	err := p.Apply(t.Context(), wish(member("a", a, draining), member("b", b, ready)))
	if scaling.ClassOf(err) != scaling.Temporary {
		t.Errorf("with one of two gone: %v, want a temporary error", err)
	}
	if m, _ := observe(t, one.pool()).Member("a"); m.State != ready {
		t.Errorf("a member was drained (%s) although one HAProxy may still send to it", m.State)
	}
}

func TestAFragmentThatCannotBeWrittenStopsTheDrain(t *testing.T) {
	for name, harm := range map[string]func(r *rig){
		"a template without the backend":  func(r *rig) { r.write("web.tmpl", "backend wrong\n") },
		"a template that forgets servers": func(r *rig) { r.write("web.tmpl", "backend web\n") },
		"a template that is none":         func(r *rig) { r.write("web.tmpl", "backend web {{") },
		"a template that is gone":         func(r *rig) { _ = os.Remove(r.template) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{fragment: true})
			p := r.pool()
			a, b := newGuest(t), newGuest(t)
			settle(t, p, wish(member("a", a, ready), member("b", b, ready)), "both ready", func(s scaling.PoolStatus) bool {
				return is("a", ready)(s) && is("b", ready)(s)
			})
			before, err := os.ReadFile(r.fragment)
			if err != nil {
				t.Fatal(err)
			}
			harm(r)
			if err := p.Apply(t.Context(), wish(member("a", a, draining), member("b", b, ready))); err == nil {
				t.Error("no error")
			}
			if m, _ := observe(t, p).Member("a"); m.State != ready {
				t.Errorf("the member is %s: a reload would resurrect it", m.State)
			}
			after, err := os.ReadFile(r.fragment)
			if err != nil || string(after) != string(before) {
				t.Errorf("the fragment was changed: %v\n%s", err, after)
			}
		})
	}
}

func TestTheFragmentListsWhoIsInServiceAndIsNotTouchedWithoutNeed(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true})
	p := r.pool()
	a, b := newGuest(t), newGuest(t)
	c := newGuest(t)
	c.healthy.Store(false)
	settle(t, p, wish(member("a", a, ready), member("b", b, joining), member("c", c, ready)), "a ready", is("a", ready))
	text, err := os.ReadFile(r.fragment)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "-a "+a.addr.String()+" check inter 200ms") || strings.Contains(string(text), b.addr.String()) || strings.Contains(string(text), c.addr.String()) {
		t.Errorf("the fragment is\n%s", text)
	}
	before, err := os.Stat(r.fragment)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, p, wish(member("a", a, ready), member("b", b, joining), member("c", c, ready)))
	after, err := os.Stat(r.fragment)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("the same fragment was written again")
	}
	left, err := filepath.Glob(filepath.Join(r.dir, ".*"))
	if err = errors.Join(err); err != nil || len(left) > 0 {
		t.Errorf("left beside the fragment: %v %v", left, err)
	}
}
