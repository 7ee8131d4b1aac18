package main

import (
	"fmt"
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

// check examines the files by what scalehook's own configuration asks for, and prints
// each problem with file and line.
func (m *monitoringFiles) check(cmd *cobra.Command, file, serverURL string) error {
	if m.alertmanager == "" && m.prometheus == "" {
		return nil
	}
	c, err := config.Load(file)
	if err != nil {
		return err
	}
	e := doctor.Expect(c).At(serverURL)
	e.Receivers = m.receivers
	failed := false
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
		for _, found := range checks {
			if found.OK && !found.Warning {
				continue
			}
			kind := ""
			if found.OK {
				kind = "warning: "
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s%s:%d: %s: %s\n", kind, one.name, max(found.Line, 1), found.What, found.Detail)
		}
		if doctor.Failed(checks) {
			failed = true
			continue
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: no problem found\n", one.name); err != nil {
			return err
		}
	}
	if failed {
		return errReported
	}
	return nil
}
