package scaling

import (
	"fmt"
	"strings"
	"time"
)

// proof finds the evidence on which a step may be taken and adds the gates that
// say which, or why there is none. It must lie past after and past what was
// consumed. With alone, a standing notification is proof enough by itself.
func (d *decision) proof(gs *gates, sig Signal, after time.Time, alone bool) Evidence {
	consumed := d.s.Consumed[sig]
	lease := d.newestLease(sig)
	best := Evidence{}
	// Alertmanager knows of silences: an operator's word outweighs every number.
	for _, e := range d.in.Lookup.Evidence {
		if e.Signal == sig && e.State == EvidenceSuppressed {
			gs.add("suppressed", false, "%s says suppressed (%s)", e.Source, e.Detail).change("the end of the silence")
			return best
		}
	}
	var why []string
	refuted := false
	for k, src := range d.g.Confirm {
		e, asked := d.evidence(src, sig)
		switch {
		case !asked:
			why = append(why, src+" was not asked yet")
			refuted = refuted || sig == Low
		case e.State == EvidenceUnreachable:
			why = append(why, fmt.Sprintf("%s is unreachable (%s)", src, e.Detail))
			// A source that cannot be asked never removes anything.
			refuted = refuted || sig == Low
		case e.State == EvidenceAbsent:
			why = append(why, src+" does not know it as firing")
			// An answer from before the notification says nothing about it.
			refuted = refuted || sig == Low || d.in.Lookup.Asked[src].After(lease.LastSeen)
		case e.State == EvidenceFiring && e.At.After(d.now.Add(MaxSkew)):
			why = append(why, fmt.Sprintf("evidence of %s is of %s, ahead of the clock here: one of the clocks is wrong", src, clock(e.At)))
			refuted = refuted || sig == Low
		case e.State == EvidenceFiring && !e.At.After(consumed):
			why = append(why, fmt.Sprintf("%s has no newer evidence than the one used at %s", src, clock(consumed)))
		case e.State == EvidenceFiring && !e.At.After(after):
			why = append(why, fmt.Sprintf("evidence of %s is of %s and must be past %s (end of the last action and settle %s)",
				src, clock(e.At), clock(after), d.settle()))
		case e.State == EvidenceFiring && (k == 0 || sig == High) && best.Source == "":
			// The first source is the one whose evidence time counts. For a removal no
			// other may stand in for it: what Alertmanager holds is younger than the
			// samples that it was made from.
			best = e
		}
	}
	if best.Source == "" && sig == High && lease.Fingerprint != "" && !refuted {
		// When the alert began to fire is when Prometheus saw it. A start that lies
		// after the notification comes from a wrong clock and proves nothing.
		at := lease.StartsAt
		if at.After(consumed) && !at.After(lease.LastSeen) && (alone || at.After(after)) {
			best = Evidence{Source: "notification", Signal: sig, State: EvidenceFiring, At: at, Fingerprint: lease.Fingerprint}
		}
	}
	if refuted {
		best = Evidence{}
	}
	if len(d.g.Confirm) == 0 && best.Source == "" {
		why = append(why, "no source is configured that could confirm it")
	}
	if best.Source != "" {
		if best.Fingerprint == "" {
			best.Fingerprint = lease.Fingerprint
		}
		gs.add("confirmation", true, "%s, evidence of %s", best.Source, clock(best.At))
		return best
	}
	gs.add("confirmation", false, "%s", strings.Join(why, "; ")).change("evidence past %s", clock(latest(after, consumed)))
	return best
}

// evidence returns what a source last said; a source that was asked and did not
// name the signal says absent.
func (d *decision) evidence(src string, sig Signal) (Evidence, bool) {
	if _, ok := d.in.Lookup.Asked[src]; !ok {
		return Evidence{}, false
	}
	for _, e := range d.in.Lookup.Evidence {
		if e.Source == src && e.Signal == sig {
			return e, true
		}
	}
	return Evidence{Source: src, Signal: sig, State: EvidenceAbsent}, true
}

// firing names a source that says the signal stands, or "".
func (d *decision) firing(sig Signal) string {
	for _, e := range d.in.Lookup.Evidence {
		if e.Signal == sig && e.State == EvidenceFiring {
			return e.Source
		}
	}
	return ""
}

func (d *decision) newestLease(sig Signal) Lease {
	var out Lease
	for _, l := range d.s.Leases {
		if l.Signal == sig && d.now.Before(l.Expires) && (out.Fingerprint == "" || l.LastSeen.After(out.LastSeen)) {
			out = l
		}
	}
	return out
}

// settle is nothing before the first action.
func (d *decision) settle() time.Duration {
	if d.s.LastActionEnd.IsZero() {
		return 0
	}
	return d.g.Settle()
}

func (d *decision) cause(sig Signal, ev Evidence) Cause {
	return Cause{Kind: CauseAlert, Signal: sig, Fingerprint: ev.Fingerprint, Source: ev.Source, EvidenceAt: ev.At}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
