// Package alertmanager asks the peers of an Alertmanager cluster, over API version
// 2, which scaling signals they hold as active and which an operator suppressed by a
// silence. Evidence has the time at which an alert was updated. It changes nothing
// at Alertmanager.
package alertmanager

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	promconfig "github.com/prometheus/common/config"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/source/ask"
)

// Name is the name of the source in configuration, causes and metrics.
const Name = "alertmanager"

// Source is a cluster of Alertmanagers. It may be used by several goroutines at once.
type Source struct {
	cfg    Config
	client *http.Client
}

var _ scaling.Confirmer = (*Source)(nil)

// New prepares a source and connects to nothing. Errors name what is wrong with the
// configuration, files of certificates included.
func New(cfg Config) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	client, err := promconfig.NewClientFromConfig(cfg.HTTPClient, "scalehook_alertmanager", promconfig.WithUserAgent("scalehook"))
	if err != nil {
		return nil, fmt.Errorf("http_client: %w", err)
	}
	cfg.URLs = slices.Clone(cfg.URLs)
	return &Source{cfg: cfg, client: client}, nil
}

// Close closes idle connections. Look-ups under way end by themselves.
func (s *Source) Close() { s.client.CloseIdleConnections() }

// Source returns Name.
func (s *Source) Source() string { return Name }

// Confirm returns the evidence for every signal that a peer holds.
//
// The peers are asked at the same time and their answers united, since each gets
// every alert by itself. A signal is firing if any of them holds it as active, and
// suppressed if any of its alerts is suppressed at any peer: a silence spreads from
// peer to peer and may not have reached all of them yet, and wherever it is, it is
// an operator saying "pause". Firing evidence that is older than MaxAge is
// unreachable, and an alert whose end has come is none.
//
// A peer that cannot be asked does not hide what the others hold, and is named in
// the detail. It may hold what the others do not: Confirm then returns what it
// found together with a Temporary error, so that the rest is unreachable and not
// absent. Confirm changes nothing, may be repeated, and blocks for at most Timeout
// or until ctx ends. Errors are Temporary, or Permanent if every peer refuses.
func (s *Source) Confirm(ctx context.Context) ([]scaling.Evidence, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, fmt.Errorf("no answer within %v", s.cfg.Timeout))
	defer cancel()
	answers := make([]answer, len(s.cfg.URLs))
	errs := make([]error, len(s.cfg.URLs))
	var wait sync.WaitGroup
	for i, peer := range s.cfg.URLs {
		wait.Go(func() { answers[i], errs[i] = s.ask(ctx, peer) })
	}
	wait.Wait()

	found := map[key]scaling.Evidence{}
	reached := false
	class := scaling.Permanent
	for i, got := range answers {
		if errs[i] != nil {
			if scaling.ClassOf(errs[i]) != scaling.Permanent {
				class = scaling.Temporary
			}
			continue
		}
		reached = true
		for _, a := range got.alerts {
			if k, evidence, ok := s.evidence(a, got); ok {
				if old, known := found[k]; !known || better(evidence, old) {
					found[k] = evidence
				}
			}
		}
	}
	if !reached {
		return nil, scaling.WithClass(class, fmt.Errorf("look up the signals: %w", errors.Join(errs...)))
	}
	silent := errors.Join(errs...)
	all := make([]scaling.Evidence, 0, len(found))
	for _, evidence := range found {
		if silent != nil && evidence.Detail == "" {
			evidence.Detail = ask.Clip("without every peer: " + silent.Error())
		}
		all = append(all, evidence)
	}
	slices.SortFunc(all, func(a, b scaling.Evidence) int {
		return strings.Compare(a.Group+"\x00"+string(a.Signal), b.Group+"\x00"+string(b.Signal))
	})
	if silent != nil {
		return all, scaling.WithClass(scaling.Temporary, fmt.Errorf("look up the signals at every peer: %w", silent))
	}
	return all, nil
}

type key struct {
	group  string
	signal scaling.Signal
}

// evidence reads one alert; false if it says nothing of a signal.
func (s *Source) evidence(a alert, from answer) (key, scaling.Evidence, bool) {
	k := key{a.Labels["scaling_group"], scaling.Signal(a.Labels["scalehook_signal"])}
	if k.group == "" || !k.signal.Valid() || !a.EndsAt.After(from.now) {
		return key{}, scaling.Evidence{}, false
	}
	evidence := scaling.Evidence{Source: Name, Group: k.group, Signal: k.signal, At: a.UpdatedAt, Fingerprint: a.Fingerprint}
	if by, ok := a.suppressed(); ok {
		evidence.State, evidence.Detail = scaling.EvidenceSuppressed, by
		return k, evidence, true
	}
	if a.Status.State != "active" {
		// "unprocessed": whether a silence holds for it is not known yet.
		return key{}, scaling.Evidence{}, false
	}
	evidence.State = scaling.EvidenceFiring
	if err := s.check(a, from.now); err != nil {
		evidence.State, evidence.Detail = scaling.EvidenceUnreachable, err.Error()
	}
	return k, evidence, true
}

// better says which of two alerts of one signal speaks for it: suppressed before
// firing before unreachable, and then the one that was updated last.
func better(a, b scaling.Evidence) bool {
	rank := []scaling.EvidenceState{scaling.EvidenceUnreachable, scaling.EvidenceFiring, scaling.EvidenceSuppressed}
	ra, rb := slices.Index(rank, a.State), slices.Index(rank, b.State)
	return ra > rb || ra == rb && a.At.After(b.At)
}
