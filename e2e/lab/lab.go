// Package lab is a private world for end-to-end tests and the demo: a libvirtd
// with its network, storage pool and VMs, and HAProxy, Prometheus, Alertmanager
// and any other program beside them, cut off from the machine they run on.
//
// A lab is one process tree in its own network, mount and process-id
// namespaces. They belong to no name on the machine (`ip netns` does not show
// them) and vanish with their processes: when the lab is closed, or when the
// program that started it dies in whatever way, the kernel ends everything in
// it, VMs included. The one thing that can be left behind is its folder, which
// CleanupAll removes. The machine's own libvirtd, firewall, D-Bus and systemd
// are never reached: the lab does not see /run.
//
// The VMs' addresses exist inside the lab only. A program that is to reach them
// is started with Command or StartProcess; the calling program itself uses
// DialContext, Listen, HTTPClient or InNamespace. The libvirt socket and the
// control sockets of HAProxy are files and can be reached from everywhere.
//
// Root is needed. Nothing here belongs in the product.
package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/scalehook/scalehook/e2e/guest"
)

// NetworkName and PoolName are the names of the lab's libvirt network and
// storage pool: those that an ordinary libvirt host has.
const (
	NetworkName = "default"
	PoolName    = "images"
)

// Options describe a lab.
type Options struct {
	// Name tells labs apart: 1 to 12 of a-z, 0-9 and dash. Required.
	Name string
	// Dir is the folder in which the lab makes its own. Empty: os.TempDir().
	// Not below /run, and short: socket paths are limited to 107 bytes.
	Dir string
	// Log gets the lab's own steps. Nil: nothing is logged.
	Log *slog.Logger
	// Isolated makes a network without a way out instead of a NAT network.
	Isolated bool
	// LeaseTime of DHCP addresses. Zero: 2 minutes, libvirt's shortest.
	LeaseTime time.Duration
	// GuestNice is the niceness of the VMs. Zero is an ordinary program's.
	GuestNice int
	// ControlNice is added to the niceness of libvirtd and of every program started
	// in the lab. Zero: -10. It lets the control chain work while VMs use all CPUs.
	ControlNice int
	// KeepDir leaves the lab's folder, with all logs, behind after Close.
	KeepDir bool
}

func (o *Options) validate() error {
	if !regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,11}$`).MatchString(o.Name) {
		return fmt.Errorf("lab name %q: want 1 to 12 of a-z, 0-9 and dash", o.Name)
	}
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.LeaseTime == 0 {
		o.LeaseTime = 2 * time.Minute
	}
	if o.ControlNice == 0 {
		o.ControlNice = -10
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return fmt.Errorf("lab folder: %w", err)
	}
	if dir == "/run" || hasDirPrefix(dir, "/run") || hasDirPrefix(dir, "/var/run") {
		return fmt.Errorf("lab folder %s: the lab hides /run, choose another place", dir)
	}
	o.Dir = dir
	return nil
}

// Lab is a running lab. Its methods are safe for concurrent use.
type Lab struct {
	opts Options
	log  *slog.Logger
	id   string // unique; every program of the lab carries it in its environment
	dir  string

	ns        *namespace
	libvirtd  *Process
	collector *guest.Collector
	web       *http.Server
	webDone   chan struct{}
	stopNice  func()

	mu        sync.Mutex
	processes []*Process
	haproxies []*HAProxy
	closed    bool

	kindOnce sync.Once
	kind     string
}

// Programs are what a lab runs; Missing says which of them are not there.
func Programs() []string {
	return []string{"libvirtd", "qemu-system-x86_64", "dnsmasq", "iptables", "nsenter", "mount", "ip", "sh", "nice"}
}

// Missing lists the Programs that this machine does not have.
func Missing() []string {
	var out []string
	for _, p := range Programs() {
		if _, err := guest.FindProgram(p); err != nil {
			out = append(out, p)
		}
	}
	return out
}

// Start makes a lab: namespaces, libvirtd, network, pool and the collector of
// the guests' reports. It returns when libvirt answers and the network is up,
// which takes 2 to 5 s, or with an error when ctx ends; then nothing is left.
// After Start ctx has no effect: the lab lives until Close or until this program ends.
func Start(ctx context.Context, opts Options) (*Lab, error) {
	if err := opts.validate(); err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("start lab: root is needed")
	}
	if missing := Missing(); len(missing) > 0 {
		return nil, fmt.Errorf("start lab: programs not found: %v", missing)
	}
	l := &Lab{opts: opts, log: opts.Log.With("lab", opts.Name), collector: guest.NewCollector()}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start lab %s: %w", opts.Name, err), l.Close()) //nolint:contextcheck // closing must not stop when ctx has ended
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) error {
	began := time.Now()
	if err := l.makeDir(); err != nil {
		return err
	}
	ns, err := startNamespace(ctx, l)
	if err != nil {
		return err
	}
	l.ns = ns
	if err := l.writeState(); err != nil {
		return err
	}
	if err := l.StartLibvirtd(ctx); err != nil {
		return err
	}
	if err := l.defineNetwork(); err != nil {
		return err
	}
	if err := l.definePool(); err != nil {
		return err
	}
	if err := l.startCollector(ctx); err != nil {
		return err
	}
	l.startNice() //nolint:contextcheck // it lasts until Close
	l.log.Info("lab is up", "dir", l.dir, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// Close ends everything in the lab and removes its folder unless KeepDir is
// set. It takes a second or so and returns when the last process is gone.
// Idempotent.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	procs := l.processes
	l.mu.Unlock()

	if l.stopNice != nil {
		l.stopNice()
	}
	var errs []error
	if l.web != nil {
		errs = append(errs, l.web.Close())
		<-l.webDone
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// The newest first: who watches something goes before what it watches.
	for _, p := range slices.Backward(procs) {
		p.kill()
	}
	for _, p := range procs {
		errs = append(errs, p.await(ctx))
	}
	if l.ns != nil {
		errs = append(errs, l.ns.close(ctx, l.id))
	}
	if l.dir != "" && !l.opts.KeepDir {
		if err := os.RemoveAll(l.dir); err != nil {
			errs = append(errs, fmt.Errorf("remove lab folder: %w", err))
		}
	}
	l.log.Info("lab is closed")
	return errors.Join(errs...)
}

// Dir is the lab's own folder. Programs may keep files in it; Close removes it.
func (l *Lab) Dir() string { return l.dir }

// Path joins elem to the lab's folder.
func (l *Lab) Path(elem ...string) string {
	return filepath.Join(append([]string{l.dir}, elem...)...)
}

// URI is the libvirt connection URI of the lab. It works inside and outside.
func (l *Lab) URI() string { return "qemu+unix:///system?socket=" + l.Path("run", "libvirt-sock") }

// ReadOnlyURI is URI for the read-only socket, as an exporter uses it.
func (l *Lab) ReadOnlyURI() string {
	return "qemu+unix:///system?socket=" + l.Path("run", "libvirt-sock-ro")
}

// Gateway is the address of the lab's bridge.
func (l *Lab) Gateway() netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 122, 1}) }

// Collector is where the guests of package guest report what they answered.
func (l *Lab) Collector() *guest.Collector { return l.collector }

func (l *Lab) startCollector(ctx context.Context) error {
	addr := netip.AddrPortFrom(l.Gateway(), guest.CollectorPort).String()
	ln, err := l.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for guests' reports: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /report", l.collector)
	l.web = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	l.webDone = make(chan struct{})
	go func() {
		defer close(l.webDone)
		if err := l.web.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			l.log.Error("collector of guests' reports ended", "err", err)
		}
	}()
	return nil
}

// HTTPClient returns a client whose connections start inside the lab. It is for
// asking control interfaces; to judge lost requests use package loadgen, since
// net/http repeats some requests by itself.
func (l *Lab) HTTPClient() *http.Client {
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{DialContext: l.DialContext, DisableKeepAlives: true},
	}
}

// DialContext connects from inside the lab. It fits net/http and loadgen.
// The address must be numeric.
func (l *Lab) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	var conn net.Conn
	err := l.InNamespace(func() error {
		var err error
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Listen listens on an address inside the lab; the caller may accept from
// anywhere in this program.
func (l *Lab) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	var ln net.Listener
	err := l.InNamespace(func() error {
		var err error
		var lc net.ListenConfig
		ln, err = lc.Listen(ctx, network, addr)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ln, nil
}
