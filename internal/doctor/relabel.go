package doctor

import (
	"crypto/md5" //nolint:gosec // hashmod is defined by it
	"encoding/binary"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// relabel is a step of relabelling.
type relabel struct {
	Action       string   `yaml:"action"`
	SourceLabels []string `yaml:"source_labels"`
	Separator    *string  `yaml:"separator"`
	Regex        *string  `yaml:"regex"`
	Modulus      uint64   `yaml:"modulus"`
	TargetLabel  string   `yaml:"target_label"`
	Replacement  *string  `yaml:"replacement"`

	line int
	re   *regexp.Regexp // nil: Prometheus would not start with it
}

// What Prometheus takes where a step says nothing.
const (
	defaultSeparator   = ";"
	defaultRegex       = "(.*)"
	defaultReplacement = "$1"
)

// UnmarshalYAML keeps the line and fills the defaults in.
func (r *relabel) UnmarshalYAML(node *yaml.Node) error {
	type plain relabel
	r.line = node.Line
	if err := node.Decode((*plain)(r)); err != nil {
		return err
	}
	if r.Action = strings.ToLower(r.Action); r.Action == "" {
		r.Action = "replace"
	}
	for at, value := range map[**string]string{&r.Separator: defaultSeparator, &r.Regex: defaultRegex, &r.Replacement: defaultReplacement} {
		if *at == nil {
			*at = &value
		}
	}
	r.re, _ = regexp.Compile("^(?s:" + *r.Regex + ")$")
	return nil
}

// labelled are the labels of one series, target or alert while it is relabelled.
type labelled struct {
	labels map[string]string
	// unknown are those that it may have with a value that is not known here.
	unknown map[string]bool
	// open says that it may have labels that are not known here at all.
	open bool
}

func (l labelled) clone() labelled {
	unknown := maps.Clone(l.unknown)
	if unknown == nil {
		unknown = map[string]bool{}
	}
	return labelled{maps.Clone(l.labels), unknown, l.open}
}

// knows reports whether the value of a label, or that it is not there, is known.
func (l labelled) knows(name string) bool {
	_, there := l.labels[name]
	return !l.unknown[name] && (there || !l.open)
}

func (l labelled) set(name, value string) {
	delete(l.unknown, name)
	if value == "" {
		delete(l.labels, name)
		return
	}
	l.labels[name] = value
}

// apply does what Prometheus does at this step. keep says whether anything is left; not
// is the label whose value would have to be known to tell what becomes of it, empty if
// it can be told: then the step is taken to change nothing but what it writes to.
func (r relabel) apply(l labelled) (keep bool, not string) {
	if r.re == nil {
		return true, ""
	}
	reads := r.SourceLabels
	if r.Action == "dropequal" || r.Action == "keepequal" {
		reads = append(slices.Clone(reads), r.TargetLabel)
	}
	for _, name := range reads {
		if l.knows(name) {
			continue
		}
		switch r.Action {
		case "drop", "keep", "dropequal", "keepequal":
			return true, name
		case "replace", "hashmod", "lowercase", "uppercase":
			if !r.decided() {
				delete(l.labels, r.TargetLabel)
				l.unknown[r.TargetLabel] = true
				return true, name
			}
		}
	}
	return r.change(l), ""
}

// decided reports that a step writes the same whatever it reads.
func (r relabel) decided() bool {
	return r.Action == "replace" && *r.Regex == defaultRegex && !strings.Contains(*r.Replacement, "$") && !strings.Contains(r.TargetLabel, "$")
}

// change is the step on labels that are known, in the words of Prometheus's
// documentation of relabel_config.
func (r relabel) change(l labelled) (keep bool) {
	values := make([]string, len(r.SourceLabels))
	for i, name := range r.SourceLabels {
		values[i] = l.labels[name]
	}
	value := strings.Join(values, *r.Separator)
	switch r.Action {
	case "drop":
		return !r.re.MatchString(value)
	case "keep":
		return r.re.MatchString(value)
	case "dropequal":
		return l.labels[r.TargetLabel] != value
	case "keepequal":
		return l.labels[r.TargetLabel] == value
	case "replace":
		r.replace(l, value)
	case "lowercase":
		l.set(r.TargetLabel, strings.ToLower(value))
	case "uppercase":
		l.set(r.TargetLabel, strings.ToUpper(value))
	case "hashmod":
		if r.Modulus > 0 {
			hash := md5.Sum([]byte(value)) //nolint:gosec // see above
			l.set(r.TargetLabel, strconv.FormatUint(binary.BigEndian.Uint64(hash[8:])%r.Modulus, 10))
		}
	case "labelmap":
		was := maps.Clone(l.labels)
		for _, name := range slices.Sorted(maps.Keys(was)) { // of several onto one the last stays
			if r.re.MatchString(name) {
				l.set(r.re.ReplaceAllString(name, *r.Replacement), was[name])
			}
		}
	case "labeldrop", "labelkeep":
		for name := range maps.Clone(l.labels) {
			if r.re.MatchString(name) == (r.Action == "labeldrop") {
				delete(l.labels, name)
			}
		}
		for name := range maps.Clone(l.unknown) {
			if r.re.MatchString(name) == (r.Action == "labeldrop") {
				delete(l.unknown, name)
			}
		}
	}
	return true
}

// labelRE is what Prometheus takes for a label's name.
var labelRE = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

func (r relabel) replace(l labelled, value string) {
	found := r.re.FindStringSubmatchIndex(value)
	if found == nil {
		return
	}
	target := string(r.re.ExpandString(nil, r.TargetLabel, value, found))
	if labelRE.MatchString(target) {
		l.set(target, string(r.re.ExpandString(nil, *r.Replacement, value, found)))
	}
}

// A mishap is what relabelling does to something of ours.
type mishap struct {
	step relabel
	// not names the label that it depends on and that is not known here; else the step
	// drops the thing, or it changes the label.
	not, label string
}

// relabelled takes labels through the steps, and tells of the first step that drops
// them, of each that changes one of the needed labels, and of each that cannot be
// followed.
func relabelled(l labelled, steps []relabel, needed ...string) (after labelled, kept bool, found []mishap) {
	l = l.clone()
	for _, step := range steps {
		was := l.clone()
		keep, not := step.apply(l)
		if !keep {
			return l, false, append(found, mishap{step: step})
		}
		changed := ""
		for _, name := range needed {
			if changed == "" && (l.labels[name] != was.labels[name] || l.unknown[name] && !was.unknown[name]) {
				changed = name
			}
		}
		switch {
		case not != "" && (changed != "" || len(step.SourceLabels) > 0 && !writes(step.Action)):
			found = append(found, mishap{step: step, not: not})
		case changed != "":
			found = append(found, mishap{step: step, label: changed})
			needed = slices.DeleteFunc(slices.Clone(needed), func(n string) bool { return n == changed })
		}
	}
	return l, true, found
}

// writes reports whether an action changes labels, and drops nothing.
func writes(action string) bool {
	switch action {
	case "drop", "keep", "dropequal", "keepequal":
		return false
	}
	return true
}

// how says what a step does, to find it by.
func (r relabel) how() string {
	switch {
	case r.Action == "labeldrop" || r.Action == "labelkeep":
		return fmt.Sprintf("action: %s, regex: %s", r.Action, *r.Regex)
	case r.Action == "labelmap":
		return fmt.Sprintf("action: labelmap, regex: %s, replacement: %s", *r.Regex, *r.Replacement)
	case writes(r.Action), r.Action == "dropequal", r.Action == "keepequal":
		return fmt.Sprintf("action: %s, source_labels: [%s], target_label: %s", r.Action, strings.Join(r.SourceLabels, ", "), r.TargetLabel)
	}
	return fmt.Sprintf("action: %s, source_labels: [%s], regex: %s", r.Action, strings.Join(r.SourceLabels, ", "), *r.Regex)
}
