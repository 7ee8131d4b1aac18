package doctor

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/alertmanager/pkg/labels"
	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/rules"
)

// The labels and names that the rules give their alerts.
const (
	labelGroup     = "scaling_group"
	labelSignal    = "scalehook_signal"
	labelHeartbeat = "scalehook_heartbeat"
	alertHigh      = "ScalehookCPUHigh"
	alertLow       = "ScalehookCPULow"
	alertHeartbeat = "ScalehookHeartbeat"
)

const (
	// latePeer is how long each further peer of a cluster waits for those before it.
	latePeer = 15 * time.Second
	// slowWait is a group_wait that is felt, slowNews a group_interval.
	slowWait = 10 * time.Second
	slowNews = time.Minute
)

// What is looked at in Alertmanager's configuration, as it is shown.
const (
	whatConfiguration = "configuration"
	whatReceiver      = "receiver"
	whatRoute         = "route of the signals"
	whatTimings       = "timings"
	whatMuted         = "time intervals"
	whatOthers        = "alerts of others"
	whatHeartbeat     = "heartbeat"
	whatPeople        = "alerts for people"
	whatInhibition    = "inhibition"
)

// AlertmanagerFile is a configuration of Alertmanager and where it is from.
type AlertmanagerFile struct {
	Text []byte
	// Dir is the folder that names of files in it are relative to; empty where its
	// files are not on this machine.
	Dir string
	// Peers is how many Alertmanagers run as one cluster with it; 0 for not known.
	Peers int
}

// Alertmanager examines a configuration of Alertmanager: whether the signals of every
// group reach this scalehook, and nobody else does, often enough to keep the leases.
func Alertmanager(e Expected, file AlertmanagerFile) []Check {
	x := &alertmanager{report: report{part: PartAlertmanager}, e: e, file: file}
	x.examine()
	return x.checks
}

// alertmanager is one examination.
type alertmanager struct {
	report

	e    Expected
	file AlertmanagerFile
	cfg  amConfig
	root *route
	// ours are the webhooks that post here, by receiver.
	ours map[string][]*amWebhook
}

func (x *alertmanager) examine() {
	err := yaml.Unmarshal(x.file.Text, &x.cfg)
	if err == nil && x.cfg.Route == nil {
		err = errors.New("it has no route")
	}
	if err == nil {
		x.root, err = newRoute(x.cfg.Route, nil)
	}
	if err != nil {
		x.bad(0, whatConfiguration, "cannot be read: %v: try amtool check-config", err)
		return
	}
	x.ok(whatConfiguration, "%s, %s", plural(len(x.cfg.Receivers), "receiver"), plural(x.count(), "route"))
	if !x.receivers() {
		return
	}
	if found := x.signals(); len(found) > 0 {
		x.timings(found)
		x.intervals(found)
	}
	x.others()
	x.heartbeat()
	x.people()
	x.inhibition()
}

func (x *alertmanager) count() (n int) {
	x.root.walk(func(*route) { n++ })
	return n
}

// receivers looks for those that post here, and at how they do.
func (x *alertmanager) receivers() bool {
	var guess bool
	x.ours, guess = x.cfg.posting(x.e.Receivers)
	if len(x.ours) == 0 {
		x.noReceiver()
		return false
	}
	var f findings
	var said []string
	if guess {
		f.warn(0, "this Alertmanager does not show where its webhooks post to, so %s is taken to be scalehook's by its name: say so with --receiver, or examine the file (check-config --alertmanager)", and(x.names()))
	}
	for _, name := range x.names() {
		for _, w := range x.ours[name] {
			x.webhook(&f, w)
			said = append(said, fmt.Sprintf("%s posts to %s", name, w.URL))
		}
	}
	for i := range x.cfg.Receivers {
		r := &x.cfg.Receivers[i]
		if n := len(r.Webhooks) - len(x.ours[r.Name]); x.ours[r.Name] != nil && (n > 0 || len(r.others) > 0) {
			f.warn(r.line, "receiver %s tells somebody else too: give scalehook's webhook a receiver of its own, or every signal is told to them", r.Name)
		}
	}
	x.check(whatReceiver, f, "%s", and(said))
	return true
}

func (x *alertmanager) names() []string { return slices.Sorted(maps.Keys(x.ours)) }

func (x *alertmanager) noReceiver() {
	if len(x.e.Receivers) > 0 {
		x.bad(0, whatReceiver, "no receiver %s has a webhook: name one of those there are", and(x.e.Receivers))
		return
	}
	for _, r := range x.cfg.Receivers {
		for _, w := range r.Webhooks {
			if w.secret() {
				x.bad(w.line, whatReceiver, "no receiver posts to .../%s as far as can be seen: where %s posts to is secret; name scalehook's with --receiver", strings.TrimPrefix(webhookPath, "/"), r.Name)
				return
			}
		}
	}
	x.bad(0, whatReceiver, "none posts to scalehook: add one with webhook_configs: [{url: http://%s%s, …}] (scalehook example alertmanager prints it)", x.address(), webhookPath)
}

func (x *alertmanager) address() string {
	if x.e.Address == "" {
		return "127.0.0.1:10070"
	}
	return x.e.Address
}

// webhook looks at the settings of one that posts here.
func (x *alertmanager) webhook(f *findings, w *amWebhook) {
	if w.SendResolved != nil && !*w.SendResolved {
		f.warn(w.line, "send_resolved is false: a condition ends only when its lease does; write send_resolved: true")
	}
	if w.MaxAlerts > 0 {
		f.bad(w.line, "max_alerts is %d: what is above that is left out, and a signal may be among it; write max_alerts: 0", w.MaxAlerts)
	}
	if !w.Payload.IsZero() {
		f.bad(w.line, "payload takes the place of the standard body, which is what scalehook reads: take it out")
	}
	http := w.HTTPConfig
	if http == nil {
		http = x.cfg.Global.HTTPConfig
	}
	if http == nil || http.FollowRedirects == nil || *http.FollowRedirects {
		f.warn(w.line, "redirects are followed: a redirected post may arrive as a GET and count as delivered; write http_config.follow_redirects: false")
	}
	x.authorization(f, w, http)
}

// authorization looks whether the server will take the posts.
func (x *alertmanager) authorization(f *findings, w *amWebhook, http *amHTTP) {
	if len(x.e.Tokens) == 0 || http.other() {
		return
	}
	alerts := slices.IndexFunc(x.e.Tokens, func(t Token) bool { return t.Role == "alerts" })
	want := "http_config.authorization: {type: Bearer, credentials_file: FILE}, where FILE holds a token of the role alerts"
	if alerts >= 0 {
		want += " (as " + x.e.Tokens[alerts].File + " does)"
	}
	token, file := http.bearer()
	if token == "" && file == "" {
		f.bad(w.line, "no token is sent, and the server answers 401: write %s", want)
		return
	}
	if token == hidden {
		return
	}
	if token == "" {
		var err error
		if token, err = x.read(file); err != nil {
			return // of another machine, or for Alertmanager's eyes only
		}
	}
	known := false
	for _, t := range x.e.Tokens {
		lines, err := os.ReadFile(t.File)
		if err != nil {
			return // said where the token files are looked at
		}
		for line := range strings.Lines(string(lines)) {
			known = known || strings.TrimSpace(line) == strings.TrimSpace(token)
		}
	}
	if !known {
		where := "the token that it sends"
		if file != "" {
			where = file
		}
		f.bad(w.line, "%s is none of the server's tokens, and the server answers 401: write %s", where, want)
	}
}

func (x *alertmanager) read(file string) (string, error) {
	if x.file.Dir == "" {
		return "", os.ErrNotExist
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(x.file.Dir, file)
	}
	text, err := os.ReadFile(file)
	return string(text), err
}

// sent is an alert as Prometheus sends it.
func (x *alertmanager) sent(alert map[string]string) map[string]string {
	if x.e.Leave == nil {
		return alert
	}
	return x.e.Leave(alert)
}

// signal are the labels of a scaling alert.
func signal(group, which string) map[string]string {
	name := alertHigh
	if which == "low" {
		name = alertLow
	}
	return map[string]string{"alertname": name, labelSignal: which, labelGroup: group}
}

// signals follows the signals of every group through the tree and returns the nodes
// that post them here, with the groups.
func (x *alertmanager) signals() map[*route][]Group {
	found := map[*route][]Group{}
	var f findings
	astray := map[string][]string{} // by what happens to them
	lines := map[string]int{}
	for _, g := range x.e.Groups {
		for _, which := range []string{"high", "low"} {
			here := 0
			var elsewhere []*route
			for _, r := range x.root.match(x.sent(signal(g.Name, which))) {
				if x.ours[r.receiver] == nil {
					elsewhere = append(elsewhere, r)
					continue
				}
				here++
				if !slices.Contains(found[r], g) {
					found[r] = append(found[r], g)
				}
			}
			what := ""
			switch {
			case here == 0:
				what = fmt.Sprintf("goes to %s by %s, and never here: put first among route.routes a route with matchers: ['scalehook_signal=~\"high|low\"'], receiver: %s", elsewhere[0].receiver, elsewhere[0].name(), x.names()[0])
			case len(elsewhere) > 0:
				what = fmt.Sprintf("goes to %s too, by %s: take continue: true from scalehook's route, and put that first among route.routes", elsewhere[0].receiver, elsewhere[0].name())
			case here > 1:
				what = "is posted here by several routes: keep one and take continue: true from it"
			default:
				continue
			}
			astray[what] = append(astray[what], which+" of "+g.Name)
			if len(elsewhere) > 0 {
				lines[what] = elsewhere[0].line
			}
		}
	}
	for _, what := range slices.Sorted(maps.Keys(astray)) {
		say := f.warn
		if strings.Contains(what, "never here") {
			say = f.bad
		}
		say(lines[what], "%s %s", and(astray[what]), what)
	}
	var by []string
	for r := range found {
		by = append(by, r.name())
	}
	slices.Sort(by)
	x.check(whatRoute, f, "high and low of %s reach %s alone, by %s", plural(len(x.e.Groups), "group"), and(x.names()), and(by))
	return found
}

// timings looks whether the posts come often enough for the leases, with one lost.
func (x *alertmanager) timings(found map[*route][]Group) {
	var f findings
	var said []string
	for _, r := range inOrder(found) {
		shortest := slices.MinFunc(found[r], func(a, b Group) int { return int(a.Lease - b.Lease) })
		x.lease(&f, r, shortest)
		x.pace(&f, r)
		said = append(said, fmt.Sprintf("posted again after %s at most (repeat_interval %s + group_interval %s), and the shortest lease is %s (group %s)",
			short(r.repeat+r.groupInterval), short(r.repeat), short(r.groupInterval), short(shortest.Lease), shortest.Name))
	}
	x.check(whatTimings, f, "%s", and(said))
}

// inOrder are the nodes as the file has them.
func inOrder(found map[*route][]Group) []*route {
	return slices.SortedFunc(maps.Keys(found), func(a, b *route) int { return a.line - b.line })
}

// lease compares the time between two posts with the lease that they renew. An
// unchanged alert is posted again when repeat_interval is over, and that is looked at
// every group_interval.
func (x *alertmanager) lease(f *findings, r *route, g Group) {
	between := r.repeat + r.groupInterval
	late := time.Duration(max(x.file.Peers-1, 0)) * latePeer
	need := 2*between + late
	if g.Lease >= need {
		return
	}
	what := fmt.Sprintf("one lost post ends a condition that stands: two may be %s apart", short(need))
	if g.Lease < between+late {
		what = fmt.Sprintf("a condition that stands ends between two posts: they are up to %s apart", short(between+late))
	}
	f.bad(r.line, "%s (repeat_interval %s + group_interval %s), and group %s has a lease_ttl of %s; write %s, or lease_ttl: %s in scalehook's configuration",
		what, short(r.repeat), short(r.groupInterval), g.Name, short(g.Lease), x.fit(r, g.Lease-late), short(need))
}

// fit says which timings would be right for a lease.
func (x *alertmanager) fit(r *route, lease time.Duration) string {
	interval := min(r.groupInterval, 15*time.Second)
	if r.groupInterval <= lease/8 {
		interval = r.groupInterval
	}
	if interval > lease/4 {
		interval = max(round(lease/4), time.Second)
	}
	repeat := max(round(lease/2-interval), time.Second)
	if interval == r.groupInterval {
		return "repeat_interval: " + short(repeat)
	}
	return fmt.Sprintf("group_interval: %s and repeat_interval: %s", short(interval), short(repeat))
}

// round cuts a time to one that people write.
func round(d time.Duration) time.Duration {
	for _, unit := range []time.Duration{time.Minute, 5 * time.Second, time.Second} {
		if d >= unit {
			return d.Truncate(unit)
		}
	}
	return d.Truncate(time.Millisecond)
}

// pace looks at what makes scaling slow.
func (x *alertmanager) pace(f *findings, r *route) {
	if r.groupWait > slowWait {
		f.warn(r.line, "group_wait is %s, and every first signal waits for so long: write group_wait: 0s", short(r.groupWait))
	}
	if r.groupInterval > slowNews {
		f.warn(r.line, "group_interval is %s, and when a group turns from busy to idle it takes so long to be told: write group_interval: 15s", short(r.groupInterval))
	}
	if len(x.e.Groups) > 1 && !slices.Contains(r.groupBy, labelGroup) && !slices.Contains(r.groupBy, "...") {
		f.warn(r.line, "group_by lacks scaling_group, and one group's signal waits for another's: write group_by: [scaling_group]")
	}
	if x.e.Repeat > 0 && x.e.Repeat != r.repeat {
		f.warn(r.line, "repeat_interval is %s, and monitoring.repeat_interval in scalehook's configuration says %s: state the same", short(r.repeat), short(x.e.Repeat))
	}
}

// intervals looks for times at which the signals are kept back.
func (x *alertmanager) intervals(found map[*route][]Group) {
	var f findings
	for _, r := range inOrder(found) {
		for at := r; at != nil; at = at.parent {
			if at != r {
				continue // they are not inherited
			}
			if len(at.muted) > 0 {
				f.warn(at.line, "during %s no signal is posted, and conditions run out: take mute_time_intervals from %s; to scale at some times only use maintenance in scalehook's configuration", and(at.muted), at.name())
			}
			if len(at.active) > 0 {
				f.warn(at.line, "only during %s are signals posted, and else conditions run out: take active_time_intervals from %s; to scale at some times only use maintenance in scalehook's configuration", and(at.active), at.name())
			}
		}
	}
	x.check(whatMuted, f, "the signals are posted at any time")
}

// others looks for routes that bring what is not for scalehook.
func (x *alertmanager) others() {
	var f findings
	x.root.walk(func(r *route) {
		if x.ours[r.receiver] == nil || slices.ContainsFunc(r.path(), narrow) || covered(r) {
			return
		}
		cure := "give it matchers: ['scalehook_signal=~\"high|low\"']"
		if r.parent == nil {
			cure = "give it another receiver, and scalehook a route of its own below it"
		}
		f.warn(r.line, "%s brings alerts of anybody to %s: %s", r.name(), r.receiver, cure)
	})
	x.check(whatOthers, f, "none reaches scalehook")
}

// narrow reports whether a matcher lets nothing through but what is for scalehook.
func narrow(m *labels.Matcher) bool {
	switch m.Name {
	case labelSignal, labelHeartbeat, labelGroup:
		return !m.Matches("")
	case "alertname":
		return !m.Matches("SomebodyElses") && !m.Matches("InstanceDown")
	}
	return false
}

// covered reports that a node notifies of nothing by itself, since a child without
// matchers takes it all.
func covered(r *route) bool {
	return slices.ContainsFunc(r.routes, func(c *route) bool { return len(c.matchers) == 0 })
}

// heartbeat follows the alert that always fires.
func (x *alertmanager) heartbeat() {
	var f findings
	here := false
	for _, r := range x.root.match(x.sent(map[string]string{"alertname": alertHeartbeat, labelHeartbeat: "true", "severity": "none"})) {
		if x.ours[r.receiver] == nil {
			f.warn(r.line, "it goes to %s: route it, with matchers: ['scalehook_heartbeat=\"true\"'], to %s and nobody else", r.receiver, x.names()[0])
			continue
		}
		here = true
	}
	if !here && len(f.hint) == 0 {
		f.warn(0, "it reaches nobody")
	}
	x.check(whatHeartbeat, f, "it reaches scalehook and proves the way")
}

// people looks whether somebody hears of what only a person can put right.
func (x *alertmanager) people() {
	var f findings
	var lost []string
	line := 0
	for _, alert := range peopleAlerts() {
		all := x.root.match(x.sent(alert))
		if !slices.ContainsFunc(all, func(r *route) bool { return x.ours[r.receiver] == nil }) {
			lost = append(lost, alert["alertname"])
			line = all[0].line
		}
	}
	if len(lost) > 0 {
		f.warn(line, "%s reach nobody but scalehook, which does nothing about them: route only what has scalehook_signal to it", and(lost))
	}
	x.check(whatPeople, f, "they reach somebody else than scalehook")
}

// peopleAlerts are the labels of the alerts for people, as the rules have them.
func peopleAlerts() []map[string]string {
	files, err := parseRules(rules.Default())
	if err != nil {
		return nil
	}
	var all []map[string]string
	for _, r := range files {
		if r.Alert && r.Labels[labelSignal] == "" && r.Labels[labelHeartbeat] == "" {
			alert := maps.Clone(r.Labels)
			if alert == nil {
				alert = map[string]string{}
			}
			alert["alertname"], alert[labelGroup] = r.Name, "web"
			all = append(all, alert)
		}
	}
	return all
}

// inhibition looks for rules by which another alert keeps a signal back.
func (x *alertmanager) inhibition() {
	var f findings
	for _, i := range x.cfg.InhibitRules {
		target, err := matchers{i.TargetMatch, i.TargetMatchRE, i.TargetMatchers}.parse()
		if err != nil {
			f.warn(i.line, "a rule cannot be read: %v", err)
			continue
		}
		for _, which := range []string{"high", "low"} {
			if slices.ContainsFunc(x.e.Groups, func(g Group) bool { return matchAll(target, x.sent(signal(g.Name, which))) }) {
				f.warn(i.line, "a rule keeps the %s signal back, its \"resolved\" too: add to its target_matchers 'scalehook_signal=\"\"'", which)
			}
		}
	}
	x.check(whatInhibition, f, "no rule keeps a signal back")
}
