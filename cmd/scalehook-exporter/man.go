package main

import (
	"io"

	"github.com/prometheus/common/version"
	"github.com/spf13/pflag"

	"github.com/scalehook/scalehook/internal/manpage"
)

// printManual writes the manual page. The flags' defaults are those of the program,
// whatever was typed beside --help-man.
func printManual(w io.Writer, flags *pflag.FlagSet, getenv func(string) string) error {
	date, err := manpage.Date(getenv, version.BuildDate)
	if err != nil {
		return err
	}
	_, err = w.Write(manpage.Page{
		Command: "scalehook-exporter", Arguments: "[flags]",
		Short: "Prometheus metrics of the domains of one libvirt daemon",
		Long: `Serves Prometheus metrics of the domains of one libvirt daemon. It only reads. It ends
on SIGTERM and SIGINT, after the scrapes that are under way.`,
		Options: flags,
		Example: `  scalehook-exporter --web.listen-address 127.0.0.1:10071
  scalehook-exporter --libvirt.uri qemu+ssh://hypervisor/system --collector.block`,
		Sections: []manpage.Section{{Title: "Exit status", Items: []manpage.Item{
			{Word: "0", Text: "it was told to end, or --help, --help-man or --version was asked for"},
			{Word: "1", Text: "it failed, or a flag is wrong"},
		}}},
		SeeAlso: []string{"scalehook"},
		Version: version.Version, Date: date,
	}.Bytes())
	return err
}
