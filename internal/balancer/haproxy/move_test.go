package haproxy_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

// allReady is the wish for members m0, m1 … at the guests' addresses.
func allReady(guests []*guest) scaling.Pool {
	var members []scaling.Member
	for i, g := range guests {
		members = append(members, member(fmt.Sprintf("m%d", i), g, ready))
	}
	return wish(members...)
}

// serving counts the members that take traffic, and those of them at these guests.
func serving(s scaling.PoolStatus, guests []*guest) (all, there int) {
	for i, g := range guests {
		if m, ok := s.Member(fmt.Sprintf("m%d", i)); ok && m.State == ready && m.Health == scaling.HealthUp {
			all++
			if m.Addr == g.addr {
				there++
			}
		}
	}
	return all, there
}

func guests(t *testing.T, n int) []*guest {
	t.Helper()
	var all []*guest
	for range n {
		all = append(all, newGuest(t))
	}
	return all
}

func TestMembersThatAllMoveAreReplacedOneByOneAndNothingIsLost(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true, noStatic: true})
	p := r.pool()
	before, after := guests(t, 3), guests(t, 3)
	settle(t, p, allReady(before), "all in service", func(s scaling.PoolStatus) bool { n, _ := serving(s, before); return n == 3 })
	l := startLoad(t, r.front, 8, false)
	least := 3
	settle(t, p, allReady(after), "all at their new addresses", func(s scaling.PoolStatus) bool {
		all, moved := serving(s, after)
		least = min(least, all)
		text, err := os.ReadFile(r.fragment)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), " check "); n < 2 {
			t.Errorf("a reload would start %d members:\n%s", n, text)
		}
		return moved == 3
	})
	if least < 2 {
		t.Errorf("only %d of 3 members served while they moved", least)
	}
	l.finish(50)
}

func TestAPortOnWhichNobodyListensCostsOneMember(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true, noStatic: true})
	p := r.pool()
	before, after := guests(t, 3), guests(t, 3)
	for _, g := range after {
		g.healthy.Store(false)
	}
	settle(t, p, allReady(before), "all in service", func(s scaling.PoolStatus) bool { n, _ := serving(s, before); return n == 3 })
	want := allReady(after)
	settle(t, p, want, "the first to fail its check", func(s scaling.PoolStatus) bool {
		m, ok := s.Member("m0")
		return ok && m.Addr == after[0].addr && m.Health == scaling.HealthDown
	})
	for range 20 {
		apply(t, p, want)
		if all, _ := serving(observe(t, p), after); all != 2 {
			t.Fatalf("%d members serve, want the two that have not moved", all)
		}
	}
	// Taken back, it is as before.
	settle(t, p, allReady(before), "all in service again", func(s scaling.PoolStatus) bool { _, n := serving(s, before); return n == 3 })
}

func TestMembersThatFailWhereTheyAreMoveAtOnce(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true, noStatic: true})
	p := r.pool()
	before, after := guests(t, 3), guests(t, 3)
	settle(t, p, allReady(before), "all in service", func(s scaling.PoolStatus) bool { n, _ := serving(s, before); return n == 3 })
	for _, g := range before {
		g.healthy.Store(false)
	}
	testenv.Eventually(t, 10*time.Second, "all to fail", func() error {
		if n, _ := serving(observe(t, p), before); n > 0 {
			return fmt.Errorf("%d serve", n)
		}
		return nil
	})
	want := allReady(after)
	for range 3 { // drained, removed, added
		apply(t, p, want)
	}
	for i, g := range after {
		if m, ok := observe(t, p).Member(fmt.Sprintf("m%d", i)); !ok || m.Addr != g.addr {
			t.Errorf("after three applies m%d is %+v, want it at %v", i, m, g.addr)
		}
	}
	settle(t, p, want, "all at their new addresses", func(s scaling.PoolStatus) bool { _, n := serving(s, after); return n == 3 })
}

func TestAReloadWhileMembersMoveLosesNothing(t *testing.T) {
	r := newRig(t, rigOptions{fragment: true, noStatic: true})
	p := r.pool()
	before, after := guests(t, 2), guests(t, 2)
	settle(t, p, allReady(before), "all in service", func(s scaling.PoolStatus) bool { n, _ := serving(s, before); return n == 2 })
	l := startLoad(t, r.front, 8, false)
	want := allReady(after)
	apply(t, p, want)
	r.reload()
	settle(t, p, want, "all at their new addresses", func(s scaling.PoolStatus) bool { _, n := serving(s, after); return n == 2 })
	l.finish(50)
}
