package exporter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	dto "github.com/prometheus/client_model/go"
	"libvirt.org/go/libvirt"
)

// maxReaders is how many domains a pass reads at once. libvirtd works at five
// requests of one client at a time unless it is told otherwise
// (max_client_requests); a few more wait in the socket, so that it has the
// next one at hand, and cost it nothing.
const maxReaders = 8

// Exporter reads libvirt on every scrape. Scrapes may overlap. Make one with
// New and end it with Close.
type Exporter struct {
	config Config
	bulk   libvirt.DomainStatsTypes
	logger *slog.Logger
	specs  [familyCount]spec
	fixed  fixedLabels

	domains      *connection[[]domain]
	stats        *connection[[]domainStats]
	definitions  *connection[int]
	descriptions *descriptions
}

// New makes an exporter. It opens no connection: the first scrape does. A
// Runtime must have been started with the same URI.
func New(config Config, logger *slog.Logger) (*Exporter, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("check the exporter's configuration: %w", err)
	}
	ka := keepAlive{Seconds: int(config.KeepAliveInterval / time.Second), Count: config.KeepAliveCount}
	return newExporter(config, logger, func() (session, error) {
		return openLibvirt(config.Sockets.Find(config.URI), ka)
	}), nil
}

func newExporter(config Config, logger *slog.Logger, open func() (session, error)) *Exporter {
	return &Exporter{
		config:       config,
		bulk:         config.Collectors.bulk(),
		logger:       logger,
		specs:        specs(),
		fixed:        newFixedLabels(),
		domains:      newConnection[[]domain]("domain", open, config.HangTimeout, logger),
		stats:        newConnection[[]domainStats]("stats", open, config.HangTimeout, logger),
		definitions:  newConnection[int]("info", open, config.HangTimeout, logger),
		descriptions: newDescriptions(),
	}
}

// Gather makes one scrape and returns its families, in no order that means
// anything. It returns when ctx ends at the latest, with what was read until
// then. What could not be read is absent, and libvirt_up or
// libvirt_scrape_collector_success says so: there is no error to return.
func (e *Exporter) Gather(ctx context.Context) []*dto.MetricFamily {
	start := time.Now()
	p := &page{specs: &e.specs}

	domains, ok := e.gatherDomains(ctx, p, start)
	// Without a list of domains libvirt is down or hangs, and asking it for
	// more would only make this worse.
	e.gatherDetails(ctx, p, domains, ok)

	p.add(familyUp, nil, value(ok))
	for i, hung := range []int{e.domains.hungCalls(), e.stats.hungCalls(), e.definitions.hungCalls()} {
		p.add(familyHungCalls, e.fixed.connections[i], float64(hung))
	}
	p.add(familyScrapeDuration, nil, time.Since(start).Seconds())
	return p.families()
}

// gatherDomains runs the pass that everything else depends on. ok is false
// when libvirt could not be asked; single domains that could not be read are a
// failure of the collector only.
func (e *Exporter) gatherDomains(ctx context.Context, p *page, start time.Time) (domains []domain, ok bool) {
	domains, err := e.domains.do(ctx, func(s session) ([]domain, error) { return s.Domains(e.readers()) })
	var partial *partialError
	ok = err == nil || errors.As(err, &partial)
	if err != nil {
		e.logger.Warn("reading domains", "err", err)
	}
	e.collected(p, collectorDomain, start, time.Now(), err == nil)
	for i := range domains {
		e.writeDomain(p, &domains[i])
	}
	return domains, ok
}

// readers is how many domains are read at once. While an earlier pass hangs it
// is 1: what that one hangs on would hold as many of the daemon's workers again.
func (e *Exporter) readers() int {
	if e.domains.hungCalls() > 0 {
		return 1
	}
	return maxReaders
}

// gatherDetails runs the other collectors that are switched on, at once.
func (e *Exporter) gatherDetails(ctx context.Context, p *page, domains []domain, up bool) {
	start := time.Now()
	if !up {
		for c := range collectorCount {
			if c != collectorDomain && e.enabled(c) {
				e.collected(p, c, start, start, false)
			}
		}
		return
	}
	bulk := make(chan func(), 1)
	if e.bulk != 0 {
		go func() {
			stats, err := e.stats.doAgain(ctx, func(s session) ([]domainStats, error) { return s.Stats(e.bulk) })
			end := time.Now()
			bulk <- func() { e.writeBulk(p, stats, start, end, err) }
		}()
	}
	if e.config.Collectors.Info {
		err := e.refreshDescriptions(ctx, domains)
		if err != nil {
			e.logger.Warn("reading domain definitions", "err", err)
		}
		e.collected(p, collectorInfo, start, time.Now(), err == nil)
		e.writeDescriptions(p, domains)
	}
	if e.bulk != 0 {
		(<-bulk)()
	}
}

// writeBulk writes what the bulk call brought.
func (e *Exporter) writeBulk(p *page, stats []domainStats, start, end time.Time, err error) {
	if err != nil {
		e.logger.Warn("reading bulk statistics", "err", err)
	}
	for c := range collectorCount {
		if c.bulk() && e.enabled(c) {
			e.collected(p, c, start, end, err == nil)
		}
	}
	for i := range stats {
		e.writeStats(p, &stats[i])
	}
}

// refreshDescriptions reads the definitions that are new or may have changed.
func (e *Exporter) refreshDescriptions(ctx context.Context, domains []domain) error {
	stale := e.descriptions.stale(domains, time.Now())
	if len(stale) == 0 {
		return nil
	}
	_, err := e.definitions.do(ctx, func(s session) (int, error) {
		return e.descriptions.refresh(s, stale)
	})
	return err
}

func (e *Exporter) collected(p *page, c collector, start, end time.Time, ok bool) {
	l := e.fixed.collectors[c]
	p.add(familyCollectorDuration, l, end.Sub(start).Seconds())
	p.add(familyCollectorSuccess, l, value(ok))
}

// Close ends the connections. It waits for calls that are under way until ctx
// ends and then says which ones still hang.
func (e *Exporter) Close(ctx context.Context) error {
	return errors.Join(e.domains.close(ctx), e.stats.close(ctx), e.definitions.close(ctx))
}

func value(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
