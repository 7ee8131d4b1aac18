package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"libvirt.org/go/libvirt"
)

// bareLoop is what the cheap pass needs of libvirt and nothing else, with that
// many domains asked for at once.
func bareLoop(conn *libvirt.Connect, atOnce int) func(context.Context) (int, error) {
	return func(context.Context) (int, error) {
		domains, err := conn.ListAllDomains(0)
		if err != nil {
			return 0, fmt.Errorf("list domains: %w", err)
		}
		var next atomic.Int64
		work := func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(domains) {
					return nil
				}
				if err := bareRead(&domains[i]); err != nil {
					return err
				}
			}
		}
		var others sync.WaitGroup
		errs := make([]error, atOnce)
		for n := range atOnce - 1 {
			others.Go(func() { errs[n] = work() })
		}
		errs[atOnce-1] = work()
		others.Wait()
		return len(domains), errors.Join(errs...)
	}
}

func bareRead(d *libvirt.Domain) error {
	if _, err := d.GetInfo(); err != nil {
		return fmt.Errorf("get info: %w", err)
	}
	if _, err := d.GetName(); err != nil {
		return fmt.Errorf("get name: %w", err)
	}
	if _, err := d.GetUUIDString(); err != nil {
		return fmt.Errorf("get uuid: %w", err)
	}
	if err := d.Free(); err != nil {
		return fmt.Errorf("free: %w", err)
	}
	return nil
}

// bareBulk is the one call for everything and nothing else.
func bareBulk(conn *libvirt.Connect) func(context.Context) (int, error) {
	flags := libvirt.CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | libvirt.CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
	if kind, err := conn.GetType(); err == nil && kind == "Test" {
		flags = libvirt.CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE
	}
	return func(context.Context) (int, error) {
		records, err := conn.GetAllDomainStats(nil, everything, flags)
		if err != nil {
			return 0, fmt.Errorf("get statistics: %w", err)
		}
		for i := range records {
			if err := records[i].Domain.Free(); err != nil {
				return 0, fmt.Errorf("free: %w", err)
			}
		}
		return len(records), nil
	}
}

func driverNode(n int) string {
	var b strings.Builder
	b.WriteString("<node>\n")
	for i := range n {
		fmt.Fprintf(&b, "<domain type='test'><name>vm-%d</name><uuid>%08x-0000-4000-8000-000000000000</uuid><memory>65536</memory><vcpu>2</vcpu><os><type arch='x86_64'>hvm</type></os></domain>\n", i, i)
	}
	b.WriteString("</node>\n")
	return b.String()
}

func libvirtVersion(uri string) string {
	conn, err := libvirt.NewConnectReadOnly(uri)
	if err != nil {
		return "unknown"
	}
	defer func() { _, _ = conn.Close() }()
	v, err := conn.GetLibVersion()
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%d.%d.%d", v/1_000_000, v/1000%1000, v%1000)
}
