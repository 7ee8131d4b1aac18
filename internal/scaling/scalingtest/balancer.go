package scalingtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/scaling"
)

// settleTime bounds every wait of the balancer's suite, unless it is given more.
const settleTime = 20 * time.Second

// BalancerUnderTest is one group's pool at a balancer, without members of ours.
type BalancerUnderTest struct {
	Balancer scaling.Balancer
	Group    string
	// URL is where clients reach the pool. Empty if the balancer carries no
	// traffic; then what needs clients is not part of the suite.
	URL string
	// Foreign is the name of a member that is not ours and was there before.
	// Empty if there is none.
	Foreign string
	// Backend starts what a member points to and stops it when the test ends; nil
	// is an HTTP server on loopback whose /health says whether it is healthy.
	Backend func(t *testing.T) Backend
	// Unreachable, if set, returns a balancer of the kind that cannot be reached,
	// Silent one that accepts calls and never answers, Missing one whose pool does
	// not exist.
	Unreachable, Silent, Missing func(t *testing.T) scaling.Balancer
	// Settle bounds every wait for the balancer, where a change takes it seconds. At least
	// 20s.
	Settle time.Duration
}

// Backend is what a member points to.
type Backend interface {
	Addr() netip.AddrPort
	// SetHealthy decides what a check finds from now on.
	SetHealthy(healthy bool)
}

// Balancer runs the conformance suite of scaling.Balancer. fresh is called once
// per case and cleans up after itself.
func Balancer(t *testing.T, fresh func(t *testing.T) BalancerUnderTest) {
	cases := []struct {
		name string
		// needs reports whether the balancer has what the case is about.
		needs func(b BalancerUnderTest, c scaling.Capabilities) bool
		run   func(t *testing.T, b *balancerCase)
	}{
		{"an empty pool has no members of ours", always, balancerStartsEmpty},
		{"a joining member is checked and not in service", always, balancerJoins},
		{"a joining member gets no traffic, healthy or not", carries, balancerJoinsWithoutTraffic},
		{"a member wished ready gets no traffic before its first check", carries, balancerChecksFirst},
		{"a ready member gets traffic", carries, balancerReadies},
		{"applying a wish twice changes nothing", always, balancerIsIdempotent},
		{"a member whose check fails reads down and comes up again", health, balancerSeesHealth},
		{"a drain keeps what is in flight and takes nothing new", drains, balancerDrains},
		{"a drain that is cancelled brings the traffic back", drains, balancerCancelsDrain},
		{"a leaving member goes with what it has", always, balancerLeaves},
		{"a leaving member's last request may end by itself", drains, balancerLeavesLast},
		{"a member that is not wished leaves without being cut", drains, balancerForgets},
		{"a member that moved to another address is followed", always, balancerMoves},
		{"an empty wish is refused unless it says so", always, balancerRefusesEmpty},
		{"what is foreign is shown and left alone", hasForeign, balancerLeavesForeign},
		{"a context that ended ends the call", always, balancerHonoursContext},
		{"an unreachable balancer is temporary", func(b BalancerUnderTest, _ scaling.Capabilities) bool { return b.Unreachable != nil }, balancerUnreachable},
		{"a balancer that never answers holds nobody past the deadline", func(b BalancerUnderTest, _ scaling.Capabilities) bool { return b.Silent != nil }, balancerSilent},
		{"a pool that does not exist is permanent", func(b BalancerUnderTest, _ scaling.Capabilities) bool { return b.Missing != nil }, balancerMissing},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			under := fresh(t)
			if !c.needs(under, under.Balancer.Capabilities()) {
				return
			}
			b := &balancerCase{BalancerUnderTest: under, t: t}
			c.run(t, b)
			b.empty()
		})
	}
}

func always(BalancerUnderTest, scaling.Capabilities) bool { return true }

func carries(b BalancerUnderTest, _ scaling.Capabilities) bool { return b.URL != "" }

func health(_ BalancerUnderTest, c scaling.Capabilities) bool { return c.Health }

func drains(b BalancerUnderTest, c scaling.Capabilities) bool {
	return b.URL != "" && c.Drain && c.Sessions
}

func hasForeign(b BalancerUnderTest, _ scaling.Capabilities) bool { return b.Foreign != "" }

func balancerStartsEmpty(t *testing.T, b *balancerCase) {
	for _, m := range b.observe().Members {
		if !m.Foreign || m.ID != "" {
			t.Errorf("a fresh pool has %+v", m)
		}
	}
}

func balancerJoins(t *testing.T, b *balancerCase) {
	a := b.backend()
	b.apply(member("a", a, scaling.MemberJoining))
	m := b.member("a")
	if m.State != scaling.MemberJoining || m.Addr != a.Addr() || m.Foreign || m.Server == "" {
		t.Errorf("after its join the member is %+v, want it joining at %v", m, a.Addr())
	}
	if b.Balancer.Capabilities().Health {
		b.until("its check passes", health1("a", scaling.HealthUp), member("a", a, scaling.MemberJoining))
	}
	if m := b.member("a"); m.State != scaling.MemberJoining {
		t.Errorf("a joining member became %s by itself", m.State)
	}
}

func balancerJoinsWithoutTraffic(t *testing.T, b *balancerCase) {
	first, second := b.server(), b.server()
	b.inService(member("a", first, scaling.MemberReady))
	second.SetHealthy(false)
	b.apply(member("a", first, scaling.MemberReady), member("b", second, scaling.MemberJoining))
	b.send(20)
	second.SetHealthy(true)
	b.until("the check of b passes", health1("b", scaling.HealthUp),
		member("a", first, scaling.MemberReady), member("b", second, scaling.MemberJoining))
	b.send(20)
	if n := second.served.Load(); n != 0 {
		t.Errorf("a joining member got %d requests", n)
	}
}

func balancerChecksFirst(t *testing.T, b *balancerCase) {
	first, second := b.server(), b.server()
	b.inService(member("a", first, scaling.MemberReady))
	second.SetHealthy(false)
	for range 5 {
		b.apply(member("a", first, scaling.MemberReady), member("b", second, scaling.MemberReady))
		b.send(10)
	}
	if n := second.served.Load(); n != 0 {
		t.Errorf("a member that failed every check so far got %d requests", n)
	}
	second.SetHealthy(true)
	b.inService(member("a", first, scaling.MemberReady), member("b", second, scaling.MemberReady))
	b.awaitTraffic(second)
}

func balancerReadies(_ *testing.T, b *balancerCase) {
	first := b.server()
	b.apply(member("a", first, scaling.MemberJoining))
	b.inService(member("a", first, scaling.MemberReady))
	b.awaitTraffic(first)
}

func balancerIsIdempotent(t *testing.T, b *balancerCase) {
	first, second := b.backend(), b.backend()
	want := []scaling.Member{member("a", first, scaling.MemberReady), member("b", second, scaling.MemberDraining)}
	b.inService(member("a", first, scaling.MemberReady), member("b", second, scaling.MemberReady))
	b.apply(want...)
	before := b.observe()
	b.apply(want...)
	if diff := cmp.Diff(before, b.observe(), cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.IgnoreFields(scaling.MemberStatus{}, "Sessions", "Health")); diff != "" {
		t.Errorf("the second apply of the same wish changed the pool (-before +after):\n%s", diff)
	}
}

func balancerSeesHealth(_ *testing.T, b *balancerCase) {
	first := b.backend()
	ready := member("a", first, scaling.MemberReady)
	b.inService(ready)
	first.SetHealthy(false)
	b.until("the member reads down", health1("a", scaling.HealthDown), ready)
	first.SetHealthy(true)
	b.inService(ready)
}

func balancerDrains(t *testing.T, b *balancerCase) {
	first, second := b.server(), b.server()
	b.inService(member("a", first, scaling.MemberReady))
	held := b.hold(first)
	b.inService(member("a", first, scaling.MemberReady), member("b", second, scaling.MemberReady))
	want := []scaling.Member{member("a", first, scaling.MemberDraining), member("b", second, scaling.MemberReady)}
	b.apply(want...)
	before := first.served.Load()
	b.send(20)
	if n := first.served.Load() - before; n != 0 {
		t.Errorf("a draining member got %d new requests", n)
	}
	if m := b.member("a"); m.State != scaling.MemberDraining || m.Sessions == 0 {
		t.Errorf("with a request in flight the draining member is %+v", m)
	}
	held.release()
	b.until("the sessions end", func(s scaling.PoolStatus) bool {
		m, ok := s.Member("a")
		return ok && m.Sessions == 0
	}, want...)
}

func balancerCancelsDrain(t *testing.T, b *balancerCase) {
	first, second := b.server(), b.server()
	both := []scaling.Member{member("a", first, scaling.MemberReady), member("b", second, scaling.MemberReady)}
	b.inService(both...)
	b.apply(member("a", first, scaling.MemberDraining), member("b", second, scaling.MemberReady))
	if m := b.member("b"); m.State != scaling.MemberReady {
		t.Errorf("the drain of a left b %s", m.State)
	}
	b.inService(both...)
	b.awaitTraffic(first)
}

func balancerLeaves(_ *testing.T, b *balancerCase) {
	first, second := b.backend(), b.backend()
	b.inService(member("a", first, scaling.MemberReady), member("b", second, scaling.MemberReady))
	if server, ok := first.(*httpBackend); ok && b.URL != "" {
		held := b.holdAny(server)
		defer held.abandon()
	}
	b.until("the member is gone", absent("a"), member("a", first, scaling.MemberLeaving), member("b", second, scaling.MemberReady))
}

// balancerLeavesLast gives a member a request that no observation saw: its sessions
// are not cut by the first Apply that wishes it leaving.
func balancerLeavesLast(t *testing.T, b *balancerCase) {
	first, second := b.server(), b.server()
	b.inService(member("a", first, scaling.MemberReady))
	held := b.hold(first)
	b.inService(member("a", first, scaling.MemberReady), member("b", second, scaling.MemberReady))
	want := []scaling.Member{member("a", first, scaling.MemberLeaving), member("b", second, scaling.MemberReady)}
	b.apply(want...)
	before := first.served.Load()
	b.send(20)
	if n := first.served.Load() - before; n != 0 {
		t.Errorf("a leaving member got %d new requests", n)
	}
	held.release()
	b.until("the member is gone", absent("a"), want...)
}

func balancerForgets(t *testing.T, b *balancerCase) {
	first, second := b.server(), b.server()
	b.inService(member("a", first, scaling.MemberReady))
	held := b.hold(first)
	b.inService(member("a", first, scaling.MemberReady), member("b", second, scaling.MemberReady))
	for range 3 {
		b.apply(member("b", second, scaling.MemberReady))
	}
	before := first.served.Load()
	b.send(20)
	if n := first.served.Load() - before; n != 0 {
		t.Errorf("a member that is not wished got %d new requests", n)
	}
	held.release()
	b.until("the member is gone", absent("a"), member("b", second, scaling.MemberReady))
}

func balancerMoves(t *testing.T, b *balancerCase) {
	first, second := b.backend(), b.backend()
	b.inService(member("a", first, scaling.MemberReady))
	b.until("the member is at its new address", func(s scaling.PoolStatus) bool {
		m, ok := s.Member("a")
		return ok && m.Addr == second.Addr() && m.State == scaling.MemberReady
	}, member("a", second, scaling.MemberReady))
	n := 0
	for _, m := range b.observe().Members {
		if m.ID == "a" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("the member is listed %d times", n)
	}
}

func balancerRefusesEmpty(t *testing.T, b *balancerCase) {
	first := b.backend()
	b.inService(member("a", first, scaling.MemberReady))
	if err := b.Balancer.Apply(t.Context(), scaling.Pool{Group: b.Group}); err == nil {
		t.Error("a wish without members was accepted")
	}
	if m := b.member("a"); m.State != scaling.MemberReady {
		t.Errorf("the refused wish left the member %s", m.State)
	}
	b.empty()
}

func balancerLeavesForeign(t *testing.T, b *balancerCase) {
	find := func() scaling.MemberStatus {
		for _, m := range b.observe().Members {
			if m.Server == b.Foreign {
				return m
			}
		}
		t.Fatalf("the foreign member %q is not shown", b.Foreign)
		return scaling.MemberStatus{}
	}
	before := find()
	if !before.Foreign || before.ID != "" {
		t.Errorf("the foreign member reads %+v", before)
	}
	first := b.backend()
	b.inService(member("a", first, scaling.MemberReady))
	b.apply(member("a", first, scaling.MemberDraining))
	b.empty()
	if diff := cmp.Diff(before, find(), cmpopts.EquateComparable(netip.AddrPort{}), cmpopts.IgnoreFields(scaling.MemberStatus{}, "Sessions", "Health")); diff != "" {
		t.Errorf("the foreign member was changed (-before +after):\n%s", diff)
	}
}

func balancerHonoursContext(t *testing.T, b *balancerCase) {
	first := b.backend()
	b.inService(member("a", first, scaling.MemberReady))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Balancer.Observe(ctx); err == nil {
		t.Error("Observe worked with a cancelled context")
	}
	if err := b.Balancer.Apply(ctx, scaling.Pool{Group: b.Group, Members: []scaling.Member{member("a", first, scaling.MemberDraining)}}); err == nil {
		t.Error("Apply worked with a cancelled context")
	}
	if m := b.member("a"); m.State != scaling.MemberReady {
		t.Errorf("a call with a cancelled context left the member %s", m.State)
	}
}

func balancerUnreachable(t *testing.T, b *balancerCase) {
	expectClass(t, b, b.Unreachable(t), scaling.Temporary)
}

func balancerMissing(t *testing.T, b *balancerCase) {
	expectClass(t, b, b.Missing(t), scaling.Permanent)
}

func expectClass(t *testing.T, b *balancerCase, broken scaling.Balancer, class scaling.Class) {
	t.Helper()
	want := scaling.Pool{Group: b.Group, Members: []scaling.Member{member("a", b.backend(), scaling.MemberReady)}}
	_, err := broken.Observe(t.Context())
	if err == nil || scaling.ClassOf(err) != class {
		t.Errorf("Observe: %v, want an error of class %v", err, class)
	}
	err = broken.Apply(t.Context(), want)
	if err == nil || scaling.ClassOf(err) != class {
		t.Errorf("Apply: %v, want an error of class %v", err, class)
	}
}

func balancerSilent(t *testing.T, b *balancerCase) {
	silent := b.Silent(t)
	want := scaling.Pool{Group: b.Group, Members: []scaling.Member{member("a", b.backend(), scaling.MemberReady)}}
	for name, call := range map[string]func(context.Context) error{
		"Apply": func(ctx context.Context) error { return silent.Apply(ctx, want) },
		"Observe": func(ctx context.Context) error {
			_, err := silent.Observe(ctx)
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		done := make(chan error, 1)
		go func() { done <- call(ctx) }()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%s worked without an answer", name)
			}
		case <-time.After(settleTime):
			t.Errorf("%s did not end with its context", name)
		}
		cancel()
	}
}

// balancerCase is a case that runs.
type balancerCase struct {
	BalancerUnderTest
	t *testing.T
}

func member(id string, b Backend, state scaling.MemberState) scaling.Member {
	return scaling.Member{ID: id, Name: "autoscale-" + id, Addr: b.Addr(), State: state}
}

func (b *balancerCase) backend() Backend {
	b.t.Helper()
	if b.Backend != nil {
		return b.Backend(b.t)
	}
	return b.server()
}

func (b *balancerCase) observe() scaling.PoolStatus {
	b.t.Helper()
	status, err := b.Balancer.Observe(b.t.Context())
	if err != nil {
		b.t.Fatalf("observe: %v", err)
	}
	return status
}

func (b *balancerCase) member(id string) scaling.MemberStatus {
	b.t.Helper()
	m, ok := b.observe().Member(id)
	if !ok {
		b.t.Fatalf("member %s is not in the pool", id)
	}
	return m
}

func (b *balancerCase) apply(members ...scaling.Member) {
	b.t.Helper()
	if err := b.Balancer.Apply(b.t.Context(), scaling.Pool{Group: b.Group, Members: members}); err != nil {
		b.t.Fatalf("apply: %v", err)
	}
}

// until applies the wish and observes, over and over, as an engine does.
func (b *balancerCase) until(desc string, done func(scaling.PoolStatus) bool, members ...scaling.Member) {
	b.t.Helper()
	b.await(desc, done, scaling.Pool{Group: b.Group, Members: members})
}

func (b *balancerCase) await(desc string, done func(scaling.PoolStatus) bool, want scaling.Pool) {
	b.t.Helper()
	b.eventually(desc, func() error {
		if err := b.Balancer.Apply(b.t.Context(), want); err != nil {
			return err
		}
		if s := b.observe(); !done(s) {
			return fmt.Errorf("the pool is %+v", s.Members)
		}
		return nil
	})
}

func (b *balancerCase) eventually(desc string, check func() error) {
	b.t.Helper()
	end := time.Now().Add(max(b.Settle, settleTime))
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("waiting until %s: %v", desc, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// inService brings the members, all wished ready, into service.
func (b *balancerCase) inService(members ...scaling.Member) {
	b.t.Helper()
	b.until("all members are ready and up", func(s scaling.PoolStatus) bool {
		for _, want := range members {
			m, ok := s.Member(want.ID)
			if !ok || m.State != scaling.MemberReady || b.Balancer.Capabilities().Health && m.Health != scaling.HealthUp {
				return false
			}
		}
		return true
	}, members...)
}

// empty releases the pool: nothing of ours stays.
func (b *balancerCase) empty() {
	b.t.Helper()
	b.await("the pool is empty", func(s scaling.PoolStatus) bool {
		for _, m := range s.Members {
			if !m.Foreign {
				return false
			}
		}
		return true
	}, scaling.Pool{Group: b.Group, AllowEmpty: true})
}

func health1(id string, h scaling.Health) func(scaling.PoolStatus) bool {
	return func(s scaling.PoolStatus) bool {
		m, ok := s.Member(id)
		return ok && m.Health == h
	}
}

func absent(id string) func(scaling.PoolStatus) bool {
	return func(s scaling.PoolStatus) bool {
		_, ok := s.Member(id)
		return !ok
	}
}

// httpBackend is an HTTP server behind a member: /health follows SetHealthy,
// /hold/ with its own address answers once it is released, everything else is
// counted and answered at once.
type httpBackend struct {
	addr    netip.AddrPort
	sick    atomic.Bool
	served  atomic.Int64
	held    chan struct{} // one per request that arrived at /hold
	release chan struct{}
}

func (h *httpBackend) Addr() netip.AddrPort    { return h.addr }
func (h *httpBackend) SetHealthy(healthy bool) { h.sick.Store(!healthy) }

// ServeHTTP implements http.Handler.
func (h *httpBackend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/health":
		if h.sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		return
	case "/hold/" + h.addr.String():
		h.held <- struct{}{}
		select {
		case <-h.release:
		case <-r.Context().Done():
			return
		}
	}
	h.served.Add(1)
	_, _ = io.WriteString(w, h.addr.String())
}

func (b *balancerCase) server() *httpBackend {
	b.t.Helper()
	h := &httpBackend{held: make(chan struct{}, 100), release: make(chan struct{})}
	s := httptest.NewServer(h)
	b.t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	h.addr = netip.MustParseAddrPort(s.Listener.Addr().String())
	return h
}

// request sends one request on a connection of its own and expects its answer. A
// POST, since Go's client repeats some GETs by itself.
func (b *balancerCase) request(ctx context.Context, path string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, b.URL+path, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := client.Do(q)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return errors.New("answered " + strconv.Itoa(answer.StatusCode))
	}
	return nil
}

// send sends n requests, one after the other, none of which may be lost.
func (b *balancerCase) send(n int) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), settleTime)
	defer cancel()
	for range n {
		if err := b.request(ctx, "/"); err != nil {
			b.t.Errorf("a request was lost: %v", err)
		}
	}
}

func (b *balancerCase) awaitTraffic(h *httpBackend) {
	b.t.Helper()
	b.eventually("traffic arrives", func() error {
		b.send(4)
		if h.served.Load() == 0 {
			return errors.New("no request arrived")
		}
		return nil
	})
}

// held is a request in flight.
type held struct {
	b      *balancerCase
	at     *httpBackend
	cancel context.CancelFunc
	done   chan error
}

// holdAny keeps a request in flight at one backend, by sending until one arrives
// there. Those that go elsewhere are answered at once.
func (b *balancerCase) holdAny(at *httpBackend) *held {
	b.t.Helper()
	for range 100 {
		ctx, cancel := context.WithTimeout(b.t.Context(), settleTime)
		h := &held{b: b, at: at, cancel: cancel, done: make(chan error, 1)}
		go func() { h.done <- b.request(ctx, "/hold/"+at.addr.String()) }()
		select {
		case <-at.held:
			return h
		case err := <-h.done:
			cancel()
			if err != nil {
				b.t.Fatalf("send a request to hold: %v", err)
			}
		}
	}
	b.t.Fatal("no request arrived at the member")
	return nil
}

// hold is holdAny and cleans up if the case fails.
func (b *balancerCase) hold(at *httpBackend) *held {
	b.t.Helper()
	h := b.holdAny(at)
	b.t.Cleanup(h.cancel)
	return h
}

// release lets the request end; its answer must arrive.
func (h *held) release() {
	h.b.t.Helper()
	close(h.at.release)
	if err := <-h.done; err != nil {
		h.b.t.Errorf("the request in flight was lost: %v", err)
	}
	h.cancel()
}

// abandon gives the request up.
func (h *held) abandon() {
	h.cancel()
	if err := <-h.done; err != nil {
		h.b.t.Logf("a request was given up: %v", err)
	}
}
