package doctor

// RulesAsLoaded is a rule file as Prometheus's API tells it.
func RulesAsLoaded(text []byte) (groups []map[string]any, err error) {
	all, err := parseRules(text)
	if err != nil {
		return nil, err
	}
	for _, r := range all {
		kind := "recording"
		if r.Alert {
			kind = "alerting"
		}
		groups = append(groups, map[string]any{"name": r.Group, "interval": r.Interval.Seconds(), "rules": []any{map[string]any{
			"name": r.Name, "query": normal(r.Expr), "type": kind, "duration": r.For.Seconds(), "labels": r.Labels, "lastError": "",
		}}})
	}
	return groups, nil
}

// Secret looks at one file.
func Secret(file string) Check {
	r := &report{}
	r.secret("file", file)
	return r.checks[0]
}

// Documented holds checks against the table of the page.
var Documented = documented
