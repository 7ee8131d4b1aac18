//go:build e2e

package crash_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/provider/simulated"
	"github.com/scalehook/scalehook/internal/scaling"
)

const (
	// sideBySide is how many runs with real VMs are played at the same time.
	sideBySide = 3
	// bound is how long a group may take after a start to be what it would have
	// become, beside the call that was interrupted: here no call takes any time.
	bound = 2 * time.Second
)

// TestAKillAtAnyPointIsFinishedOrUndone records an undisturbed life, then plays
// it again and again, killed at a different point each time.
func TestAKillAtAnyPointIsFinishedOrUndone(t *testing.T) {
	program := buildServer(t)
	passed := map[string]bool{}
	var tries []try
	for _, l := range lives() {
		res, points := record(t, &run{stage: simulatedStage{}, life: l, program: program, dir: t.TempDir(), address: address(0)})
		for _, name := range sorted(points) {
			// What one life has shown need not be shown again by the next.
			if passed[name] && !everyPassing {
				continue
			}
			passed[name] = true
			for _, n := range numbers(points[name]) {
				tries = append(tries, try{run: run{again: second(points, len(tries)), stage: simulatedStage{}, life: l, program: program, want: &res}, point: name, number: n})
			}
		}
	}
	checkCoverage(t, passed)
	killAll(t, tries, 8)
}

// TestFaultPoints runs the tests of the fault points themselves, which exist only
// in a binary like that.
func TestFaultPoints(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-tags", "libvirt_dlopen,faultpoints",
		"github.com/scalehook/scalehook/internal/fault").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// record plays a life undisturbed and returns what it led to and how often it
// passed which point.
func record(t *testing.T, r *run) (result, map[string]int) {
	t.Helper()
	r.record = filepath.Join(r.dir, "points")
	began := time.Now()
	res, err := r.play(t.Context())
	if err != nil {
		t.Fatalf("%s, undisturbed: %v\n%s", r.life.name, err, tailOf(r.dir))
	}
	points, passings := readPoints(t, r.record), 0
	for _, n := range points {
		passings += n
	}
	t.Logf("%s: %d points, passed %d times, in %v", r.life.name, len(points), passings, time.Since(began).Round(time.Millisecond))
	return res, points
}

func sorted(points map[string]int) []string { return slices.Sorted(maps.Keys(points)) }

// try is one kill.
type try struct {
	run

	point  string
	number int
}

// numbers are the passings of a point to be tried, of so many.
func numbers(passings int) []int {
	if !everyPassing && passings > 2 {
		return []int{1, passings}
	}
	var all []int
	for n := range passings {
		all = append(all, n+1)
	}
	return all
}

// second is where a server is killed that has just been started after a kill: in
// the chaos run at each of the steps' points in turn.
func second(points map[string]int, k int) string {
	steps := slices.DeleteFunc(sorted(points), func(name string) bool { return !strings.HasPrefix(name, "step.") })
	if !everyPassing || k%2 == 0 {
		return ""
	}
	return steps[k/2%len(steps)] + ":1"
}

// killAll plays the tries, some side by side: they mostly wait. One that came
// late is played again alone, since the machine may have been busy with the others.
func killAll(t *testing.T, tries []try, workers int) {
	t.Helper()
	k := &killer{t: t, base: t.TempDir()}
	began := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < len(tries) && t.Context().Err() == nil; n = int(next.Add(1)) - 1 {
				if err := k.kill(tries[n], worker); err != nil {
					k.mu.Lock()
					k.late = append(k.late, tries[n])
					k.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	for _, tr := range k.late {
		err := k.kill(tr, 0)
		for again := 1; err != nil && again < 3; again++ {
			err = k.kill(tr, 0)
		}
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d kills in %v, %d of them repeated alone; the slowest took %v after its start (%s), the slowest start %v", k.kills,
		time.Since(began).Round(time.Second), len(k.late), k.slowest.Round(time.Millisecond), k.where, k.slowestStart.Round(time.Millisecond))
}

// killer is what killAll knows.
type killer struct {
	t    *testing.T
	base string

	mu                    sync.Mutex
	played, kills         int
	late                  []try
	slowest, slowestStart time.Duration
	where                 string // the slowest that was in time
}

// kill plays a try. An error says that it was late; whatever else is wrong fails
// the test.
func (k *killer) kill(tr try, worker int) error {
	k.mu.Lock()
	k.played++
	number := k.played
	k.mu.Unlock()
	tr.address = address(worker + 1)
	if tr.stage.real() {
		tr.prefix = fmt.Sprintf("r%d-", number)
	}
	res, err := tr.play(k.t.Context(), filepath.Join(k.base, strconv.Itoa(number)))
	name := fmt.Sprintf("%s, killed at passing %d of %s (%d kills) in phase %q", tr.life.name, tr.number, tr.point, res.kills, res.phase)
	if err != nil {
		k.t.Errorf("%s: %v", name, err)
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kills += res.kills
	k.slowestStart = max(k.slowestStart, res.start)
	if limit := bound + tr.allowance(res.phase); res.took > limit {
		return fmt.Errorf("%s: %v from the next server's start to the end of the phase, want at most %v", name, res.took, limit)
	}
	if res.took > k.slowest && (tr.stage.real() || tr.allowance(res.phase) == 0) {
		k.slowest, k.where = res.took, name
	}
	return nil
}

// play plays a life with its kill. How often a point is passed depends a little
// on the clock, so that the last passing of one life may not come in the next;
// then the one before it is tried.
func (tr *try) play(ctx context.Context, dir string) (res result, err error) {
	for n := tr.number; n > 0; n-- {
		tr.number, tr.dir = n, fmt.Sprintf("%s-%d", dir, n)
		tr.kill = fmt.Sprintf("%s:%d", tr.point, n)
		if err := os.MkdirAll(tr.dir, 0o700); err != nil {
			return res, err
		}
		res, err = tr.run.play(ctx)
		if err != nil {
			return res, fmt.Errorf("%w\n%s", err, tailOf(tr.dir))
		}
		if err := os.RemoveAll(tr.dir); err != nil {
			return res, err
		}
		if res.kills > 0 {
			return res, nil
		}
	}
	return res, errors.New("the point was not passed")
}

// allowance is what a phase may take beside the bound: what it waits for on
// purpose. Real VMs take the time that the machine gives them, and the bound is
// the simulated ones' to show.
func (tr *try) allowance(phase string) time.Duration {
	if tr.stage.real() {
		return patience * realPatience
	}
	for _, ph := range tr.life.phases {
		if ph.name == phase {
			return ph.slow
		}
	}
	return 0
}

// address is a loopback address of this program's and a worker's own, so that no
// two servers take each other's port.
func address(worker int) string {
	pid := os.Getpid()
	return fmt.Sprintf("127.%d.%d.%d:10070", 100+pid/250%100, pid%250, worker+1)
}

// readPoints returns how often each point was passed.
func readPoints(t *testing.T, file string) map[string]int {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	points := map[string]int{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 3 {
			t.Fatalf("a line of %s: %q", file, lines.Text())
		}
		points[fields[0]]++
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return points
}

// tailOf is the end of the servers' log.
func tailOf(dir string) string {
	content, err := os.ReadFile(filepath.Join(dir, "server.log"))
	if err != nil {
		return err.Error()
	}
	const most = 6000
	return string(content[max(0, len(content)-most):])
}

// snake is a method's name as the points have it.
func snake(name string) string {
	return strings.ToLower(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(name, "${1}_$2"))
}

// checkCoverage holds the points that the lives passed against the domain: a new
// state, a new method of a contract or a new point of the simulated provider that
// no life passes fails here.
func checkCoverage(t *testing.T, passed map[string]bool) {
	t.Helper()
	want := map[string]bool{}
	for _, s := range scaling.InstanceStates() {
		want["step."+string(s)] = true
	}
	// Steps of activities that are no states of an instance.
	for _, step := range []string{"successor", "leave", "shutdown", "delete"} {
		want["step."+step] = true
	}
	for contract, of := range map[string]reflect.Type{
		"provider":  reflect.TypeFor[scaling.Provider](),
		"provider ": reflect.TypeFor[scaling.Shutdowner](), "provider  ": reflect.TypeFor[scaling.Adopter](),
		"provider   ": reflect.TypeFor[scaling.Snapshotter](), "provider    ": reflect.TypeFor[scaling.Addresser](),
		"balancer": reflect.TypeFor[scaling.Balancer](),
		"store":    reflect.TypeFor[scaling.Store](),
	} {
		for m := range of.Methods() {
			want[strings.TrimSpace(contract)+"."+snake(m.Name)] = true
		}
	}
	// Capabilities and HasAddress ask nobody; nobody lists the store's groups; when the store is
	// closed nothing is under way any more.
	for _, name := range []string{"balancer.capabilities", "provider.has_address", "store.groups", "store.close"} {
		delete(want, name)
	}
	for name := range want {
		for _, side := range []string{".before", ".after"} {
			if !passed[name+side] {
				t.Errorf("no life passes %s%s", name, side)
			}
		}
	}
	for _, point := range simulated.FaultPoints() {
		if !strings.HasSuffix(point, ".before") && !strings.HasSuffix(point, ".after") && !passed["simulated."+point] {
			t.Errorf("no life passes simulated.%s", point)
		}
	}
}
