package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
)

// tokens looks at the files of the tokens.
func (x *live) tokens() []Check {
	r := &report{part: PartConfiguration}
	if len(x.e.Tokens) == 0 {
		r.warn(0, "tokens", "there are none, so no notification and no order is accepted, or everybody's are (--web.insecure-operator): state tokens, one of the role alerts and one of the role operator")
	}
	for i, t := range x.e.Tokens {
		what := "token " + t.Name
		if err := x.CheckToken(i); err != nil {
			r.bad(0, what, "%v", err)
			continue
		}
		r.secret(what, t.File)
	}
	if x.TokenFile != "" && !slices.ContainsFunc(x.e.Tokens, func(t Token) bool { return sameFile(t.File, x.TokenFile) }) {
		r.secret("token file", x.TokenFile)
	}
	return r.checks
}

// webhooks looks at what those that are told of ended activities need. Nothing is sent.
func (x *live) webhooks() []Check {
	r := &report{part: PartConfiguration}
	for i, w := range x.Config.Webhooks {
		what := "webhook " + w.Name
		if err := x.CheckWebhook(i); err != nil {
			r.bad(0, what, "%v", err)
			continue
		}
		r.secret(what, w.SecretFile)
	}
	return r.checks
}

// sameFile reports whether two names are one file's.
func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	two, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(one, two)
}

// secret looks who else may read or write a file.
func (r *report) secret(what, file string) {
	info, err := os.Stat(file)
	if err != nil {
		r.bad(0, what, "%v", err)
		return
	}
	switch mode := info.Mode().Perm(); {
	case mode&0o007 != 0:
		r.bad(0, what, "%s has mode %04o, and everybody on this machine may use it: chmod 640 %s", file, mode, file)
	case mode&0o020 != 0:
		r.bad(0, what, "%s has mode %04o, and its group may put another into it: chmod 640 %s", file, mode, file)
	default:
		r.ok(what, "%s, mode %04o", file, mode)
	}
}

// server asks the running server with the token that was given.
func (x *live) server(ctx context.Context) []Check {
	r := &report{part: PartServer}
	info, err := x.Server.RuntimeInfo(ctx)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("ask %s: %w", x.ServerURL, context.Cause(ctx))
		}
		r.bad(0, "answers", "%v: %s", err, x.serverAdvice(err))
		return r.checks
	}
	if !info.Ready {
		r.bad(0, "answers", "%s is not ready: %s", x.ServerURL, info.NotReady)
		return r.checks
	}
	build, err := x.Server.BuildInfo(ctx)
	switch {
	case err != nil:
		r.bad(0, "answers", "%v: %s", err, x.serverAdvice(err))
		return r.checks
	case build.Version != x.Version:
		r.warn(0, "answers", "%s is ready, and of version %s where this program is %s: restart it, or ask with its own program", x.ServerURL, build.Version, x.Version)
	default:
		r.ok("answers", "%s is ready", x.ServerURL)
	}
	groups, err := x.Server.Groups(ctx)
	if err != nil {
		r.bad(0, "groups", "%v: %s", err, x.serverAdvice(err))
		return r.checks
	}
	x.groups(r, groups)
	return r.checks
}

func (x *live) serverAdvice(err error) string {
	if answer, ok := errors.AsType[*client.Error](err); ok && (answer.Type == api.ErrorUnauthorized || answer.Type == api.ErrorForbidden) {
		return "name a file with one of the server's tokens by --token-file"
	}
	return "does scalehook serve run there, and is --url its address?"
}

// groups compares the server's with the file's.
func (x *live) groups(r *report, groups []api.Group) {
	var missing, more []string
	for _, g := range x.e.Groups {
		if !slices.ContainsFunc(groups, func(s api.Group) bool { return s.Name == g.Name }) {
			missing = append(missing, g.Name)
		}
	}
	for _, s := range groups {
		if !slices.ContainsFunc(x.e.Groups, func(g Group) bool { return g.Name == s.Name }) {
			more = append(more, s.Name)
		}
	}
	var f findings
	if len(missing) > 0 {
		f.bad(0, "it does not know %s, which the file has: scalehook reload, or name the server's own file with --config.file", and(missing))
	}
	if len(more) > 0 {
		f.bad(0, "it has %s, which the file has not: scalehook reload, or name the server's own file with --config.file", and(more))
	}
	r.check("groups", f, "those of the file")
	for _, g := range groups {
		var f findings
		for _, p := range g.Problems {
			f.warn(0, "%s", p)
		}
		if g.Pause != nil && len(g.Problems) == 0 {
			f.warn(0, "paused: scalehook resume %s", g.Name)
		}
		if g.Release != nil && len(g.Problems) == 0 {
			f.warn(0, "let go by %s, so nothing is done for it: take it out of the configuration, or scalehook resume %s and it begins anew", g.Release.By, g.Name)
		}
		if len(f.hint) > 0 {
			f.hint[len(f.hint)-1] += fmt.Sprintf(" (scalehook explain %s)", g.Name)
		}
		r.check("group "+g.Name, f, "%s, %s in service", strings.ReplaceAll(g.Mode, "_", " "), plural(g.InService, "instance"))
	}
}
