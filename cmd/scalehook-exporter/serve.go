package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	versioncollector "github.com/prometheus/client_golang/prometheus/collectors/version"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/scalehook/scalehook/exporter"
)

const (
	// readHeaderTimeout is how long a client may take to say what it wants.
	readHeaderTimeout = 10 * time.Second
	// stopTimeout is how long scrapes that are under way may take at the end.
	stopTimeout = 5 * time.Second
	// closeTimeout is how long libvirt may take to give the connections back.
	closeTimeout = 2 * time.Second
	// processors is the least of Go's processors, see useProcessors.
	processors = 4
	// heapGrowth is Go's GOGC, in percent, see limitHeap.
	heapGrowth = 75
)

// serve runs the exporter until ctx ends or the server fails.
func serve(ctx context.Context, o *options, stderr io.Writer) error {
	o.log.Writer = stderr
	logger := promslog.New(&o.log)
	logger.Info("starting scalehook-exporter", "version", version.Info(), "build_context", version.BuildContext(),
		"libvirt_uri", o.exporter.URI)

	useProcessors()
	limitHeap()
	rt, err := exporter.StartRuntime(o.exporter.URI)
	if err != nil {
		return fmt.Errorf("start libvirt (package libvirt0): %w", err)
	}
	defer rt.Close()
	x, err := exporter.New(o.exporter, logger)
	if err != nil {
		return err
	}
	defer func() {
		// The caller's context has ended by now; closing has its own limit.
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		if err := x.Close(closing); err != nil {
			logger.Warn("libvirt did not give all connections back", "err", err)
		}
	}()
	handler, err := routes(o, x)
	if err != nil {
		return err
	}
	return listen(ctx, &http.Server{Handler: handler, ReadHeaderTimeout: readHeaderTimeout}, &o.web, logger)
}

// useProcessors gives Go a few processors, in its own sense, more than a small
// machine has, for the threads that wait for libvirt. A thread keeps its
// processor while it waits, until the scheduler notices and takes it away; with
// fewer of them, the other calls start late and each return waits its turn. A
// limit that the environment sets stays.
func useProcessors() {
	if os.Getenv("GOMAXPROCS") == "" && runtime.GOMAXPROCS(0) < processors {
		runtime.GOMAXPROCS(processors)
	}
}

// limitHeap has Go collect its garbage a little earlier: a scrape's garbage is
// most of its heap, and an exporter on each hypervisor is asked to save memory.
// A setting of the environment stays.
func limitHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}

// routes is everything that the exporter answers.
func routes(o *options, x *exporter.Exporter) (http.Handler, error) {
	var own prometheus.Gatherer
	if o.ownMetrics {
		registry := prometheus.NewRegistry()
		registry.MustRegister(
			collectors.NewGoCollector(),
			collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
			versioncollector.NewCollector("scalehook_exporter"),
		)
		own = registry
	}
	landing, err := web.NewLandingPage(web.LandingConfig{
		Name:        "scalehook-exporter",
		Description: "Prometheus metrics of libvirt domains",
		Version:     version.Info(),
		Profiling:   "false",
		Links: []web.LandingLinks{
			{Address: o.telemetryPath, Text: "Metrics"},
			{Address: "/-/healthy", Text: "Health"},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make the landing page: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+o.telemetryPath, x.Handler(own, o.maxRequests))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "scalehook-exporter is healthy.\n")
	})
	mux.Handle("GET /{$}", landing)
	return mux, nil
}

// listening returns a channel that is closed once connections are taken at every
// address; at those that systemd passes they are from before the start.
func listening(server *http.Server, flags *web.FlagConfig) <-chan struct{} {
	up := make(chan struct{})
	var missing atomic.Int64
	missing.Store(1)
	if !*flags.WebSystemdSocket {
		missing.Store(int64(len(*flags.WebListenAddresses)))
	}
	server.BaseContext = func(net.Listener) context.Context {
		if missing.Add(-1) == 0 {
			close(up)
		}
		return context.Background()
	}
	return up
}

// feed ticks when systemd's watchdog is due, or now and then where there is none.
func feed() *time.Ticker {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		every = time.Hour
	}
	return time.NewTicker(every / 3)
}

// listen serves until ctx ends, then lets the scrapes that are under way finish.
func listen(ctx context.Context, server *http.Server, flags *web.FlagConfig, logger *slog.Logger) error {
	failed := make(chan error, 1)
	up := listening(server, flags)
	go func() { failed <- web.ListenAndServe(server, flags, logger) }()
	fed := feed()
	defer fed.Stop()
	for serving := true; serving; {
		// Not being started by systemd is no error.
		select {
		case err := <-failed:
			return fmt.Errorf("serve metrics: %w", err)
		case <-up:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyReady)
			up = nil
		case <-fed.C:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		case <-ctx.Done():
			serving = false
		}
	}
	logger.Info("stopping")
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := server.Shutdown(stopping)
	if serveErr := <-failed; serveErr != nil && !errors.Is(serveErr, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", serveErr)
	}
	if err != nil {
		return fmt.Errorf("wait for scrapes under way: %w", err)
	}
	return nil
}
