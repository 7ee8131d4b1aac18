package openstack_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sides are the fault points before and after changes.
func sides(changes ...string) []string {
	var out []string
	for _, c := range changes {
		out = append(out, c+".before", c+".after")
	}
	return out
}

// What follows is where the server is killed, by the set-up in which it is. An order,
// if there is one, is given to the server that is to be killed.

// adoptPoints are passed by an adoption.
func adoptPoints() []string { return sides("openstack.mark server") }

// pairRound is a scale-out that is killed, and a handover of what came of it, which is
// killed while it moves the address, and once more while it removes. Empty: not killed.
type pairRound struct{ create, handover, remove string }

// pairRounds are for a group that has adopted its baseline and the baseline's address.
func pairRounds() []pairRound {
	return []pairRound{
		{"openstack.create port.before", "openstack.move floating IP.before", "openstack.create snapshot.before"},
		{"openstack.create port.after", "openstack.move floating IP.after", "openstack.create snapshot.after"},
		{"openstack.tag port.before", "", "openstack.delete snapshot.before"},
		{"openstack.tag port.after", "", "openstack.delete snapshot.after"},
		{"openstack.create server.before", "", "openstack.delete server.before"},
		{"openstack.create server.after", "", "openstack.delete server.after"},
		{"openstack.tag server.before", "", "openstack.delete port.before"},
		{"openstack.tag server.after", "", "openstack.delete port.after"},
		{"", "", "openstack.stop server.before"},
		{"", "", "openstack.stop server.after"},
	}
}

// memberRounds are for a group whose members have a floating IP each: a scale-out, and a
// handover.
func memberRounds() []pairRound {
	return []pairRound{
		{"openstack.create floating IP.before", "", "openstack.delete floating IP.before"},
		{"openstack.create floating IP.after", "", "openstack.delete floating IP.after"},
		{"openstack.tag floatingip.before", "", ""},
		{"openstack.tag floatingip.after", "", ""},
	}
}

// publicPoints are passed when a group gets a public address of its own, publicMoves
// when that is handed over.
func publicPoints() []string {
	return sides("openstack.create floating IP", "openstack.tag floatingip")
}

func publicMoves() []string { return sides("openstack.move floating IP") }

// octaviaFill is passed by a group's first member, in this order.
func octaviaFill() []string {
	return sides("octavia.load_balancer.create", "octavia.pool.create", "octavia.listener.create", "octavia.monitor.create",
		"octavia.member.create", "octavia.member.update")
}

// octaviaRepairs are passed when somebody changed what was made, octaviaHandover when a
// member goes.
func octaviaRepairs() []string {
	return []string{"octavia.pool.update", "octavia.listener.update", "octavia.monitor.update", "octavia.monitor.delete"}
}

func octaviaHandover() []string { return sides("octavia.member.delete") }

// notKilled are changes at which no test here kills, and why.
func notKilled() map[string]string {
	return map[string]string{
		"openstack.delete volume snapshot": "the lab has no Cinder",
		"openstack.start server":           "for a server that somebody stopped; asked again until it runs",
		"openstack.resume server":          "for a server that somebody suspended; asked again until it runs",
		"openstack.unpause server":         "for a server that somebody paused; asked again until it stops",
		"openstack.describe floating IP":   "letting go, no step of create, handover or delete: TestWhatIsLetGoKeepsAllThatItHasAndNoMark ends it at each of its changes",
		"openstack.describe port":          "as above",
		"openstack.untag floatingips":      "as above",
		"openstack.untag ports":            "as above",
		"openstack.unmark server":          "as above",
	}
}

// TestNoChangeIsLeftOut: at every change that driver and balancer have in their source a
// test kills the server, before and after it, or it is said why not. A test that lists a
// point fails if the server is not killed there.
func TestNoChangeIsLeftOut(t *testing.T) {
	var killed []string
	for _, points := range [][]string{adoptPoints(), publicPoints(), publicMoves(), octaviaFill(), sides(octaviaRepairs()...), octaviaHandover()} {
		killed = append(killed, points...)
	}
	for _, r := range slices.Concat(pairRounds(), memberRounds()) {
		killed = append(killed, r.create, r.handover, r.remove)
	}
	there := slices.Concat(driverChanges(t), balancerChanges(t))
	if len(there) < 30 {
		t.Fatalf("only %d changes were found in the source: %q", len(there), there)
	}
	left := notKilled()
	for _, change := range there {
		_, said := left[change]
		delete(left, change)
		for _, point := range sides(change) {
			if is := slices.Contains(killed, point); is == said {
				t.Errorf("%s: killed there: %v; a reason why not: %v", point, is, said)
			}
		}
	}
	for _, change := range slices.Sorted(maps.Keys(left)) {
		t.Errorf("%s: there is no such change", change)
	}
	for _, point := range killed {
		change := strings.TrimSuffix(strings.TrimSuffix(point, ".before"), ".after")
		if point != "" && !slices.Contains(there, change) {
			t.Errorf("%s: there is no such point", point)
		}
	}
}

// call is a call in a package's source: the name of the function or method, and its
// arguments as they stand there.
type call struct {
	at   string
	name string
	args []string
}

func calls(t *testing.T, folder string) []call {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(folder), "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var out []call
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		p, err := parser.ParseFile(set, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(p, func(n ast.Node) bool {
			e, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			c := call{at: set.Position(e.Pos()).String()}
			switch fun := e.Fun.(type) {
			case *ast.Ident:
				c.name = fun.Name
			case *ast.SelectorExpr:
				c.name = fun.Sel.Name
			}
			for _, a := range e.Args {
				c.args = append(c.args, types.ExprString(a))
			}
			out = append(out, c)
			return true
		})
	}
	return out
}

// texts are the argument n of every call of that name, which must be fixed text.
func texts(t *testing.T, all []call, name string, n, of int) []string {
	t.Helper()
	var out []string
	for _, c := range all {
		if c.name != name || len(c.args) < of {
			continue
		}
		text, err := strconv.Unquote(c.args[n])
		if err != nil {
			t.Errorf("%s: %s of %s is no fixed text: its fault points cannot be listed", c.at, name, c.args[n])
		}
		if !slices.Contains(out, text) {
			out = append(out, text)
		}
	}
	return out
}

// driverChanges are the changes of the provider openstack.
func driverChanges(t *testing.T) []string {
	t.Helper()
	all := calls(t, "../../internal/provider/openstack")
	var out []string
	add := func(name string) {
		if name = "openstack." + name; !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, c := range all {
		if c.name != "change" || len(c.args) != 4 {
			continue
		}
		text, err := strconv.Unquote(c.args[1])
		switch {
		case err == nil:
			add(text)
		case c.args[1] == `"tag " + strings.TrimSuffix(kind, "s")`:
			for _, kind := range texts(t, all, "setTags", 1, 5) {
				add("tag " + strings.TrimSuffix(kind, "s"))
			}
		case c.args[1] == `"untag " + kind`:
			for _, kind := range texts(t, all, "dropTags", 1, 4) {
				add("untag " + kind)
			}
		case c.args[1] == `strings.TrimPrefix(action, "os-") + " server"`:
			for _, action := range texts(t, all, "act", 2, 3) {
				add(strings.TrimPrefix(action, "os-") + " server")
			}
		default:
			t.Errorf("%s: what change %s is is not known here", c.at, c.args[1])
		}
	}
	return out
}

// balancerChanges are the changes of the balancer octavia.
func balancerChanges(t *testing.T) []string {
	t.Helper()
	all := calls(t, "../../internal/balancer/octavia")
	var out []string
	for _, text := range texts(t, all, "write", 2, 5) {
		out = append(out, "octavia."+text)
	}
	for _, c := range all {
		if c.name != "passPoint" {
			continue
		}
		if c.args[0] == `point + ".before"` || c.args[0] == `point + ".after"` {
			continue // in write
		}
		text, err := strconv.Unquote(c.args[0])
		if err != nil {
			t.Errorf("%s: point %s is not known here", c.at, c.args[0])
			continue
		}
		if change, before := strings.CutSuffix("octavia."+text, ".before"); before && !slices.Contains(out, change) {
			out = append(out, change)
		}
	}
	return out
}
