package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/oklog/run"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"github.com/spf13/cobra"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/audit"
	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/delivery"
	"github.com/scalehook/scalehook/internal/engine"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
	"github.com/scalehook/scalehook/webhook"
)

// serveFlags are the flags of serve.
type serveFlags struct {
	configFile, webConfigFile, storagePath string
	auditFile                              string
	listen, allowedHosts                   []string
	externalURL                            string
	lifecycle, insecure, pprof, observe    bool
	maxConnections                         int
	logLevel                               *promslog.Level
	logFormat                              *promslog.Format
}

const defaultConfigFile = "/etc/scalehook/scalehook.yml"

func newServeCommand() *cobra.Command {
	o := &serveFlags{logLevel: promslog.NewLevel(), logFormat: promslog.NewFormat()}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server until SIGTERM or SIGINT. Stopping changes nothing: VMs go on serving
and stay in their pools. SIGHUP (and POST /-/reload with --web.enable-lifecycle)
reads the configuration again; one with an error leaves the old one in force.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), o, cmd.ErrOrStderr()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.configFile, "config.file", defaultConfigFile, "configuration file")
	f.StringArrayVar(&o.listen, "web.listen-address", []string{"127.0.0.1:10070"}, "address to listen on; may be given several times")
	f.StringVar(&o.webConfigFile, "web.config.file", "", "exporter-toolkit's file for TLS and client certificates")
	f.StringVar(&o.externalURL, "web.external-url", "", "URL at which people and senders reach the server; its host is accepted in the Host header")
	f.StringArrayVar(&o.allowedHosts, "web.allowed-host", nil, "further name accepted in the Host header, besides localhost and IP addresses; may be given several times")
	f.BoolVar(&o.lifecycle, "web.enable-lifecycle", false, "reload by POST /-/reload")
	f.BoolVar(&o.insecure, "web.insecure-operator", false, "take orders and notifications without a bearer token")
	f.BoolVar(&o.pprof, "web.enable-pprof", false, "serve /debug/pprof to operators of all groups")
	f.IntVar(&o.maxConnections, "web.max-connections", 512, "most open connections per address; slow ones make room for new ones")
	f.StringVar(&o.storagePath, "storage.path", "data", "folder of the store")
	f.StringVar(&o.auditFile, "audit.file", "", "file that gets who wanted to change what, as JSON lines; what cannot be written there is not done (default: the log)")
	f.Var(flagValue{o.logLevel, "level"}, "log.level", "least severe messages to log: debug, info, warn or error")
	f.Var(flagValue{o.logFormat, "format"}, "log.format", "format of the log: logfmt (the default) or json")
	f.BoolVar(&o.observe, "observe", false, "decide and explain, and change nothing, whatever the groups' modes")
	return cmd
}

// flagValue gives promslog's flags the type name that pflag wants.
type flagValue struct {
	value interface {
		String() string
		Set(s string) error
	}
	kind string
}

// String is the value.
func (f flagValue) String() string { return f.value.String() }

// Set parses the value.
func (f flagValue) Set(s string) error { return f.value.Set(s) }

// Type names what is expected, for the help.
func (f flagValue) Type() string { return f.kind }

// serve runs the server until ctx ends.
func serve(ctx context.Context, o *serveFlags, stderr io.Writer) (err error) {
	log := promslog.New(&promslog.Config{Level: o.logLevel, Format: o.logFormat, Writer: stderr})
	engine.LimitHeap()
	log.Info("starting scalehook", "version", version.Info(), "build", version.BuildContext())
	external, err := parseExternalURL(o.externalURL)
	if err != nil {
		return err
	}
	a := &app{flags: o, log: log, registry: prometheus.NewRegistry()}
	defer func() { err = errors.Join(err, a.close()) }()
	if err := a.open(ctx, external); err != nil {
		return err
	}
	listeners, err := webhook.Listen(ctx, o.listen)
	if err != nil {
		return err
	}

	var g run.Group
	add := func(name string, f func(context.Context) error) {
		actor, cancel := context.WithCancel(ctx)
		g.Add(func() error { return during(name, f(actor)) }, func(error) { cancel() })
	}
	add("wait for the end", func(ctx context.Context) error { <-ctx.Done(); return nil })
	add("reconcile", a.engine.Run)
	add("deliver", a.deliveries.Run)
	add("serve", func(ctx context.Context) error { return a.web.Run(ctx, listeners, o.webConfigFile) })
	add("wait for SIGHUP", a.awaitHangup)
	add("tell systemd", a.tellSystemd)
	err = g.Run()
	log.Info("stopped; VMs and pool members stay as they are")
	return err
}

func parseExternalURL(text string) (*url.URL, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // none is what was asked for
	}
	u, err := url.Parse(text)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, usageError{fmt.Errorf("--web.external-url %q: must be like https://scalehook.example", text)}
	}
	return u, nil
}

// app is the running server's parts.
type app struct {
	flags      *serveFlags
	log        *slog.Logger
	registry   *prometheus.Registry
	store      *store.Store
	engine     *engine.Engine
	deliveries *delivery.Service
	web        *webhook.Server
	audit      *audit.Log
	reloader   *reloader
}

// open makes the parts and touches nothing but the store.
func (a *app) open(ctx context.Context, external *url.URL) error {
	a.registry.MustRegister(
		versioncollector.NewCollector("scalehook"),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	var err error
	if a.audit, err = audit.Open(a.flags.auditFile, a.log, a.registry); err != nil {
		return err
	}
	if err := a.auditStart(); err != nil {
		return err
	}
	a.reloader = newReloader(a.flags.configFile, a.log, a.registry)
	runtime, err := a.reloader.start(ctx)
	if err != nil {
		return err
	}
	if a.store, err = store.Open(ctx, storeFile(a.flags.storagePath), store.Options{Logger: a.log}); err != nil {
		return err
	}
	durable := faultyStore(a.store)
	a.engine, err = engine.New(ctx, engine.Options{
		Store: durable, Groups: faultyGroups(runtime, groupConfigs(runtime)), Meter: runtime.Meter, Confirmers: runtime.Confirmers,
		Logger: a.log, Registerer: a.registry, Observe: a.flags.observe,
	})
	if err != nil {
		return err
	}
	if err := a.openDeliveries(runtime, external); err != nil {
		return err
	}
	opts := webhook.Options{
		Intake: a.engine, Operator: a.engine, Viewer: a.engine, Cleaner: a.engine, Leaver: a.engine,
		Tokens: tokens(runtime.Tokens), Insecure: a.flags.insecure, ExternalURL: external, AllowedHosts: a.flags.allowedHosts,
		Logger: a.log, Registry: a.registry, Ready: a.ready, Backup: durable.Backup, BackupDir: a.flags.storagePath,
		Audit: a.audit, Config: a.reloader.redacted, Pprof: a.flags.pprof, MaxConnections: a.flags.maxConnections,
		Build: api.BuildInfo{
			Version: version.Version, Revision: version.GetRevision(), Branch: version.Branch,
			BuildDate: version.BuildDate, GoVersion: version.GoVersion,
		},
	}
	if a.flags.lifecycle {
		opts.Reload = a.reload
	}
	if a.web, err = webhook.New(opts); err != nil { //nolint:contextcheck // a handler has its request's context
		return err
	}
	if err := a.web.CheckWebConfig(a.flags.webConfigFile); err != nil {
		return err
	}
	if a.flags.insecure {
		a.log.Warn("orders and notifications are taken without a token", "flag", "--web.insecure-operator")
	}
	return nil
}

// auditStart writes that the server begins, and with which rights it gives away.
func (a *app) auditStart() error {
	said := "version " + version.Version
	if a.flags.insecure {
		said += ", --web.insecure-operator: orders need no token"
	}
	return a.audit.Write(audit.Entry{
		ID: strings.ToLower(rand.Text()[:16]), Action: "start", Outcome: audit.Taken, By: fmt.Sprintf("uid %d", os.Getuid()), Auth: "none", Message: said,
	})
}

// openDeliveries makes what tells webhooks of activities that ended.
func (a *app) openDeliveries(runtime *config.Runtime, external *url.URL) (err error) {
	prepared, err := delivery.Prepare(hooks(runtime.Webhooks))
	if err != nil {
		return err
	}
	o := delivery.Options{
		Journal: a.store, Convert: webhook.Activity, Owner: runtime.Owner, Version: version.Version, Logger: a.log, Registerer: a.registry,
	}
	o.Host, _ = os.Hostname() // without one it is left out
	if external != nil {
		o.ExternalURL = external.String()
	}
	if a.deliveries, err = delivery.New(o); err != nil {
		return err
	}
	a.deliveries.Use(prepared)
	return nil
}

// close ends what open began, in the opposite order.
func (a *app) close() error {
	var errs []error
	if a.reloader != nil {
		errs = append(errs, a.reloader.close())
	}
	if a.store != nil {
		errs = append(errs, a.store.Close())
	}
	if a.audit != nil {
		errs = append(errs, a.audit.Close())
	}
	return errors.Join(errs...)
}

// reload reads the configuration again. Everything that can fail is done before
// anything that is in force is replaced.
func (a *app) reload(ctx context.Context) (effects []scaling.Effect, err error) {
	a.notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
	defer a.notify(daemon.SdNotifyReady)
	err = a.reloader.reload(ctx, func(next *config.Runtime) error {
		var err error
		if effects, err = a.engine.Effects(ctx, next.Groups); err != nil {
			return err
		}
		prepared, err := delivery.Prepare(hooks(next.Webhooks))
		if err != nil {
			return err
		}
		list := tokens(next.Tokens)
		if err := webhook.CheckTokens(list); err != nil {
			return err
		}
		if err := webhook.CheckWebConfig(a.flags.webConfigFile, len(list) > 0); err != nil {
			return err
		}
		if err := a.web.SetTokens(list); err != nil {
			return err
		}
		for _, e := range effects {
			a.log.Info("the new configuration has an effect", "group", e.Group, "kind", string(e.Kind), "effect", e.Text)
		}
		if err := a.engine.Reload(ctx, groupConfigs(next)); err != nil {
			return errors.Join(err, a.web.SetTokens(tokens(a.reloader.current.Tokens)))
		}
		a.engine.SetSources(next.Meter, next.Confirmers)
		a.deliveries.Use(prepared)
		return nil
	})
	return effects, err
}

// awaitHangup reloads at every SIGHUP.
func (a *app) awaitHangup(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			err := a.web.Signalled("reload", func() error { _, err := a.reload(ctx); return err })
			if err != nil {
				a.log.Error("the configuration was not reloaded; the old one stays", "err", err)
			}
		}
	}
}

// ready reports what was not looked at since the start. A provider that was asked
// and did not answer is a problem of its groups and not of the server.
func (a *app) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	views, err := a.engine.Groups(ctx)
	if err != nil {
		return err
	}
	for _, v := range views {
		if !v.ProviderAsked {
			return fmt.Errorf("group %s: provider %s was not listed yet", v.Group.Name, v.Group.Provider)
		}
	}
	return nil
}

// notify tells systemd, where it is there to be told, of a change of state.
func (a *app) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		a.log.Warn("systemd could not be told", "state", state, "err", err)
	}
}

// tellSystemd says that the server is up and, where systemd watches, that the
// engine gets on.
func (a *app) tellSystemd(ctx context.Context) error {
	a.notify(daemon.SdNotifyReady)
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		every = time.Hour
	}
	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	var look chan error // that is under way: one that never returns is not begun again
	for {
		select {
		case <-ctx.Done():
			_, err := daemon.SdNotify(false, daemon.SdNotifyStopping)
			return err
		case <-tick.C:
		}
		limit, cancel := context.WithTimeout(ctx, every/4)
		if look == nil {
			look = make(chan error, 1)
			go func(answer chan<- error) { answer <- a.engine.Progress(limit) }(look)
		}
		select {
		case err = <-look:
			look = nil
		case <-limit.Done():
			err = errors.New("the engine does not answer")
		}
		cancel()
		if ctx.Err() != nil {
			continue
		}
		if err == nil {
			_, err = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
		if err != nil {
			a.log.Error("systemd's watchdog is not fed", "err", err)
		}
	}
}

func tokens(list []config.Token) []webhook.Token {
	out := make([]webhook.Token, 0, len(list))
	for _, t := range list {
		out = append(out, webhook.Token{Name: t.Name, File: t.File, Role: webhook.Role(t.Role), Groups: t.Groups})
	}
	return out
}

func hooks(list []config.Webhook) []delivery.Hook {
	out := make([]delivery.Hook, 0, len(list))
	for _, w := range list {
		out = append(out, delivery.Hook{
			Name: w.Name, URL: w.URL, SecretFile: w.SecretFile, Groups: w.Groups, Kinds: w.Kinds, Statuses: w.Statuses,
			Timeout: w.Timeout, MaxTries: w.MaxTries, GiveUpAfter: w.GiveUpAfter, HTTPClient: w.HTTPClient,
		})
	}
	return out
}

func groupConfigs(r *config.Runtime) []engine.GroupConfig {
	out := make([]engine.GroupConfig, 0, len(r.Groups))
	for _, g := range r.Groups {
		out = append(out, engine.GroupConfig{Group: g, Provider: r.Providers[g.Provider], Balancer: r.Balancers[g.Name], Maintenance: r.Maintenance[g.Name]})
	}
	return out
}
