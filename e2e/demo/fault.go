package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/scalehook/scalehook/e2e/report"
)

// startFault begins what --fault does wrong. no-drain is a drain deadline of no
// time and stands in the configuration; the others act on HAProxy behind
// scalehook's back, with its configuration weakened where the product would
// otherwise prevent the loss.
func (w *world) startFault(ctx context.Context, res *report.Scenario) error {
	var do func(context.Context)
	switch w.fault {
	case faultJoinUnchecked:
		do = w.joinUnchecked
	case faultReloadMidDrain:
		do = func(ctx context.Context) { w.reloadMidDrain(ctx, res) }
	default:
		return nil
	}
	w.beside(ctx, do)
	return nil
}

// beside runs something until it ends or the world is closed.
func (w *world) beside(ctx context.Context, do func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { do(ctx) })
	w.stopFault = func() { cancel(); wg.Wait() }
}

// joinUnchecked gives every joining server traffic before its first check.
func (w *world) joinUnchecked(ctx context.Context) {
	for each(ctx, 10*time.Millisecond) {
		g, err := w.view(ctx)
		if err != nil {
			continue
		}
		for _, i := range g.Instances {
			if i.State != "joining" || i.Member == nil {
				continue
			}
			server := "web/" + i.Member.Server
			_, _ = w.haproxy.Run(ctx, "disable health "+server)
			_, _ = w.haproxy.Run(ctx, "set server "+server+" state ready")
		}
	}
}

// reloadMidDrain reloads HAProxy once a member drains, as anybody may. With the
// fragment and the master socket nothing is lost by it; without them, as the fault
// has it, HAProxy comes up without any member.
func (w *world) reloadMidDrain(ctx context.Context, res *report.Scenario) {
	for each(ctx, 50*time.Millisecond) {
		stat, err := w.haproxy.Run(ctx, "show stat")
		if err != nil || !strings.Contains(stat, "DRAIN") {
			continue
		}
		g, err := w.view(ctx)
		if err != nil {
			continue
		}
		for _, i := range g.Instances {
			if i.State == "draining" {
				if err := w.haproxy.Reload(ctx); err != nil {
					res.Fail("reload HAProxy: %v", err)
				}
				w.reloaded.Store(true)
				return
			}
		}
	}
}

// each waits and reports whether ctx goes on.
func each(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
