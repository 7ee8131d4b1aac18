package haproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/balancer/haproxy"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	joining  = scaling.MemberJoining
	ready    = scaling.MemberReady
	draining = scaling.MemberDraining
	leaving  = scaling.MemberLeaving
)

// quiet says that a member drains and that nothing is in flight.
func quiet(id string) func(scaling.PoolStatus) bool {
	return func(s scaling.PoolStatus) bool {
		m, ok := s.Member(id)
		return ok && m.State == draining && m.Sessions == 0
	}
}

// replaceOnce brings a newcomer into service and removes the old member, as the
// engine does it.
func replaceOnce(t *testing.T, b scaling.Balancer, oldID string, old *guest, newID string, next *guest) {
	t.Helper()
	settle(t, b, wish(member(oldID, old, ready), member(newID, next, joining)), newID+" passes its check", func(s scaling.PoolStatus) bool {
		m, ok := s.Member(newID)
		return ok && m.Health == scaling.HealthUp
	})
	settle(t, b, wish(member(oldID, old, ready), member(newID, next, ready)), newID+" in service", is(newID, ready))
	settle(t, b, wish(member(oldID, old, draining), member(newID, next, ready)), oldID+" drained", quiet(oldID))
	settle(t, b, wish(member(oldID, old, leaving), member(newID, next, ready)), oldID+" gone", gone(oldID))
	// The VM is gone from here on: a request that still comes is lost.
	old.server.CloseClientConnections()
	old.server.Close()
}

func TestNoRequestIsLostWhileMembersComeAndGo(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true, noStatic: true})
	p := r.pool()
	g := newGuest(t)
	settle(t, p, wish(member("m0", g, ready)), "first member", is("m0", ready))
	l := startLoad(t, r.front, 16, true)
	for i := range 6 {
		next := newGuest(t)
		next.healthy.Store(false)
		time.AfterFunc(200*time.Millisecond, func() { next.healthy.Store(true) })
		replaceOnce(t, p, fmt.Sprintf("m%d", i), g, fmt.Sprintf("m%d", i+1), next)
		g = next
	}
	l.finish(500)
}

func TestTheLossTestSeesALossWhenNothingIsDrained(t *testing.T) {
	r := newRig(t, rigOptions{noStatic: true})
	p := r.pool()
	a, b := newGuest(t), newGuest(t)
	settle(t, p, wish(member("a", a, ready), member("b", b, ready)), "two members", func(s scaling.PoolStatus) bool {
		return is("a", ready)(s) && is("b", ready)(s)
	})
	l := startLoad(t, r.front, 16, true)
	time.Sleep(300 * time.Millisecond)
	a.server.CloseClientConnections()
	a.server.Close()
	time.Sleep(300 * time.Millisecond)
	l.end()
	if len(l.lost) == 0 {
		t.Error("a member died under load and no request was lost: the load proves nothing")
	}
}

func TestAReloadBetweenAnyTwoCallsLosesNothing(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true, noStatic: true})
	p := r.pool()
	g := newGuest(t)
	settle(t, p, wish(member("m0", g, ready)), "first member", is("m0", ready))
	l := startLoad(t, r.front, 8, false)
	// What changes something, and in what order, is learnt from an undisturbed run.
	var changes []string
	p.AfterCommand(func(command string) {
		if !strings.HasPrefix(command, "show ") {
			changes = append(changes, command)
		}
	})
	next := newGuest(t)
	replaceOnce(t, p, "m0", g, "m1", next)
	g = next
	if len(changes) < 8 {
		t.Fatalf("a replacement consists of the calls %q, which are too few", changes)
	}
	for at := range len(changes) {
		n := 0
		p.AfterCommand(func(command string) {
			if strings.HasPrefix(command, "show ") {
				return
			}
			if n == at {
				r.reload()
			}
			n++
		})
		next := newGuest(t)
		next.healthy.Store(false)
		time.AfterFunc(200*time.Millisecond, func() { next.healthy.Store(true) })
		replaceOnce(t, p, fmt.Sprintf("m%d", at+1), g, fmt.Sprintf("m%d", at+2), next)
		g = next
	}
	p.AfterCommand(nil)
	l.finish(200)
}

func TestAReloadInMidDrainIsWaitedFor(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true, noStatic: true})
	p := r.pool()
	a, b := newGuest(t), newGuest(t)
	settle(t, p, wish(member("a", a, ready)), "a in service", is("a", ready))
	start := time.Now()
	answer := make(chan error, 1)
	go func() { answer <- post(t.Context(), r.front, "10s") }()
	testenv.Eventually(t, 5*time.Second, "the long request to arrive", func() error {
		if a.inFlight() == 0 {
			return errors.New("not there")
		}
		return nil
	})
	settle(t, p, wish(member("a", a, ready), member("b", b, ready)), "b in service", is("b", ready))
	want := wish(member("a", a, draining), member("b", b, ready))
	settle(t, p, want, "a draining", is("a", draining))
	r.reload()
	for {
		apply(t, p, want)
		m, ok := observe(t, p).Member("a")
		if !ok || m.Sessions == 0 {
			break
		}
		if time.Since(start) > 20*time.Second {
			t.Fatalf("the drain does not end: %+v", m)
		}
		time.Sleep(50 * time.Millisecond)
	}
	// The request must have been answered before the drain was called over.
	select {
	case err := <-answer:
		if err != nil {
			t.Errorf("the request in flight was lost: %v", err)
		}
	case <-time.After(time.Second):
		t.Errorf("the drain ended after %v, with the request still in flight", time.Since(start))
	}
}

func TestARequestThatAnOldWorkerMayStillGiveAwayCountsAsASession(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true, noStatic: true})
	p := r.pool()
	a, b := newGuest(t), newGuest(t)
	settle(t, p, wish(member("a", a, ready), member("b", b, ready)), "both in service", func(s scaling.PoolStatus) bool {
		return is("a", ready)(s) && is("b", ready)(s)
	})
	// The client has sent half of its request when HAProxy is reloaded. The old
	// worker chooses a server when the rest comes, and there nothing is drained.
	conn, err := net.Dial("tcp", r.front)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHo"); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 5*time.Second, "HAProxy to have the connection", func() error {
		if !strings.Contains(r.ask("show stat front 1 -1"), "front,FRONTEND,,,1,") {
			return errors.New("not there")
		}
		return nil
	})
	r.reload()
	want := wish(member("a", a, draining), member("b", b, ready))
	settle(t, p, want, "a draining", is("a", draining))
	if m, _ := observe(t, p).Member("a"); m.Sessions == 0 {
		t.Error("a request that may still come to the member is not counted")
	}
	if _, err := io.WriteString(conn, "st: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Error(err)
	}
	settle(t, p, want, "a drained", quiet("a"))
}

func TestWithoutAMasterSocketSessionsAreUnknownAfterAReload(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true})
	p := r.poolOf(haproxy.Config{Sockets: []haproxy.Socket{{Address: r.stats}}})
	a := newGuest(t)
	apply(t, p, wish(member("a", a, joining)))
	settle(t, p, wish(member("a", a, ready)), "a in service", is("a", ready))
	if m, _ := observe(t, p).Member("a"); m.Sessions != 0 {
		t.Errorf("a newcomer of this worker reads %d sessions", m.Sessions)
	}
	r.reload()
	if m, ok := observe(t, p).Member("a"); !ok || m.State != ready || m.Sessions != -1 {
		t.Errorf("after a reload the member of the fragment reads %+v (%v), want ready with -1 sessions", m, ok)
	}
	known := r.poolOf(haproxy.Config{Sockets: []haproxy.Socket{{Address: r.stats}}, HardStopAfter: time.Nanosecond})
	testenv.Eventually(t, 10*time.Second, "the older workers to be past hard_stop_after", func() error {
		if m, _ := observe(t, known).Member("a"); m.Sessions != 0 {
			return fmt.Errorf("%d sessions", m.Sessions)
		}
		return nil
	})
}

func TestMembersServeAgainWithinTwoSecondsOfARestart(t *testing.T) {
	for name, fragment := range map[string]bool{"with a fragment": true, "without a fragment": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, rigOptions{fragment: fragment, noStatic: true})
			p := r.pool()
			a := newGuest(t)
			want := wish(member("a", a, ready))
			settle(t, p, want, "a in service", is("a", ready))
			r.restart()
			up := time.Now()
			for post(t.Context(), r.front, "0s") != nil {
				if time.Since(up) > 2*time.Second {
					t.Fatal("no member serves 2s after HAProxy is up again")
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				if err := p.Apply(ctx, want); err != nil {
					t.Log(err)
				}
				cancel()
				time.Sleep(100 * time.Millisecond)
			}
			t.Logf("served again after %v", time.Since(up).Round(time.Millisecond))
		})
	}
}

func TestAStaticLineWithOurNameIsDrainedAgainAfterEachReload(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true})
	p := r.pool()
	a, b := newGuest(t), newGuest(t)
	settle(t, p, wish(member("a", a, ready), member("b", b, ready)), "both in service", func(s scaling.PoolStatus) bool {
		return is("a", ready)(s) && is("b", ready)(s)
	})
	// An operator's copy of the fragment, loaded as it was.
	stale, err := os.ReadFile(r.fragment)
	if err != nil {
		t.Fatal(err)
	}
	want := wish(member("b", b, ready))
	settle(t, p, want, "a gone", gone("a"))
	if err := os.WriteFile(r.fragment, stale, 0o600); err != nil {
		t.Fatal(err)
	}
	r.reload()
	if m, ok := observe(t, p).Member("a"); !ok || m.State != ready {
		t.Fatalf("the stale line did not come back: %+v", m)
	}
	apply(t, p, want)
	if m, ok := observe(t, p).Member("a"); ok && m.State == ready {
		t.Errorf("a member that is not wished takes traffic: %+v", m)
	}
	settle(t, p, want, "a gone again", gone("a"))
}

func TestForeignServersAndBackendsAreNotTouched(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true})
	p := r.pool()
	a := newGuest(t)
	// A server that another installation added at run time.
	other := "sh-000000-x"
	r.ask("add server web/" + other + " 127.0.0.1:9")
	settle(t, p, wish(member("a", a, ready)), "a in service", is("a", ready))
	if err := p.Apply(t.Context(), scaling.Pool{Group: group, AllowEmpty: true}); err != nil {
		t.Fatal(err)
	}
	settleEmpty(t, p)
	state := r.ask("show servers state")
	for _, name := range []string{" " + foreign + " ", " " + other + " ", " keep "} {
		if !strings.Contains(state, name) {
			t.Errorf("server%sis gone from\n%s", name, state)
		}
	}
}

func settleEmpty(t *testing.T, p *haproxy.Pool) {
	t.Helper()
	testenv.Eventually(t, 10*time.Second, "nothing of ours", func() error {
		if err := p.Apply(t.Context(), scaling.Pool{Group: group, AllowEmpty: true}); err != nil {
			return err
		}
		for _, m := range observe(t, p).Members {
			if !m.Foreign {
				return fmt.Errorf("%+v", m)
			}
		}
		return nil
	})
}

func TestAForeignServerWithAMembersAddressIsAConflict(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true})
	p := r.pool()
	a := newGuest(t)
	err := p.Apply(t.Context(), wish(member("a", a, ready), member("twin", r.static, ready)))
	if err == nil || scaling.ClassOf(err) != scaling.Conflict || !strings.Contains(err.Error(), foreign) {
		t.Fatalf("the error is %v, want a conflict that names %s", err, foreign)
	}
	status := observe(t, p)
	if _, ok := status.Member("twin"); ok {
		t.Error("the member was added beside the server with its address")
	}
	if _, ok := status.Member("a"); !ok {
		t.Error("the other member was not added")
	}
}

func TestATwinConcernsItsMemberAndNobodyElse(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true})
	p := r.pool()
	a, b, c := newGuest(t), newGuest(t), newGuest(t)
	// The members of an error that everything else was applied in spite of.
	concerns := func(err error) []string {
		if partial, ok := errors.AsType[interface {
			error
			Members() []string
		}](err); ok {
			return partial.Members()
		}
		return nil
	}
	twin := func(state scaling.MemberState) scaling.Member { return member("twin", r.static, state) }
	// An adopted VM that haproxy.cfg lists: all others come and go beside it.
	for _, want := range []struct {
		desc string
		wish scaling.Pool
		done func(scaling.PoolStatus) bool
	}{
		{"a and c in service", wish(twin(ready), member("a", a, ready), member("c", c, ready)), func(s scaling.PoolStatus) bool { return is("a", ready)(s) && is("c", ready)(s) }},
		{"b checked", wish(twin(ready), member("a", a, ready), member("b", b, joining), member("c", c, ready)), is("b", joining)},
		{"a drained", wish(twin(ready), member("a", a, draining), member("b", b, ready), member("c", c, ready)), quiet("a")},
		{"a gone", wish(twin(ready), member("a", a, leaving), member("b", b, ready), member("c", c, ready)), gone("a")},
		{"c gone", wish(twin(ready), member("b", b, ready)), gone("c")},
	} {
		testenv.Eventually(t, 20*time.Second, want.desc, func() error {
			err := p.Apply(t.Context(), want.wish)
			if ids := concerns(err); scaling.ClassOf(err) != scaling.Conflict || len(ids) != 1 || ids[0] != "twin" {
				t.Fatalf("the error is %v and concerns %v, want a conflict of the twin alone", err, ids)
			}
			if s := observe(t, p); !want.done(s) {
				return fmt.Errorf("the pool is %+v", s.Members)
			}
			return nil
		})
	}
	// Whoever is to serve no more has no conflict, whatever was added beside it.
	for _, state := range []scaling.MemberState{draining, leaving} {
		settle(t, p, wish(twin(state), member("b", b, ready)), "a twin that is "+string(state), is("b", ready))
	}
	settle(t, p, wish(twin(leaving), member("b", b, ready)), "the twin gone", gone("twin"))
	// With the line gone, the member is added like any other.
	if answer := r.ask("set server web/" + foreign + " state maint"); strings.TrimSpace(answer) != "" {
		t.Fatal(answer)
	}
	testenv.Eventually(t, 10*time.Second, "the line to be gone", func() error {
		if answer := r.ask("del server web/" + foreign); !strings.Contains(answer, "deleted") {
			return errors.New(answer)
		}
		return nil
	})
	settle(t, p, wish(twin(ready), member("b", b, ready)), "the former twin in service", is("twin", ready))
}

func TestALeavingMemberIsCutWhenItsGraceIsOver(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true, noStatic: true})
	p := r.pool()
	a, b := newGuest(t), newGuest(t)
	settle(t, p, wish(member("a", a, ready)), "a in service", is("a", ready))
	answers := make(chan error, 2)
	send := func(hold string) {
		before := a.inFlight()
		go func() { answers <- post(t.Context(), r.front, hold) }()
		testenv.Eventually(t, 5*time.Second, "the request to arrive", func() error {
			if a.inFlight() == before {
				return errors.New("not there")
			}
			return nil
		})
	}
	send("20s")
	send("500ms")
	settle(t, p, wish(member("a", a, ready), member("b", b, ready)), "b in service", is("b", ready))
	start := time.Now()
	want := wish(member("a", a, leaving), member("b", b, ready))
	apply(t, p, want)
	if m, ok := observe(t, p).Member("a"); !ok || m.State != leaving || m.Sessions == 0 {
		t.Errorf("after the first apply the member is %+v (%v), want it there with its sessions", m, ok)
	}
	if err := post(t.Context(), r.front, "0s"); err != nil || b.served.Load() == 0 {
		t.Errorf("a request beside the leaving member: %v, %d arrived", err, b.served.Load())
	}
	settle(t, p, want, "a gone", gone("a"))
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the member was gone after %v only", took)
	}
	if err := <-answers; err != nil {
		t.Errorf("a request that ended within the grace was lost: %v", err)
	}
	if err := <-answers; err == nil {
		t.Error("a request of 20s was answered: nothing was cut")
	}
}

func TestHostileValuesAreRefusedBeforeAnythingIsSent(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true})
	p := r.pool()
	a := newGuest(t)
	before := r.ask("show servers state web")
	for _, id := range []string{"a;show info", "a\nshow info", "a b", "", "a/b", "a;set server web/" + foreign + " state maint", `a\`, strings.Repeat("x", 300)} {
		err := p.Apply(t.Context(), wish(member("good", a, ready), member(id, a, ready)))
		if err == nil || scaling.ClassOf(err) != scaling.Permanent {
			t.Errorf("the id %q: %v, want a permanent error", id, err)
		}
	}
	if _, ok := observe(t, p).Member("good"); ok {
		t.Error("half of a refused wish was applied")
	}
	if count := strings.Count(before, "\n"); strings.Count(r.ask("show servers state web"), "\n") != count {
		t.Error("a refused wish changed the backend")
	}
}

func TestABackendWithoutADynamicAlgorithmIsPermanent(t *testing.T) {
	r := newRig(t, rigOptions{balance: "static-rr"})
	err := r.pool().Apply(t.Context(), wish(member("a", newGuest(t), ready)))
	if err == nil || scaling.ClassOf(err) != scaling.Permanent || !strings.Contains(err.Error(), "dynamic") {
		t.Errorf("the error is %v, want a permanent one that says what is needed", err)
	}
}

// post sends one POST that its backend holds, and expects its answer.
func post(ctx context.Context, addr, hold string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/?hold="+hold, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := client.Do(q)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", answer.Status)
	}
	return nil
}
