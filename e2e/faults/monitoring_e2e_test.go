//go:build e2e

package faults_test

import (
	"bufio"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/testenv"
)

// monitoring is a real Prometheus with the real rules, and real Alertmanagers
// that post to a server.
type monitoring struct {
	t          *testing.T
	dir        string
	server     string
	prometheus string
	peers      []peer
}

// peer is one Alertmanager.
type peer struct{ web, cluster string }

// newMonitoring writes the configurations and starts nothing yet. Alertmanager
// holds an alert for four times resend after Prometheus last sent it.
func newMonitoring(t *testing.T, peers int) *monitoring {
	t.Helper()
	testenv.Need(t, testenv.Program("prometheus"), testenv.Program("prometheus-alertmanager"))
	m := &monitoring{t: t, dir: folder(t), server: testenv.FreeAddress(t), prometheus: testenv.FreeAddress(t)}
	var targets []string
	for range peers {
		p := peer{testenv.FreeAddress(t), testenv.FreeAddress(t)}
		m.peers = append(m.peers, p)
		targets = append(targets, strconv.Quote(p.web))
	}
	rules, err := exec.CommandContext(t.Context(), program("scalehook"), "rules", "--scrape-interval", "1s").Output()
	if err != nil {
		t.Fatal(err)
	}
	write(t, m.path("rules.yml"), string(rules))
	write(t, m.path("prometheus.yml"), fmt.Sprintf(`global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%q]
alerting: {alertmanagers: [{static_configs: [{targets: [%s]}]}]}
scrape_configs: [{job_name: scalehook, static_configs: [{targets: [%q]}]}]
`, m.path("rules.yml"), strings.Join(targets, ", "), m.server))
	write(t, m.path("alertmanager.yml"), fmt.Sprintf(`route:
  receiver: nobody
  routes:
    - {matchers: ['scalehook_signal=~"high|low"'], receiver: scalehook, group_by: [scaling_group], group_wait: 0s, group_interval: 1s, repeat_interval: 2s}
receivers:
  - name: nobody
  - name: scalehook
    webhook_configs: [{url: "http://%s/api/v1/alertmanager", send_resolved: true}]
`, m.server))
	return m
}

func (m *monitoring) path(name string) string { return filepath.Join(m.dir, name) }

// startPrometheus starts Prometheus, again on what an earlier one left.
func (m *monitoring) startPrometheus(resend time.Duration) *testenv.Process {
	m.t.Helper()
	return here().run(m.t, testenv.OK("http://"+m.prometheus+"/-/ready"), testenv.Path(m.t, "prometheus"),
		"--config.file="+m.path("prometheus.yml"), "--storage.tsdb.path="+m.path("prometheus"),
		"--web.listen-address="+m.prometheus, "--rules.alert.resend-delay="+resend.String())
}

// startAlertmanager starts one of the peers. Those of a cluster do not wait for
// each other before they post.
func (m *monitoring) startAlertmanager(number int) *testenv.Process {
	m.t.Helper()
	p := m.peers[number]
	args := []string{
		"--config.file=" + m.path("alertmanager.yml"), "--storage.path=" + m.path(fmt.Sprintf("alertmanager%d", number)),
		"--web.listen-address=" + p.web,
	}
	if len(m.peers) == 1 {
		args = append(args, "--cluster.listen-address=")
	} else {
		args = append(args, "--cluster.listen-address="+p.cluster, "--cluster.peer-timeout=1ms", "--cluster.gossip-interval=20ms")
		for k, other := range m.peers {
			if k != number {
				args = append(args, "--cluster.peer="+other.cluster)
			}
		}
	}
	return here().run(m.t, testenv.OK("http://"+p.web+"/-/ready"), testenv.Path(m.t, "prometheus-alertmanager"), args...)
}

// config is one group over simulated VMs that are offered a load.
func (m *monitoring) config(bounds, lease, load string) string {
	var peers []string
	for _, p := range m.peers {
		peers = append(peers, fmt.Sprintf("{url: \"http://%s\"}", p.web))
	}
	return fmt.Sprintf(`owner: faults
monitoring: {scrape_interval: 1s, evaluation_interval: 1s, rate_window: 4s}
prometheus: {url: "http://%s"}
alertmanagers: [%s]
providers:
  sim: {simulated: {directory: %q, boot_time: 1s, shutdown_time: 100ms, drain_time: 100ms, load: {web: [{after: 0s, vcpus: %s}]}}}
balancers:
  sim: {simulated: {provider: sim}}
groups:
  web: {mode: full, %s, high: 70%%, low: 20%%, cooldown: 1s, warm_up: 1s, lease_ttl: %s, name: "web-{n}", provider: sim, balancer: sim}
`, m.prometheus, strings.Join(peers, ", "), m.path("world"), load, bounds, lease)
}

// posts is how many notifications a peer has posted.
func (m *monitoring) posts(number int) (int, error) {
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, "http://"+m.peers[number].web+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := here().http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), `alertmanager_notifications_total{integration="webhook"} `); ok {
			n, err := strconv.ParseFloat(value, 64)
			return int(n), err
		}
	}
	return 0, errors.Join(lines.Err(), errors.New("no count of webhooks"))
}

func condition(g api.Group, signal string) api.Condition {
	k := slices.IndexFunc(g.Conditions, func(c api.Condition) bool { return c.Signal == signal })
	if k < 0 {
		return api.Condition{}
	}
	return g.Conditions[k]
}

func stands(signal string, want bool) func(api.Group) error {
	return func(g api.Group) error {
		if condition(g, signal).Standing != want {
			return fmt.Errorf("that %s stands is not %t", signal, want)
		}
		return nil
	}
}

// says holds once a source says so of a signal.
func says(source, signal, want string) func(api.Group) error {
	return func(g api.Group) error {
		for _, e := range g.Evidence {
			if e.Source == source && e.Signal == signal && e.State == want {
				return nil
			}
		}
		return fmt.Errorf("%s does not say that %s is %s", source, signal, want)
	}
}

// idleGroup brings a group to two instances of which one could go: low stands,
// both sources confirm it, and only a pause keeps it.
func (m *monitoring) idleGroup(lease string) *server {
	m.t.Helper()
	s := newServer(m.t, here(), m.server, m.config("min: 1, max: 3", lease, "0.1"))
	s.start()
	if _, err := s.client.Pause(m.t.Context(), group, api.PauseRequest{Direction: "in"}); err != nil {
		m.t.Fatal(err)
	}
	s.desired(2)
	s.await("two idle instances, low stands and is confirmed", all(serving(2), stands("low", true),
		says("prometheus", "low", "firing"), says("alertmanager", "low", "firing")))
	return s
}

func (s *server) resume() {
	s.t.Helper()
	if _, err := s.client.Resume(s.t.Context(), group); err != nil {
		s.t.Fatal(err)
	}
}

// awaitRemoval waits until low removed one instance, on evidence younger than
// after, which is all that happened since the first n activities.
func (s *server) awaitRemoval(n int, after time.Time) {
	s.t.Helper()
	s.await("the loop goes on: one instance is removed", serving(1))
	a := s.last()
	if !a.Cause.EvidenceAt.After(after) || a.Cause.Signal != "low" || a.Cause.Source != "prometheus" {
		s.t.Errorf("it was removed for %+v, want evidence of Prometheus past %s", a.Cause, after)
	}
	if got := len(s.activities()) - n; got != 1 {
		s.t.Errorf("%d activities, want the one removal: %v", got, s.sinceThen(n))
	}
}

func TestPrometheusDead(t *testing.T) {
	t.Parallel()
	m := newMonitoring(t, 1)
	m.startAlertmanager(0)
	prometheus := m.startPrometheus(4 * time.Second)
	s := m.idleGroup("5m")
	before := len(s.activities())

	prometheus.Kill(t)
	g := s.await("Prometheus is known to be dead", all(says("prometheus", "low", "unreachable"), status("degraded"), problem("prometheus")))
	if err := all(stands("low", true), says("alertmanager", "low", "firing"))(g); err != nil {
		t.Logf("Alertmanager let go before the pause ended, so this proves less: %v", err)
	}
	s.resume() // low stands, Alertmanager holds it, and yet nothing may go
	expires := condition(g, "low").Expires
	g = s.await("Alertmanager posts resolved by itself, which clears low", stands("low", false))
	if !expires.IsZero() && time.Until(expires) < 0 {
		t.Error("low ended by its lease and not by what Alertmanager posted")
	}
	if err := all(serving(2), status("degraded"))(g); err != nil {
		t.Error(err)
	}
	decided := time.Now()
	s.await("it decides on, without Prometheus", func(g api.Group) error {
		if g.Verdict.At.Before(decided.Add(3 * time.Second)) {
			return errors.New("no newer verdict")
		}
		return serving(2)(g)
	})
	if got := s.sinceThen(before); len(got) > 0 {
		t.Errorf("without Prometheus there was %v", got)
	}

	back := time.Now()
	m.startPrometheus(time.Second)
	s.awaitRemoval(before, back)
	s.await("nothing is wrong any more", noStatus("degraded"))
}

func TestAlertmanagerDead(t *testing.T) {
	t.Parallel()
	m := newMonitoring(t, 1)
	alertmanager := m.startAlertmanager(0)
	m.startPrometheus(time.Second)
	s := m.idleGroup("15s")
	before := len(s.activities())

	alertmanager.Kill(t)
	killed := time.Now()
	s.await("Alertmanager is known to be dead", all(says("alertmanager", "low", "unreachable"), status("degraded"), problem("alertmanager")))
	s.resume() // Prometheus says low, and nobody can say whether it is silenced
	g := s.await("the condition ends with its lease", stands("low", false))
	if err := all(serving(2), says("prometheus", "low", "firing"))(g); err != nil {
		t.Error(err)
	}
	if got := s.sinceThen(before); len(got) > 0 {
		t.Errorf("without Alertmanager there was %v", got)
	}

	m.startAlertmanager(0)
	s.awaitRemoval(before, killed) // Prometheus was there all the time
	s.await("nothing is wrong any more", noStatus("degraded"))
}

func TestTwoAlertmanagersBothPost(t *testing.T) {
	t.Parallel()
	m := newMonitoring(t, 2)
	peers := []*testenv.Process{m.startAlertmanager(0), m.startAlertmanager(1)}
	m.startPrometheus(time.Second)
	s := newServer(t, here(), m.server, m.config("min: 1, max: 3", "1m", "3.4"))
	s.start()
	s.await("launches by the alert that both post", all(serving(3), status("at_max")))
	first := []int{0, 0}
	for k := range peers {
		testenv.Eventually(t, patience, "both peers to have posted", func() (err error) {
			if first[k], err = m.posts(k); err == nil && first[k] == 0 {
				err = fmt.Errorf("peer %d posted nothing", k)
			}
			return err
		})
	}
	for k := range peers {
		testenv.Eventually(t, patience, "both peers to go on posting", func() error {
			now, err := m.posts(k)
			if err == nil && now < first[k]+2 {
				err = fmt.Errorf("peer %d posted %d times more", k, now-first[k])
			}
			return err
		})
	}
	if diff := cmp.Diff([]string{"fill done", "scale_out done", "scale_out done"}, s.sinceThen(0)); diff != "" {
		t.Error(diff)
	}

	peers[0].Kill(t)
	killed := time.Now()
	s.await("one peer is known to be dead, the other still confirms", all(serving(3), status("degraded"), problem("alertmanager"),
		func(g api.Group) error {
			for _, e := range g.Evidence {
				if e.Source == "alertmanager" && e.Signal == "high" && e.State == "firing" && e.At.After(killed) {
					return nil
				}
			}
			return errors.New("Alertmanager has no evidence of high that is younger than the death of one peer")
		}))
	s.configure(m.config("min: 1, max: 4", "1m", "3.4"))
	s.process.Signal(t, syscall.SIGHUP)
	s.await("one more launch, with one peer", all(serving(4), status("at_max")))
	if diff := cmp.Diff([]string{"fill done", "scale_out done", "scale_out done", "scale_out done"}, s.sinceThen(0)); diff != "" {
		t.Error(diff)
	}
	// One piece of evidence, one launch: each is younger than what the last one did.
	settle := time.Duration(s.view(group).Settings.Settle)
	launches := s.activities()
	for k := 2; k < len(launches); k++ {
		if past := launches[k-1].Ended.Add(settle); !launches[k].Cause.EvidenceAt.After(past) {
			t.Errorf("launch %d rests on evidence of %s, which is not past %s", k, launches[k].Cause.EvidenceAt, past)
		}
	}
}

func TestServerGoneForLongerThanEveryLease(t *testing.T) {
	t.Parallel()
	m := newMonitoring(t, 1)
	m.startAlertmanager(0)
	m.startPrometheus(time.Second)
	s := newServer(t, here(), m.server, m.config("min: 2, max: 3", "5s", "0.1"))
	s.start()
	was := s.await("low stands and is confirmed, and only min keeps the second instance", all(serving(2), stands("low", true),
		says("prometheus", "low", "firing"), says("alertmanager", "low", "firing")))
	before := len(s.activities())
	s.process.Kill(t)
	testenv.Eventually(t, patience, "every lease to end", func() error {
		if left := time.Until(condition(was, "low").Expires.Add(2 * time.Second)); left > 0 {
			return fmt.Errorf("another %s", left)
		}
		return nil
	})

	// From the first moment min would allow it.
	s.configure(m.config("min: 1, max: 3", "5s", "0.1"))
	back := time.Now()
	s.start()
	g := s.view(group)
	if c := condition(g, "low"); c.Standing && c.LastSeen.Before(back) {
		t.Errorf("low stands by what was heard before: %+v", c)
	}
	if diff := cmp.Diff(uuids(was), uuids(g)); diff != "" {
		t.Errorf("the instances are others (-before +after):\n%s", diff)
	}
	for _, i := range g.Instances {
		if i.Member == nil || i.Member.State != "ready" {
			t.Errorf("%s takes no traffic: %+v", i.Name, i.Member)
		}
	}
	if got := s.sinceThen(before); len(got) > 0 {
		t.Errorf("the start began with %v", got)
	}
	s.awaitRemoval(before, back)
}
