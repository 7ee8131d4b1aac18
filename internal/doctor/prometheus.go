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

	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/rules"
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
		Relabel       []relabel `yaml:"alert_relabel_configs"`
		Alertmanagers []struct {
			Relabel []relabel `yaml:"alert_relabel_configs"`
		} `yaml:"alertmanagers"`
	} `yaml:"alerting"`
	ScrapeConfigs []promJob `yaml:"scrape_configs"`
}

// promStatic are targets that are listed.
type promStatic struct {
	Targets []string          `yaml:"targets"`
	Labels  map[string]string `yaml:"labels"`
}

// promJob is one scrape job.
type promJob struct {
	JobName        string          `yaml:"job_name"`
	HonorLabels    bool            `yaml:"honor_labels"`
	ScrapeInterval *model.Duration `yaml:"scrape_interval"`
	Static         []promStatic    `yaml:"static_configs"`
	Relabel        []relabel       `yaml:"relabel_configs"`
	MetricRelabel  []relabel       `yaml:"metric_relabel_configs"`
	Scheme         string          `yaml:"scheme"`
	Path           string          `yaml:"metrics_path"`
	// More has the keys of the other ways to find targets, and much else.
	More map[string]yaml.Node `yaml:",inline"`

	line int
}

// UnmarshalYAML keeps the line.
func (j *promJob) UnmarshalYAML(node *yaml.Node) error {
	type plain promJob
	j.line = node.Line
	return node.Decode((*plain)(j))
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
	// Targets are the labels of the targets of each job, where they are known; nil to go
	// by static_configs and relabel_configs.
	Targets map[string][]map[string]string
}

// Prometheus examines a configuration of Prometheus: whether scalehook and the
// exporters are scraped as often as the rules ask for, with their labels as they are,
// whether the rules are among the rule files, and whether alerts go anywhere.
func Prometheus(e Expected, file PrometheusFile) []Check {
	x := &prometheus{report: report{part: PartPrometheus}, e: e, file: file}
	x.examine()
	return x.checks
}

// Leaving returns what the labels of an alert are once it left a Prometheus of that
// configuration: with its external labels and relabelled. It returns nil where the
// configuration cannot be read, which Prometheus tells of.
func Leaving(text []byte) func(alert map[string]string) map[string]string {
	var cfg promConfig
	if yaml.Unmarshal(text, &cfg) != nil {
		return nil
	}
	return func(alert map[string]string) map[string]string {
		after, kept, _ := relabelled(cfg.external(alert), cfg.Alerting.Relabel)
		if !kept {
			return alert // which is told where Prometheus is looked at
		}
		return after.labels
	}
}

// external adds the labels that every alert gets which lacks them.
func (c *promConfig) external(alert map[string]string) labelled {
	all := maps.Clone(c.Global.ExternalLabels)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, alert)
	return labelled{labels: all}
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
	x.job(whatServerJob, x.server, x.file.ServerJobs, serverSeries(x.e.Simulated),
		"add {job_name: scalehook, honor_labels: true, static_configs: [{targets: ['"+x.address()+"']}]} to scrape_configs")
	if !x.e.Simulated && !x.otherReadings() {
		x.job(whatExporterJob, x.exporter, x.file.ExporterJobs, rules.ExporterSeries(),
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
func (x *prometheus) job(what string, of func(promJob) bool, known []string, series []rules.Series, add string) {
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
		x.series(&f, j, of, series)
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

// alerting looks whether alerts leave Prometheus with their labels.
func (x *prometheus) alerting() {
	var f findings
	if len(x.cfg.Alerting.Alertmanagers) == 0 {
		f.bad(0, "no Alertmanager is named, so no signal leaves: write alerting: {alertmanagers: [{static_configs: [{targets: ['127.0.0.1:9093']}]}]}")
	}
	x.leaving(&f, "alert_relabel_configs", x.cfg.Alerting.Relabel, nil)
	each, whole := findings{}, false
	for i, one := range x.cfg.Alerting.Alertmanagers {
		var own findings
		x.leaving(&own, fmt.Sprintf("alert_relabel_configs of alertmanagers[%d]", i), one.Relabel, x.cfg.Alerting.Relabel)
		whole = whole || len(own.bads)+len(own.hint) == 0
		each.add(own)
	}
	if !whole {
		f.add(each) // else there is one that gets them all
	}
	for _, name := range slices.Sorted(maps.Keys(x.cfg.Global.ExternalLabels)) {
		if name == labelGroup || name == labelSignal {
			f.bad(0, "external_labels has %s, which is the alerts' own: give it another name", name)
		}
	}
	x.check(whatAlerting, f, "alerts leave with their labels")
}
