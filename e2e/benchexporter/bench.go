package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/promslog"
	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/e2e/lab"
	"github.com/scalehook/scalehook/exporter"
)

const (
	addressCPU    = "127.0.0.1:10071"
	addressAll    = "127.0.0.1:10072"
	addressDebian = "127.0.0.1:9177"
)

// everything is all bulk statistics that the exporter can ask for.
const everything = libvirt.DOMAIN_STATS_STATE | libvirt.DOMAIN_STATS_CPU_TOTAL | libvirt.DOMAIN_STATS_VCPU |
	libvirt.DOMAIN_STATS_BALLOON | libvirt.DOMAIN_STATS_BLOCK | libvirt.DOMAIN_STATS_INTERFACE

func collectorFlags() []string {
	return []string{"--collector.cpu", "--collector.vcpu", "--collector.balloon", "--collector.block", "--collector.interface"}
}

type bench struct {
	*options
	lab     *lab.Lab
	dir     string
	started []*lab.Process
}

// stop ends what start started, so that the next phase has the ports.
func (b *bench) stop() {
	for _, p := range b.started {
		p.Kill()
	}
	b.started = nil
}

// client keeps its connections, as Prometheus does.
func (b *bench) client() *http.Client {
	return &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{DialContext: b.lab.DialContext, DisableCompression: true}}
}

// running measures on the domains that run.
func (b *bench) running(ctx context.Context) error {
	uri := b.lab.ReadOnlyURI()
	conn, err := libvirt.NewConnectReadOnly(uri)
	if err != nil {
		return fmt.Errorf("open %s: %w", uri, err)
	}
	defer func() { _, _ = conn.Close() }()
	cpu, all, closeBoth, err := exporters(ctx, uri)
	if err != nil {
		return err
	}
	defer closeBoth()
	client := b.client()
	defer client.CloseIdleConnections()
	defer b.stop()
	ours, err := b.start(ctx, client, "scalehook-cpu", addressCPU, b.binary, append([]string{"--libvirt.uri", uri}, "--web.listen-address", addressCPU)...)
	if err != nil {
		return err
	}
	oursAll, err := b.start(ctx, client, "scalehook-all", addressAll, b.binary,
		append([]string{"--libvirt.uri", uri, "--web.listen-address", addressAll}, collectorFlags()...)...)
	if err != nil {
		return err
	}
	list := []*contestant{
		{name: "bare loop: ListAllDomains, GetInfo one by one", act: bareLoop(conn, 1)},
		{name: "bare loop: ListAllDomains, GetInfo eight at once", act: bareLoop(conn, 8)},
		{name: "scalehook, CPU families, in process", act: gather(cpu)},
		{name: "scalehook, CPU families, HTTP", act: scrape(client, url(addressCPU), "identity"), pid: ours.PID(), mallocs: mallocs(client, addressCPU)},
		{name: "scalehook, CPU families, HTTP, gzip", act: scrape(client, url(addressCPU), "gzip"), pid: ours.PID(), mallocs: mallocs(client, addressCPU)},
		{name: "bare GetAllDomainStats, everything", act: bareBulk(conn)},
		{name: "scalehook, everything, in process", act: gather(all)},
		{name: "scalehook, everything, HTTP", act: scrape(client, url(addressAll), "identity"), pid: oursAll.PID(), mallocs: mallocs(client, addressAll)},
	}
	if b.debian != "" {
		theirs, err := b.start(ctx, client, "debian", addressDebian, b.debian, "--libvirt.uri", uri, "--web.listen-address", addressDebian)
		if err != nil {
			return err
		}
		list = append(list, &contestant{
			name: "Debian's exporter, HTTP", act: scrape(client, url(addressDebian), "identity"),
			pid: theirs.PID(), mallocs: mallocs(client, addressDebian),
		})
	}
	progress("%d rounds on %d running domains", b.rounds, b.domains)
	if err := contest(ctx, b.rounds, b.lab.Libvirtd().PID(), list); err != nil {
		return err
	}
	fmt.Printf("### %d running domains, median of %d rounds\n\n", b.domains, b.rounds)
	printTable(list)
	ratios := []ratio{
		{"CPU families in process ÷ bare loop one by one, wall", list[2], list[0], "≤ 1.3", atMost(1.3)},
		{"CPU families over HTTP ÷ bare loop one by one, wall", list[3], list[0], "≤ 1.3", atMost(1.3)},
		{"CPU families in process ÷ bare loop eight at once, wall", list[2], list[1], "none", nil},
		{"CPU families over HTTP ÷ bare loop eight at once, wall", list[3], list[1], "none", nil},
		{"everything in process ÷ bare bulk call, wall", list[6], list[5], "≤ 1.2", atMost(1.2)},
		{"everything over HTTP ÷ bare bulk call, wall", list[7], list[5], "≤ 1.2", atMost(1.2)},
	}
	if b.debian != "" {
		ratios = append(ratios, ratio{"Debian's ÷ CPU families over HTTP, wall", list[8], list[3], "≥ 20", atLeast(20)},
			ratio{"Debian's ÷ bare loop one by one, wall", list[8], list[0], "none", nil},
			ratio{"Debian's ÷ everything over HTTP, wall", list[8], list[7], "none", nil})
	}
	printRatios(ratios)
	return nil
}

// driver measures on libvirt's test driver, which lives in the process that
// asks it: there is no daemon and no round trip, so the exporter's own share
// of the work is all there is to see.
func (b *bench) driver(ctx context.Context) error {
	file := filepath.Join(b.dir, "node.xml")
	if err := os.WriteFile(file, []byte(driverNode(b.driverDomains)), 0o600); err != nil {
		return fmt.Errorf("write the test driver's domains: %w", err)
	}
	uri := "test://" + file
	progress("opening %d domains of the test driver", b.driverDomains)
	conn, err := libvirt.NewConnectReadOnly(uri)
	if err != nil {
		return fmt.Errorf("open %s: %w", uri, err)
	}
	defer func() { _, _ = conn.Close() }()
	cpu, all, closeBoth, err := exporters(ctx, uri)
	if err != nil {
		return err
	}
	defer closeBoth()
	client := b.client()
	defer client.CloseIdleConnections()
	defer b.stop()
	ours, err := b.start(ctx, client, "scalehook-driver", addressCPU, b.binary,
		"--libvirt.uri", uri, "--web.listen-address", addressCPU, "--scrape.timeout", "2m", "--libvirt.hang-timeout", "2m")
	if err != nil {
		return err
	}
	list := []*contestant{
		{name: "bare loop: ListAllDomains, GetInfo one by one", act: bareLoop(conn, 1)},
		{name: "bare loop: ListAllDomains, GetInfo eight at once", act: bareLoop(conn, 8)},
		{name: "scalehook, CPU families, in process", act: gather(cpu)},
		{name: "scalehook, CPU families, HTTP", act: scrape(client, url(addressCPU), "identity"), pid: ours.PID(), mallocs: mallocs(client, addressCPU)},
		{name: "bare GetAllDomainStats, everything", act: bareBulk(conn)},
		{name: "scalehook, everything, in process", act: gather(all)},
	}
	if b.debian != "" {
		theirs, err := b.start(ctx, client, "debian-driver", addressDebian, b.debian, "--libvirt.uri", uri, "--web.listen-address", addressDebian)
		if err != nil {
			return err
		}
		list = append(list, &contestant{
			name: "Debian's exporter, HTTP", act: scrape(client, url(addressDebian), "identity"),
			pid: theirs.PID(), mallocs: mallocs(client, addressDebian),
		})
	}
	progress("%d rounds on the test driver", b.driverRounds)
	if err := contest(ctx, b.driverRounds, 0, list); err != nil {
		return err
	}
	fmt.Printf("### %d domains of the test driver, median of %d rounds\n\n", b.driverDomains, b.driverRounds)
	printTable(list)
	ratios := []ratio{
		{"CPU families in process ÷ bare loop one by one, wall", list[2], list[0], "none", nil},
		{"everything in process ÷ bare loop one by one and bulk call, wall", list[5], sum(list[0], list[4]), "none", nil},
	}
	if b.debian != "" {
		ratios = append(ratios, ratio{"Debian's ÷ CPU families over HTTP, wall", list[6], list[3], "none", nil})
	}
	printRatios(ratios)
	return nil
}

// steady measures what scraping all the time costs.
func (b *bench) steady(ctx context.Context, domains int) error {
	uri := b.lab.ReadOnlyURI()
	client := b.client()
	defer client.CloseIdleConnections()
	defer b.stop()
	type target struct {
		name, address string
		process       *lab.Process
		cpu           time.Duration
	}
	targets := []*target{{name: "CPU families", address: "127.0.0.1:10073"}, {name: "everything", address: "127.0.0.1:10074"}}
	for i, t := range targets {
		args := []string{"--libvirt.uri", uri, "--web.listen-address", t.address}
		if i == 1 {
			args = append(args, collectorFlags()...)
		}
		var err error
		if t.process, err = b.start(ctx, client, "steady-"+strconv.Itoa(i), t.address, b.binary, args...); err != nil {
			return err
		}
		if t.cpu, err = cpuTime(t.process.PID()); err != nil {
			return err
		}
	}
	progress("steady state for %s", b.steadyDuration)
	start := time.Now()
	tick := time.NewTicker(b.steadyInterval)
	defer tick.Stop()
	scrapes := 0
	for time.Since(start) < b.steadyDuration {
		for _, t := range targets {
			if _, err := get(ctx, client, url(t.address), "gzip"); err != nil {
				return err
			}
		}
		scrapes++
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	took := time.Since(start)
	fmt.Printf("### Steady state: %d running domains, scraped every %s with gzip, %d scrapes\n\n", domains, b.steadyInterval, scrapes)
	fmt.Print("| | share of a core | aim | resident memory | aim |\n|---|---|---|---|---|\n")
	for _, t := range targets {
		cpu, err := cpuTime(t.process.PID())
		if err != nil {
			return err
		}
		rss, err := resident(t.process.PID())
		if err != nil {
			return err
		}
		share := (cpu - t.cpu).Seconds() / took.Seconds()
		fmt.Printf("| scalehook, %s | %.2f %% | < 0.5 %% %s | %.1f MiB | < 40 MiB %s |\n", t.name,
			share*100, mark(share < 0.005), float64(rss)/(1<<20), mark(rss < 40<<20))
	}
	fmt.Println()
	return nil
}

func (b *bench) start(ctx context.Context, client *http.Client, name, address, path string, args ...string) (*lab.Process, error) {
	p, err := b.lab.StartProcess(ctx, lab.ProcessSpec{
		Name: name, Path: path, Args: args,
		Ready: func(ctx context.Context) error {
			_, err := get(ctx, client, "http://"+address+"/", "identity")
			return err
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	b.started = append(b.started, p)
	return p, nil
}

func url(address string) string { return "http://" + address + "/metrics" }

// exporters makes one exporter with its default collectors and one with all.
func exporters(ctx context.Context, uri string) (cpu, all *exporter.Exporter, closeBoth func(), err error) {
	config := exporter.DefaultConfig()
	config.URI = uri
	config.Timeout, config.HangTimeout = 2*time.Minute, 2*time.Minute
	if cpu, err = exporter.New(config, promslog.NewNopLogger()); err != nil {
		return nil, nil, nil, err
	}
	config.Collectors = exporter.Collectors{Info: true, CPU: true, VCPU: true, Balloon: true, Block: true, Interface: true}
	if all, err = exporter.New(config, promslog.NewNopLogger()); err != nil {
		return nil, nil, nil, err
	}
	return cpu, all, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, _ = cpu.Close(ctx), all.Close(ctx)
	}, nil
}

func gather(e *exporter.Exporter) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		n := 0
		for _, f := range e.Gather(ctx) {
			n += len(f.GetMetric())
			if f.GetName() == "libvirt_up" && f.GetMetric()[0].GetGauge().GetValue() != 1 {
				return 0, errors.New("libvirt_up is 0")
			}
		}
		return n, nil
	}
}

// mallocs reads a Go process's own count of allocations from its metrics. The
// scrape that reads it is the same before and after, so it adds one scrape.
func mallocs(client *http.Client, address string) func(context.Context) (float64, error) {
	return func(ctx context.Context) (float64, error) {
		body, err := get(ctx, client, url(address), "identity")
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(body) {
			if value, ok := strings.CutPrefix(line, "go_memstats_mallocs_total "); ok {
				return strconv.ParseFloat(strings.TrimSpace(value), 64)
			}
		}
		return 0, fmt.Errorf("%s has no go_memstats_mallocs_total", address)
	}
}

func resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	return pages * int64(os.Getpagesize()), nil
}
