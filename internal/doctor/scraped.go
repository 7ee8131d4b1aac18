package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/common/model"

	"github.com/scalehook/scalehook/rules"
)

// serverSeries are what the server publishes; for simulated VMs their CPU too.
func serverSeries(simulated bool) []rules.Series {
	all := rules.ServerSeries()
	if simulated {
		all = append(all, rules.ExporterSeries()...)
	}
	return all
}

// series looks whether those that a job is to bring arrive as they were published.
func (x *prometheus) series(f *findings, j promJob, of func(promJob) bool, series []rules.Series) {
	targets, dropped := x.targets(j, of)
	if len(targets) == 0 && dropped != nil {
		f.bad(dropped.line, "relabel_configs of job %s drops all its targets (%s): let those of scalehook through", j.JobName, dropped.how())
		return
	}
	names := map[string]bool{}
	for _, s := range series {
		for _, name := range s.Labels {
			names[name] = true
		}
	}
	own := map[string]bool{}
	for _, t := range targets {
		for name := range t.labels {
			own[name] = !j.HonorLabels && names[name]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		if own[name] {
			f.bad(j.line, "the targets of job %s have a label %s of their own, and the published one becomes exported_%s: write honor_labels: true there, or give the target's another name", j.JobName, name, name)
		}
	}
	var all mishaps
	for _, s := range series {
		for _, t := range targets {
			x.follow(&all, s, t, j)
		}
	}
	where := "metric_relabel_configs of job " + j.JobName
	for _, one := range all.list {
		x.tell(f, where, one)
	}
}

// targets are the labels of those of a job's targets that are ours, and the first step
// that drops one.
func (x *prometheus) targets(j promJob, of func(promJob) bool) (all []labelled, dropped *relabel) {
	if known := x.file.Targets[j.JobName]; len(known) > 0 {
		for _, labels := range known {
			all = append(all, labelled{labels: labels})
		}
		return all, nil
	}
	ours := slices.ContainsFunc(j.Static, func(s promStatic) bool {
		return slices.ContainsFunc(s.Targets, func(t string) bool { return x.leads(of, t) })
	})
	for _, s := range j.Static {
		for _, address := range s.Targets {
			if ours && !x.leads(of, address) {
				continue // another program's, in the same job
			}
			after, kept, found := relabelled(j.target(address, s.Labels), j.Relabel)
			if !kept {
				dropped = &found[len(found)-1].step
				continue
			}
			if after.labels["instance"] == "" {
				after.labels["instance"] = after.labels["__address__"]
			}
			maps.DeleteFunc(after.labels, func(name, _ string) bool { return strings.HasPrefix(name, "__") })
			all = append(all, after)
		}
	}
	for key := range j.More {
		if strings.HasSuffix(key, "_sd_configs") {
			found := labelled{labels: map[string]string{}, open: true}
			if len(j.Relabel) == 0 {
				found.labels["job"] = j.JobName
			}
			return append(all, found), dropped
		}
	}
	return all, dropped
}

// leads reports whether a target alone makes a job one of a kind.
func (x *prometheus) leads(of func(promJob) bool, address string) bool {
	return of(promJob{Static: []promStatic{{Targets: []string{address}}}})
}

// target is one before it is relabelled.
func (j promJob) target(address string, labels map[string]string) labelled {
	l := labelled{labels: map[string]string{"__address__": address, "__scheme__": j.Scheme, "__metrics_path__": j.Path, "job": j.JobName}}
	for name, value := range map[string]string{"__scheme__": "http", "__metrics_path__": "/metrics"} {
		if l.labels[name] == "" {
			l.labels[name] = value
		}
	}
	maps.Copy(l.labels, labels)
	return l
}

// values are two of each label whose values are not known before something runs.
func values(name string) [2]string {
	switch name {
	case "uuid":
		return [2]string{"0f8a31c4-5a2e-4c6b-9d0e-7b1d2f3c4a59", "c93b7d10-e4f2-4a81-b65c-18f0a9d2e376"}
	case "vm", "domain":
		return [2]string{"web-1", "instance-0000002a"}
	case "address":
		return [2]string{"192.0.2.10", "2001:db8::10"}
	}
	return [2]string{"a", "b"}
}

// published is a series as its target publishes it, once for each group and for each of
// the values that are not known.
func (x *prometheus) published(s rules.Series) []map[string]string {
	groups := []string{"web"}
	if slices.Contains(s.Labels, labelGroup) && len(x.e.Groups) > 0 {
		groups = groups[:0]
		for _, g := range x.e.Groups {
			groups = append(groups, g.Name)
		}
	}
	name := s.Name
	if s.Kind == rules.Histogram {
		name += "_bucket"
	}
	var all []map[string]string
	for _, group := range groups {
		for which := range 2 {
			labels := map[string]string{model.MetricNameLabel: name}
			for _, label := range s.Labels {
				switch label {
				case labelGroup:
					labels[label] = group
				case "state":
					labels[label] = "in_service"
				default:
					labels[label] = values(label)[which]
				}
			}
			all = append(all, labels)
		}
	}
	return all
}

// scraped is a published series with the labels of its target.
func (j promJob) scraped(published map[string]string, target labelled) labelled {
	l := target.clone()
	for name, value := range published {
		if was, there := l.labels[name]; there && !j.HonorLabels {
			l.labels["exported_"+name] = value
			l.labels[name] = was
			continue
		}
		l.labels[name] = value
	}
	return l
}

// follow takes a series through the job's metric_relabel_configs.
func (x *prometheus) follow(all *mishaps, s rules.Series, target labelled, j promJob) {
	variants := x.published(s)
	for _, published := range variants {
		l := j.scraped(published, target)
		needed := []string{model.MetricNameLabel}
		for _, name := range s.Labels {
			if l.labels[name] == published[name] {
				needed = append(needed, name)
			}
		}
		_, _, found := relabelled(l, j.MetricRelabel, needed...)
		for _, one := range found {
			all.add(one, s.Name)
		}
	}
	all.end(s.Name, len(variants))
}

// mishaps are those of several things, each with the things that it befalls.
type mishaps struct{ list []*befallen }

type befallen struct {
	mishap

	names []string       // of the things
	some  bool           // it befalls only some of their values
	times map[string]int // while a thing is looked at
}

func (m *mishaps) add(one mishap, name string) {
	i := slices.IndexFunc(m.list, func(b *befallen) bool {
		return b.step.line == one.step.line && b.step.how() == one.step.how() && b.not == one.not && b.label == one.label
	})
	if i < 0 {
		i = len(m.list)
		m.list = append(m.list, &befallen{mishap: one, times: map[string]int{}})
	}
	b := m.list[i]
	if b.times[name]++; !slices.Contains(b.names, name) {
		b.names = append(b.names, name)
	}
}

// end says that a thing was looked at in all its variants.
func (m *mishaps) end(name string, variants int) {
	for _, b := range m.list {
		b.some = b.some || b.times[name] > 0 && b.times[name] < variants
		delete(b.times, name)
	}
}

// tell words what befalls series.
func (x *prometheus) tell(f *findings, where string, b *befallen) {
	needed := x.scaling()
	names := slices.DeleteFunc(slices.Clone(b.names), func(name string) bool { return !needed[name] })
	say, read := f.bad, "which the rules read"
	if len(names) == 0 {
		say, names, read = f.warn, b.names, "which dashboards, alerts for people or this command read"
	}
	if b.some {
		names = []string{"some of " + and(names)}
	}
	switch step := where + " (" + b.step.how() + ")"; {
	case b.not != "":
		f.warn(b.step.line, "%s was not followed: the value of %s is not known here; see that it leaves %s as it is", step, b.not, and(names))
	case b.label == "":
		say(b.step.line, "%s drops %s, %s: leave it", step, and(names), read)
	case b.label == model.MetricNameLabel:
		say(b.step.line, "%s renames %s, %s: leave it", step, and(names), read)
	default:
		if b.step.Action == "labeldrop" || b.step.Action == "labelkeep" {
			say(b.step.line, "%s takes the label %s off, by which the rules tell VMs and groups apart: leave it", where, b.label)
			return
		}
		say(b.step.line, "%s changes the label %s of %s, by which the rules tell VMs and groups apart: leave it", step, b.label, and(names))
	}
}

// scaling are the names that the scaling rules read.
func (x *prometheus) scaling() map[string]bool {
	names := map[string]bool{}
	all, err := rendered(x.e.Rules)
	if err != nil {
		return names // said with the rules
	}
	for _, s := range append(rules.ServerSeries(), rules.ExporterSeries()...) {
		names[s.Name] = slices.ContainsFunc(all, func(r Rule) bool { return r.Group == scalingRules && strings.Contains(r.Expr, s.Name) })
	}
	return names
}

// leaving looks what relabelling does to the alerts, which went through earlier steps
// before it.
func (x *prometheus) leaving(f *findings, where string, steps, earlier []relabel) {
	var all mishaps
	look := func(name string, alert map[string]string, needed ...string) {
		l, kept, _ := relabelled(x.cfg.external(alert), earlier)
		if !kept {
			return // said already
		}
		_, _, found := relabelled(l, steps, needed...)
		for _, one := range found {
			all.add(one, name)
		}
	}
	for _, which := range []string{"high", "low"} {
		for _, g := range x.e.Groups {
			look("signals", signal(g.Name, which), "alertname", labelGroup, labelSignal)
		}
	}
	look("heartbeat", map[string]string{"alertname": alertHeartbeat, "severity": "none", labelHeartbeat: "true"}, "alertname", labelHeartbeat)
	for _, alert := range peopleAlerts() {
		look("people", alert, "alertname")
	}
	for _, b := range all.list {
		step := fmt.Sprintf("%s (%s)", where, b.step.how())
		what := map[string]string{"people": "alerts for people"}
		say := f.warn
		if slices.Contains(b.names, "signals") {
			say = f.bad
			what["signals"] = "the signals"
		}
		if slices.Contains(b.names, "heartbeat") {
			what["heartbeat"] = "the heartbeat"
		}
		var names []string
		for _, name := range b.names {
			if what[name] != "" {
				names = append(names, what[name])
			}
		}
		switch {
		case b.label == "":
			say(b.step.line, "%s drops %s: let them through", step, and(names))
		case b.step.Action == "labeldrop" || b.step.Action == "labelkeep":
			say(b.step.line, "%s takes the label %s off the alerts, and scalehook needs it: leave it", where, b.label)
		default:
			say(b.step.line, "%s changes the label %s of %s, and scalehook needs it: leave it", step, b.label, and(names))
		}
	}
}
