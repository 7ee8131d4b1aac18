package doctor

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
)

// promAPI asks one Prometheus.
type promAPI struct {
	client *http.Client
	url    string
}

// promAnswer is the envelope of its API.
type promAnswer[T any] struct {
	Status string `json:"status"`
	Error  string `json:"error"`
	Data   T      `json:"data"`
}

func promGet[T any](ctx context.Context, p *promAPI, path string) (T, error) {
	answer, err := get[promAnswer[T]](ctx, p.client, "Prometheus at "+p.url, strings.TrimSuffix(p.url, "/")+"/api/v1/"+path)
	if err == nil && answer.Status != "success" {
		err = fmt.Errorf("ask Prometheus at %s: %s", p.url, answer.Error)
	}
	return answer.Data, err
}

// query evaluates an expression now.
func (p *promAPI) query(ctx context.Context, expr string) (model.Vector, error) {
	data, err := promGet[struct {
		Result model.Vector `json:"result"`
	}](ctx, p, "query?"+url.Values{"query": {expr}}.Encode())
	return data.Result, err
}

// loadedRules are those of the API, in the words of a rule file.
type loadedRules struct {
	Groups []struct {
		Name     string  `json:"name"`
		File     string  `json:"file"`
		Interval float64 `json:"interval"`
		Rules    []struct {
			Name      string            `json:"name"`
			Query     string            `json:"query"`
			Type      string            `json:"type"`
			Duration  float64           `json:"duration"`
			Labels    map[string]string `json:"labels"`
			LastError string            `json:"lastError"`
		} `json:"rules"`
	} `json:"groups"`
}

func (l loadedRules) list() []Rule {
	all := []Rule{}
	for _, g := range l.Groups {
		for _, r := range g.Rules {
			all = append(all, Rule{
				Group: g.Name, Interval: fromSeconds(g.Interval), Name: r.Name, Alert: r.Type == "alerting", Expr: r.Query,
				For: fromSeconds(r.Duration), Labels: r.Labels, File: g.File, Err: r.LastError,
			})
		}
	}
	return all
}

func fromSeconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond)
}

// target is what Prometheus scrapes.
type target struct {
	Labels     map[string]string `json:"labels"`
	ScrapePool string            `json:"scrapePool"`
	ScrapeURL  string            `json:"scrapeUrl"`
	Health     string            `json:"health"`
	LastError  string            `json:"lastError"`
}

// prometheus examines the one that is configured.
func (x *live) prometheus(ctx context.Context) []Check {
	c := x.Config.Prometheus
	if c == nil {
		r := &report{part: PartPrometheus}
		r.warn(0, "answers", "none is configured, so nothing here was looked at: state prometheus: {url: …} in scalehook's configuration")
		return r.checks
	}
	p := &promExam{report: report{part: PartPrometheus}, e: x.e, ctx: ctx}
	if x.prometheusErr != nil {
		p.bad(0, "answers", "%v", x.prometheusErr)
		return p.checks
	}
	p.ok("answers", "%s, and its clock is right", c.URL)
	httpClient, err := promconfig.NewClientFromConfig(c.HTTPClient, "scalehook_doctor", promconfig.WithUserAgent("scalehook"))
	if err != nil {
		p.bad(0, "answers", "http_client: %v", err)
		return p.checks
	}
	defer httpClient.CloseIdleConnections()
	p.api = &promAPI{client: httpClient, url: c.URL}
	p.examine()
	x.e.Leave = p.leave
	return p.checks
}

// promExam is the examination of a running Prometheus.
type promExam struct {
	report

	e   Expected
	api *promAPI
	ctx context.Context // of the one call that examines

	// published are the targets that brought scalehook's and the exporters' series
	// within a day, as job and instance.
	published [2][][2]string
	leave     func(map[string]string) map[string]string // see Expected
	active    []target                                  // those that are scraped; nil where it does not say
}

func (x *promExam) examine() {
	if !x.targetsOf(0, "scalehook_build_info") || !x.targetsOf(1, "libvirt_up") {
		return
	}
	found, targetsErr := promGet[struct {
		Active []target `json:"activeTargets"`
	}](x.ctx, x.api, "targets?state=active")
	x.active = found.Active
	fine := map[string]bool{}
	for _, c := range x.configured() {
		x.checks = append(x.checks, c)
		fine[c.What] = fine[c.What] || c.OK
	}
	x.alertmanagers()
	serverUp, exporterUp := true, true
	if targetsErr == nil { // else said with the configuration
		serverUp, exporterUp = x.targets()
	}
	for _, what := range []string{whatServerJob, whatExporterJob} {
		if ok, looked := fine[what]; looked && !ok {
			return // what it does to the series is said there
		}
	}
	if x.collisions() || !serverUp {
		return
	}
	x.groups()
	if ok, looked := fine[whatRules]; exporterUp && (ok || !looked) {
		x.readings()
	}
}

// targetsOf finds who published a series within a day; false if it cannot be asked.
func (x *promExam) targetsOf(kind int, series string) bool {
	found, err := x.api.query(x.ctx, "count by (job, instance) (present_over_time("+series+"[1d]))")
	if err != nil {
		x.bad(0, "answers", "%v", err)
		return false
	}
	for _, s := range found {
		x.published[kind] = append(x.published[kind], [2]string{string(s.Metric["job"]), string(s.Metric["instance"])})
	}
	return true
}

func (x *promExam) jobs(kind int) []string {
	var jobs []string
	for _, t := range x.published[kind] {
		jobs = append(jobs, t[0])
	}
	slices.Sort(jobs)
	return slices.Compact(jobs)
}

// configured examines the configuration and the rules that are loaded.
func (x *promExam) configured() []Check {
	rules, err := promGet[loadedRules](x.ctx, x.api, "rules")
	if err != nil {
		x.warn(0, whatConfiguration, "it does not show its rules and its configuration, so they were not looked at: check-config --prometheus FILE does (%v)", err)
		return nil
	}
	cfg, err := promGet[struct {
		YAML string `json:"yaml"`
	}](x.ctx, x.api, "status/config")
	if err != nil {
		x.warn(0, whatConfiguration, "it does not show it, so it was not looked at: check-config --prometheus FILE does (%v)", err)
		return nil
	}
	x.leave = Leaving([]byte(cfg.YAML))
	checks := Prometheus(x.e, PrometheusFile{Text: []byte(cfg.YAML), Rules: rules.list(), ServerJobs: x.jobs(0), ExporterJobs: x.jobs(1), Targets: x.labels()})
	for i := range checks {
		checks[i].Line = 0 // its own writing of the file
	}
	return checks
}

// labels are those of the targets of each job.
func (x *promExam) labels() map[string][]map[string]string {
	all := map[string][]map[string]string{}
	for _, t := range x.active {
		if x.isServer(t) || x.isExporter(t) {
			all[t.ScrapePool] = append(all[t.ScrapePool], t.Labels)
		}
	}
	return all
}

// alertmanagers looks where the alerts go, and how long they live there.
func (x *promExam) alertmanagers() {
	if x.e.MaxAge > 0 {
		flags, err := promGet[map[string]string](x.ctx, x.api, "status/flags")
		if err == nil {
			if resend, err := model.ParseDuration(flags["rules.alert.resend-delay"]); err == nil && 2*time.Duration(resend) > x.e.MaxAge {
				x.bad(0, "resend delay", "alerts are renewed every %s, and max_age of alertmanagers in scalehook's configuration is %s: start it with --rules.alert.resend-delay=15s, or write max_age: %s", resend, short(x.e.MaxAge), 2*resend)
			}
		}
	}
	found, err := promGet[struct {
		Active []struct {
			URL string `json:"url"`
		} `json:"activeAlertmanagers"`
	}](x.ctx, x.api, "alertmanagers")
	if err != nil {
		return // said with the configuration
	}
	var active []string
	for _, a := range found.Active {
		active = append(active, hostPort(a.URL))
	}
	const what = "alertmanagers"
	asked := slices.ContainsFunc(x.e.Alertmanagers, func(u string) bool { return slices.Contains(active, hostPort(u)) })
	switch {
	case len(active) == 0:
		x.bad(0, what, "it has none to post alerts to: name one under alerting.alertmanagers")
	case len(x.e.Alertmanagers) > 0 && !asked:
		x.warn(0, what, "it posts to %s, and scalehook's configuration names %s: see that they are one cluster", and(active), and(x.e.Alertmanagers))
	default:
		x.ok(what, "%s", and(active))
	}
}

// targets looks whether those that are to be scraped are.
func (x *promExam) targets() (serverUp, exporterUp bool) {
	const what = "targets"
	var f findings
	serverUp, exporterUp = true, true
	up := 0
	for _, t := range x.active {
		host, isServer, isExporter := hostPort(t.ScrapeURL), x.isServer(t), x.isExporter(t)
		if !isServer && !isExporter {
			continue
		}
		name, cure := "the exporter", "start scalehook-exporter there, or correct the target"
		if isServer {
			name, cure = "scalehook", "start scalehook serve there, or correct the target"
		}
		switch t.Health {
		case "up":
			up++
		case "unknown":
			f.warn(0, "%s at %s was not scraped yet", name, host)
		default:
			// Prometheus reads the health after the error, and a scrape may end in between.
			why := cmp.Or(t.LastError, "its last scrape failed")
			f.bad(0, "%s at %s (job %s) cannot be scraped: %s: %s", name, host, t.Labels["job"], why, cure)
			serverUp, exporterUp = serverUp && !isServer, exporterUp && !isExporter
		}
	}
	if exporterUp {
		x.hypervisors(&f)
	}
	if up+len(f.bads)+len(f.hint) > 0 {
		x.check(what, f, "%s up", plural(up, "target"))
	}
	return serverUp, exporterUp
}

func (x *promExam) isServer(t target) bool {
	host := hostPort(t.ScrapeURL)
	return x.knows(0, t) || t.ScrapePool == "scalehook" || host != "" && host == x.e.Address
}

func (x *promExam) isExporter(t target) bool {
	return x.knows(1, t) || t.ScrapePool == "scalehook-exporter"
}

func (x *promExam) knows(kind int, t target) bool {
	return slices.Contains(x.published[kind], [2]string{t.Labels["job"], t.Labels["instance"]})
}

// hypervisors looks for exporters whose libvirt does not answer.
func (x *promExam) hypervisors(f *findings) {
	found, err := x.api.query(x.ctx, "min by (job, instance) (libvirt_up) == 0")
	if err != nil {
		return
	}
	for _, s := range found {
		f.bad(0, "the exporter at %s runs and libvirt does not answer it: does libvirtd run there, and is the exporter's user in its group (libvirt)?", s.Metric["instance"])
	}
}

// collisions looks for labels that Prometheus had to rename.
func (x *promExam) collisions() bool {
	const what = "label collisions"
	var f findings
	for _, label := range []string{labelGroup, "uuid", "domain"} {
		found, err := x.api.query(x.ctx, fmt.Sprintf(`count by (job, instance) ({__name__=~"libvirt_(up|domain_.+)|scalehook_(group|instance)_.+", exported_%s!=""})`, label))
		if err != nil {
			x.bad(0, what, "%v", err)
			return true
		}
		for _, s := range found {
			f.bad(0, "the target %s (job %s) has a label %s of its own, and the published one arrives as exported_%s: write honor_labels: true for the job, or take the label off the target", s.Metric["instance"], s.Metric["job"], label, label)
		}
	}
	x.check(what, f, "no label of a target hides one of ours")
	return len(f.bads) > 0
}

// groups looks whether the thresholds of every group arrive.
func (x *promExam) groups() {
	const what = "series of the groups"
	found, err := x.api.query(x.ctx, `max by (scaling_group) (scalehook_group_cpu_high_threshold_ratio{exported_scaling_group=""})`)
	if err != nil {
		x.bad(0, what, "%v", err)
		return
	}
	var missing []string
	for _, g := range x.e.Groups {
		if !slices.ContainsFunc(found, func(s *model.Sample) bool { return string(s.Metric[labelGroup]) == g.Name }) {
			missing = append(missing, g.Name)
		}
	}
	var f findings
	if len(missing) > 0 {
		f.bad(0, "there are none of %s: is the scalehook that is scraped the one that has them (its /metrics has scalehook_group_cpu_high_threshold_ratio)?", and(missing))
	}
	x.check(what, f, "thresholds of %s", plural(len(x.e.Groups), "group"))
}

// readings looks whether every instance in service has one.
func (x *promExam) readings() {
	const what = "readings"
	var f findings
	var counted [2]map[string]int
	for i, expr := range []string{
		"count by (scaling_group) (group_uuid:scalehook_instance_in_service:max)",
		"count by (scaling_group) (group_uuid:scalehook_instance_in_service:max unless on (uuid) uuid:libvirt_domain_cpu_utilization:ratio)",
	} {
		found, err := x.api.query(x.ctx, expr)
		if err != nil {
			x.bad(0, what, "%v", err)
			return
		}
		counted[i] = map[string]int{}
		for _, s := range found {
			counted[i][string(s.Metric[labelGroup])] = int(s.Value)
		}
	}
	all := 0
	for _, g := range x.e.Groups {
		have, lack := counted[0][g.Name], counted[1][g.Name]
		all += have
		switch {
		case lack > 0 && lack == have:
			f.bad(0, "no VM of group %s has a CPU reading, so it never grows and never shrinks: is the exporter of its hypervisor scraped, and does it publish their uuids (libvirt_domain_cpu_time_seconds_total)?", g.Name)
		case lack > 0:
			f.warn(0, "%d of the %d VMs of group %s have no CPU reading, so it does not shrink: a new one has none for %s; else see that the exporter of its hypervisor is scraped", lack, have, g.Name, short(x.e.Rules.RateWindow))
		}
	}
	x.check(what, f, "of every VM in service (%d)", all)
}
