package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/scalehook/scalehook/internal/manpage"
)

func newManCommand(getenv func(string) string) *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages into a folder",
		Long: `Write the manual pages of scalehook and of each of its commands into an existing
folder, such as scalehook.1 and scalehook-serve.1. They say what --help says, and are
the same to the byte for the same program: their date is that of its build, or
SOURCE_DATE_EPOCH. That of the exporter is printed by "scalehook-exporter --help-man".`,
		Example: `  mkdir man1 && scalehook man man1
  man -l man1/scalehook-explain.1`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			pages, err := manPages(getenv)
			if err != nil {
				return err
			}
			for _, p := range pages {
				if err := os.WriteFile(filepath.Join(args[0], p.Name()+".1"), p.Bytes(), 0o644); err != nil { //nolint:gosec // everybody reads manual pages
					return during("write the manual pages", err)
				}
			}
			return nil
		},
	}
}

// manPages are those of all commands, with defaults that no environment changed.
func manPages(getenv func(string) string) ([]manpage.Page, error) {
	date, err := manpage.Date(getenv, version.BuildDate)
	if err != nil {
		return nil, err
	}
	root := newRootCommand(func(string) string { return "" })
	root.InitDefaultCompletionCmd("")
	var pages []manpage.Page
	var add func(*cobra.Command)
	add = func(c *cobra.Command) {
		c.InitDefaultHelpFlag()
		options := pflag.NewFlagSet(c.Name(), pflag.ContinueOnError)
		options.AddFlagSet(c.NonInheritedFlags())
		options.AddFlagSet(c.InheritedFlags())
		p := manpage.Page{
			Command: c.CommandPath(), Short: c.Short, Long: c.Long, Options: options, Example: c.Example,
			Arguments: strings.TrimSpace(strings.TrimPrefix(c.UseLine(), c.CommandPath())),
			Version:   version.Version, Date: date,
		}
		if c.HasAvailableSubCommands() && !c.HasParent() {
			p.Arguments = "COMMAND [flags]"
			p.Sections = append(p.Sections, commandList(c))
		}
		p.Sections = append(p.Sections, exitStatus(), environment(options))
		if c.HasParent() {
			p.SeeAlso = append(p.SeeAlso, strings.ReplaceAll(c.Parent().CommandPath(), " ", "-"))
		}
		for _, sub := range c.Commands() {
			if !sub.IsAvailableCommand() || sub.IsAdditionalHelpTopicCommand() {
				continue
			}
			p.SeeAlso = append(p.SeeAlso, strings.ReplaceAll(sub.CommandPath(), " ", "-"))
			add(sub)
		}
		if !c.HasParent() {
			p.SeeAlso = append(p.SeeAlso, "scalehook-exporter")
		}
		pages = append(pages, p)
	}
	add(root)
	return pages, nil
}

func commandList(root *cobra.Command) manpage.Section {
	s := manpage.Section{Title: "Commands"}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() && !c.IsAdditionalHelpTopicCommand() {
			s.Items = append(s.Items, manpage.Item{Word: c.Use, Text: c.Short})
		}
	}
	return s
}

func exitStatus() manpage.Section {
	s := manpage.Section{Title: "Exit status"}
	for _, c := range exitCodes() {
		s.Items = append(s.Items, manpage.Item{Word: strconv.Itoa(c.code), Text: c.meaning})
	}
	return s
}

// environment are the variables that a command reads.
func environment(flags *pflag.FlagSet) manpage.Section {
	s := manpage.Section{Title: "Environment"}
	for _, v := range []struct{ flag, name string }{{"url", envURL}, {"token-file", envTokenFile}, {"http.config.file", envHTTPConfig}} {
		if f := flags.Lookup(v.flag); f != nil && strings.Contains(f.Usage, v.name) {
			s.Items = append(s.Items, manpage.Item{Word: v.name, Text: fmt.Sprintf("the default of --%s", v.flag)})
		}
	}
	return s
}
