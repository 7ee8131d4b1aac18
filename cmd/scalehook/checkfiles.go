package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/doctor"
)

// monitoringFiles are configurations of the programs in front of scalehook.
type monitoringFiles struct {
	alertmanager, prometheus string
	receivers                []string
}

func (m *monitoringFiles) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&m.alertmanager, "alertmanager", "", "Alertmanager's configuration to examine too")
	f.StringVar(&m.prometheus, "prometheus", "", "Prometheus's configuration to examine too, and the rule files that it names")
	f.StringArrayVar(&m.receivers, "receiver", nil, "with --alertmanager: the receiver that posts to this scalehook, where its URL does not show it; may be given several times")
}

// check examines the files by what scalehook's own configuration asks for.
func (m *monitoringFiles) check(out *checked, file, serverURL string) error {
	if m.alertmanager == "" && m.prometheus == "" {
		return nil
	}
	c, err := config.Load(file)
	if err != nil {
		return err
	}
	e := doctor.Expect(c).At(serverURL)
	e.Receivers = m.receivers
	for _, one := range []struct {
		name    string
		examine func(text []byte, dir string) []doctor.Check
	}{
		{m.prometheus, func(text []byte, dir string) []doctor.Check {
			e.Leave = doctor.Leaving(text) // for Alertmanager's, which comes next
			return doctor.Prometheus(e, doctor.PrometheusFile{Text: text, Dir: dir})
		}},
		{m.alertmanager, func(text []byte, dir string) []doctor.Check {
			return doctor.Alertmanager(e, doctor.AlertmanagerFile{Text: text, Dir: dir, Peers: len(c.Alertmanagers)})
		}},
	} {
		if one.name == "" {
			continue
		}
		text, err := os.ReadFile(one.name)
		if err != nil {
			return err
		}
		dir, err := filepath.Abs(filepath.Dir(one.name))
		if err != nil {
			return err
		}
		checks := one.examine(text, dir)
		for _, c := range checks {
			severity := severityError
			switch {
			case c.OK && !c.Warning:
				continue
			case c.OK:
				severity = severityWarning
			}
			out.add(severity, config.Problem{File: one.name, Line: max(c.Line, 1), Text: c.What + ": " + c.Detail})
		}
		if doctor.Failed(checks) {
			continue
		}
		if err := out.fine(one.name); err != nil {
			return err
		}
	}
	return nil
}
