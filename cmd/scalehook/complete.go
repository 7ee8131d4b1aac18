package main

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/config"
)

// completionDeadline bounds the question to the server: somebody waits at a prompt.
const completionDeadline = 2 * time.Second

// completions gives every command below root what can be completed: arguments by
// their names in its usage line, flags by theirs. So a new command has them as soon
// as it says GROUP.
func completions(root *cobra.Command, r *remote) {
	for _, c := range root.Commands() {
		completions(c, r)
	}
	if root.ValidArgsFunction == nil && len(root.ValidArgs) == 0 {
		root.ValidArgsFunction = r.completeArguments
	}
	for name, values := range map[string][]string{
		"output": formats(), "direction": {"out", "in", "both"}, "of": schemaKinds(),
		"log.level": {"debug", "info", "warn", "error"}, "log.format": {"logfmt", "json"},
		"domain-type": {"auto", "kvm", "qemu"}, "firmware": {"bios", "efi"},
	} {
		completeFlag(root, name, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	completeFlag(root, "group", func(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return r.groupNames(cmd), cobra.ShellCompDirectiveNoFileComp
	})
	completeFlag(root, "instance", func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return r.instanceNames(cmd, args), cobra.ShellCompDirectiveNoFileComp
	})
	completeFlag(root, "storage.path", folders)
}

func folders(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// completeFlag completes a flag of the command, if it has one of that name and no
// completion of its own.
func completeFlag(cmd *cobra.Command, name string, f cobra.CompletionFunc) {
	if cmd.Flags().Lookup(name) == nil && cmd.PersistentFlags().Lookup(name) == nil {
		return
	}
	if _, has := cmd.GetFlagCompletionFunc(name); has {
		return
	}
	if err := cmd.RegisterFlagCompletionFunc(name, f); err != nil {
		panic(err) // the flag was looked up
	}
}

// completeArguments completes the next argument by its name in the usage line.
func (r *remote) completeArguments(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	switch argumentName(cmd, len(args)) {
	case "GROUP":
		return r.groupNames(cmd), cobra.ShellCompDirectiveNoFileComp
	case "INSTANCE", "VM":
		return r.instanceNames(cmd, args), cobra.ShellCompDirectiveNoFileComp
	case "NAME…":
		return r.orphanNames(cmd), cobra.ShellCompDirectiveNoFileComp
	case "FILE", "BASE":
		return nil, cobra.ShellCompDirectiveDefault
	case "DIR":
		return folders(cmd, args, "")
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// argumentName is what the usage line calls an argument; a last one with … is all
// that follow.
func argumentName(cmd *cobra.Command, index int) string {
	_, names, _ := strings.Cut(cmd.Use, " ")
	list := strings.Fields(strings.NewReplacer("[", "", "]", "").Replace(names))
	if index >= len(list) {
		if len(list) > 0 && strings.HasSuffix(list[len(list)-1], "…") {
			return list[len(list)-1]
		}
		return ""
	}
	return list[index]
}

// asked returns what the server answers in time, or nothing: a prompt is no place
// for errors. Only commands that ask a server anyway are completed by one.
func asked[T any](cmd *cobra.Command, r *remote, f func(context.Context, *client.Client) ([]T, error), name func(T) string) []cobra.Completion {
	if u := cmd.Flags().Lookup("url"); u == nil || !strings.Contains(u.Usage, envURL) {
		return nil
	}
	c, err := r.client()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionDeadline)
	defer cancel()
	list, err := f(ctx, c)
	if err != nil {
		return nil
	}
	out := make([]cobra.Completion, 0, len(list))
	for _, v := range list {
		out = append(out, name(v))
	}
	return out
}

// groupNames are those of the server that the command asks, or of the configuration
// that it reads.
func (r *remote) groupNames(cmd *cobra.Command) []cobra.Completion {
	names := asked(cmd, r, func(ctx context.Context, c *client.Client) ([]api.Group, error) { return c.Groups(ctx) },
		func(g api.Group) string { return cobra.CompletionWithDesc(g.Name, g.Mode) })
	file := cmd.Flags().Lookup("config.file")
	if names != nil || file == nil {
		return names
	}
	if c, err := config.Load(file.Value.String()); err == nil {
		names = slices.Sorted(maps.Keys(c.Groups))
	}
	return names
}

// instanceNames are those of the group that was typed before, or of all.
func (r *remote) instanceNames(cmd *cobra.Command, args []string) []cobra.Completion {
	return asked(cmd, r, func(ctx context.Context, c *client.Client) ([]api.Instance, error) {
		if len(args) > 0 {
			return c.Instances(ctx, args[0])
		}
		groups, err := c.Groups(ctx)
		var all []api.Instance
		for _, g := range groups {
			all = append(all, g.Instances...)
		}
		return all, err
	}, func(i api.Instance) string { return cobra.CompletionWithDesc(i.Name, i.State) })
}

func (r *remote) orphanNames(cmd *cobra.Command) []cobra.Completion {
	return asked(cmd, r, func(ctx context.Context, c *client.Client) ([]api.Orphan, error) { return c.Orphans(ctx) },
		func(o api.Orphan) string { return cobra.CompletionWithDesc(o.Name, o.Status) })
}
