package doctor

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"
)

// What is looked at in Prometheus's configuration, as it is shown.
const (
	whatServerJob   = "scrape of scalehook"
	whatExporterJob = "scrape of the exporter"
	whatAlerting    = "alerting"
	whatRuleFiles   = "rule files"
	whatRules       = "rules"
)

// defaultScrape is what Prometheus does where nothing is said.
const defaultScrape = time.Minute

// promConfig is what is read of Prometheus's configuration.
type promConfig struct {
	Global struct {
		ScrapeInterval *model.Duration   `yaml:"scrape_interval"`
		ExternalLabels map[string]string `yaml:"external_labels"`
	} `yaml:"global"`
	RuleFiles         []string `yaml:"rule_files"`
	ScrapeConfigFiles []string `yaml:"scrape_config_files"`
	Alerting          struct {
		Relabel       []relabel   `yaml:"alert_relabel_configs"`
		Alertmanagers []yaml.Node `yaml:"alertmanagers"`
	} `yaml:"alerting"`
	ScrapeConfigs []promJob `yaml:"scrape_configs"`
}

// promJob is one scrape job.
type promJob struct {
	JobName        string          `yaml:"job_name"`
	HonorLabels    bool            `yaml:"honor_labels"`
	ScrapeInterval *model.Duration `yaml:"scrape_interval"`
	Static         []struct {
		Targets []string          `yaml:"targets"`
		Labels  map[string]string `yaml:"labels"`
	} `yaml:"static_configs"`
	MetricRelabel []relabel `yaml:"metric_relabel_configs"`

	line int
}

// UnmarshalYAML keeps the line.
func (j *promJob) UnmarshalYAML(node *yaml.Node) error {
	type plain promJob
	j.line = node.Line
	return node.Decode((*plain)(j))
}

// relabel is a step of relabelling, of which only the ones that take labels off are
// followed.
type relabel struct {
	Action string `yaml:"action"`
	Regex  string `yaml:"regex"`

	line int
}

// UnmarshalYAML keeps the line.
func (r *relabel) UnmarshalYAML(node *yaml.Node) error {
	type plain relabel
	r.line = node.Line
	return node.Decode((*plain)(r))
}

// takes returns the first of the labels that the step takes off.
func (r relabel) takes(names ...string) string {
	re, err := regexp.Compile("^(?s:" + r.Regex + ")$")
	if err != nil {
		return "" // Prometheus would not start with it
	}
	for _, name := range names {
		switch r.Action {
		case "labeldrop":
			if re.MatchString(name) {
				return name
			}
		case "labelkeep":
			if !re.MatchString(name) {
				return name
			}
		}
	}
	return ""
}

// PrometheusFile is a configuration of Prometheus, where it is from and what is known
// of it otherwise.
type PrometheusFile struct {
	Text []byte
	// Dir is the folder that names of files in it are relative to; empty where its
	// files are not on this machine.
	Dir string
	// Rules are those that are loaded, where that is known; nil to read the files.
	Rules []Rule
	// ServerJobs and ExporterJobs are the jobs that are known to scrape scalehook and
	// an exporter by what they brought. Without, they are known by their targets'
	// ports and by their names.
	ServerJobs, ExporterJobs []string
}

// Prometheus examines a configuration of Prometheus: whether scalehook and the
// exporters are scraped as often as the rules ask for, with their labels as they are,
// whether the rules are among the rule files, and whether alerts go anywhere.
func Prometheus(e Expected, file PrometheusFile) []Check {
	x := &prometheus{report: report{part: PartPrometheus}, e: e, file: file}
	x.examine()
	return x.checks
}

// ExternalLabels returns the labels that a Prometheus of that configuration adds to
// every alert; none where it cannot be read, which Prometheus tells of.
func ExternalLabels(text []byte) map[string]string {
	var cfg promConfig
	if yaml.Unmarshal(text, &cfg) != nil {
		return nil
	}
	return cfg.Global.ExternalLabels
}

type prometheus struct {
	report

	e    Expected
	file PrometheusFile
	cfg  promConfig
	// rules are those of the rule files that can be read here.
	rules []Rule
}

func (x *prometheus) examine() {
	if err := yaml.Unmarshal(x.file.Text, &x.cfg); err != nil {
		x.bad(0, whatConfiguration, "cannot be read: %v: try promtool check config", err)
		return
	}
	if err := x.moreJobs(); err != nil {
		x.bad(0, whatConfiguration, "%v", err)
		return
	}
	x.ok(whatConfiguration, "%s", plural(len(x.cfg.ScrapeConfigs), "scrape job"))
	switch {
	case x.file.Rules != nil:
		x.rules = x.file.Rules
		x.ruleset(x.rules, x.e.Rules)
	case x.file.Dir != "":
		x.ruleFiles()
	}
	x.job(whatServerJob, x.server, x.file.ServerJobs, []string{labelGroup, "uuid", "state", "vm", "address", "pool", "signal"},
		"add {job_name: scalehook, honor_labels: true, static_configs: [{targets: ['"+x.address()+"']}]} to scrape_configs")
	if !x.e.Simulated && !x.otherReadings() {
		x.job(whatExporterJob, x.exporter, x.file.ExporterJobs, []string{"uuid", "domain"},
			"add {job_name: scalehook-exporter, static_configs: [{targets: ['HYPERVISOR:10071']}]} to scrape_configs, one target for each hypervisor")
	}
	x.alerting()
}

func (x *prometheus) address() string {
	if x.e.Address == "" {
		return "127.0.0.1:10070"
	}
	return x.e.Address
}

// files are those that patterns lead to from the configuration's folder.
func (x *prometheus) files(patterns []string) (all []string, err error) {
	for _, pattern := range patterns {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(x.file.Dir, pattern)
		}
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("%q is no pattern: %w", pattern, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// moreJobs reads the scrape jobs that have files of their own.
func (x *prometheus) moreJobs() error {
	if x.file.Dir == "" {
		return nil
	}
	files, err := x.files(x.cfg.ScrapeConfigFiles)
	if err != nil {
		return fmt.Errorf("scrape_config_files: %w", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("scrape_config_files: %w", err)
		}
		var more struct {
			ScrapeConfigs []promJob `yaml:"scrape_configs"`
		}
		if err := yaml.Unmarshal(text, &more); err != nil {
			return fmt.Errorf("scrape_config_files: %s: %w", name, err)
		}
		for _, j := range more.ScrapeConfigs {
			j.line = 0 // of another file
			x.cfg.ScrapeConfigs = append(x.cfg.ScrapeConfigs, j)
		}
	}
	return nil
}

// ruleFiles looks for the rules among the rule files.
func (x *prometheus) ruleFiles() {
	names, err := x.files(x.cfg.RuleFiles)
	if err != nil {
		x.bad(0, whatRuleFiles, "rule_files: %v", err)
		return
	}
	var errs []error
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found, err := parseRules(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w: try promtool check rules", name, err))
			continue
		}
		for i := range found {
			found[i].File = name
		}
		x.rules = append(x.rules, found...)
	}
	if err := errors.Join(errs...); err != nil {
		x.bad(0, whatRuleFiles, "%v", err)
		return
	}
	if len(names) == 0 {
		x.bad(0, whatRuleFiles, "rule_files leads to no file: run %s > %s and name that file there", printRules(x.e.Rules), filepath.Join(x.file.Dir, "rules.d", "scalehook.rules.yml"))
		return
	}
	x.ok(whatRuleFiles, "%s with %s", plural(len(names), "file"), plural(len(x.rules), "rule"))
	x.ruleset(x.rules, x.e.Rules)
}

// otherReadings reports that the readings come from somebody else's exporters.
func (x *prometheus) otherReadings() bool {
	return slices.ContainsFunc(x.rules, func(r Rule) bool { return r.Group == compatRules || r.Group == guestRules })
}

// server reports whether a job scrapes scalehook.
func (x *prometheus) server(j promJob) bool {
	if len(x.file.ServerJobs) > 0 {
		return slices.Contains(x.file.ServerJobs, j.JobName)
	}
	return j.JobName == "scalehook" || j.leadsTo(func(target string) bool {
		return target == x.e.Address || strings.HasSuffix(target, ":10070")
	})
}

// exporter reports whether a job scrapes libvirt's exporters.
func (x *prometheus) exporter(j promJob) bool {
	if len(x.file.ExporterJobs) > 0 {
		return slices.Contains(x.file.ExporterJobs, j.JobName)
	}
	return j.JobName == "scalehook-exporter" || strings.Contains(j.JobName, "libvirt") || j.leadsTo(func(target string) bool {
		return strings.HasSuffix(target, ":10071") || strings.HasSuffix(target, ":9177")
	})
}

func (j promJob) leadsTo(is func(target string) bool) bool {
	for _, s := range j.Static {
		if slices.ContainsFunc(s.Targets, is) {
			return true
		}
	}
	return false
}

// job looks for the jobs of a kind, and at what they do to the series' labels.
func (x *prometheus) job(what string, of func(promJob) bool, known, names []string, add string) {
	var f findings
	var said []string
	for _, j := range x.cfg.ScrapeConfigs {
		if !of(j) {
			continue
		}
		interval := x.interval(j)
		said = append(said, fmt.Sprintf("job %s, every %s", j.JobName, short(interval)))
		if want := x.e.Rules.ScrapeInterval; interval > want {
			f.bad(j.line, "job %s scrapes every %s, and the rules' windows are for %s: write scrape_interval: %s there, or monitoring: {scrape_interval: %s} in scalehook's configuration and run %s again",
				j.JobName, short(interval), short(want), short(want), short(interval), "scalehook rules --scrape-interval "+short(interval))
		}
		x.labels(&f, j, names)
	}
	switch {
	case len(said) > 0:
	case len(known) > 0:
		said = append(said, "as job "+and(known)) // which a relabelling names so
	default:
		f.bad(0, "no job does: %s", add)
	}
	x.check(what, f, "%s", and(said))
}

func (x *prometheus) interval(j promJob) time.Duration {
	switch {
	case j.ScrapeInterval != nil:
		return time.Duration(*j.ScrapeInterval)
	case x.cfg.Global.ScrapeInterval != nil:
		return time.Duration(*x.cfg.Global.ScrapeInterval)
	}
	return defaultScrape
}

// labels looks whether those that the rules join on arrive as they were published.
func (x *prometheus) labels(f *findings, j promJob, names []string) {
	if !j.HonorLabels {
		own := map[string]bool{}
		for _, s := range j.Static {
			for name := range s.Labels {
				own[name] = slices.Contains(names, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(own)) {
			if own[name] {
				f.bad(j.line, "the targets of job %s have a label %s of their own, and the published one becomes exported_%s: write honor_labels: true there, or give the target's another name", j.JobName, name, name)
			}
		}
	}
	for _, r := range j.MetricRelabel {
		if name := r.takes(names...); name != "" {
			f.bad(r.line, "metric_relabel_configs of job %s takes the label %s off, by which the rules tell VMs and groups apart: leave it", j.JobName, name)
		}
	}
}

// alerting looks whether alerts leave Prometheus with their labels.
func (x *prometheus) alerting() {
	var f findings
	if len(x.cfg.Alerting.Alertmanagers) == 0 {
		f.bad(0, "no Alertmanager is named, so no signal leaves: write alerting: {alertmanagers: [{static_configs: [{targets: ['127.0.0.1:9093']}]}]}")
	}
	for _, r := range x.cfg.Alerting.Relabel {
		if name := r.takes(labelGroup, labelSignal, "alertname"); name != "" {
			f.bad(r.line, "alert_relabel_configs takes the label %s off the alerts, and scalehook needs it: leave it", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(x.cfg.Global.ExternalLabels)) {
		if name == labelGroup || name == labelSignal {
			f.bad(0, "external_labels has %s, which is the alerts' own: give it another name", name)
		}
	}
	x.check(whatAlerting, f, "alerts leave with their labels")
}
