package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Notify implements scaling.Intake. All notifications of one group are stored in
// one transaction. An alert that came in Alertmanager's form and that no
// configured Alertmanager knows is not kept: somebody posted it by hand.
func (e *Engine) Notify(ctx context.Context, ns []scaling.Notification) ([]scaling.NotifyResult, error) {
	out := make([]scaling.NotifyResult, len(ns))
	known := e.known(ctx, ns)
	byGroup := map[string][]int{}
	var order []string
	for k, n := range ns {
		if n.Group == "" || !n.Signal.Valid() || n.Fingerprint == "" {
			out[k] = scaling.NotifyNoSignal
			continue
		}
		if _, err := e.group(n.Group); err != nil {
			out[k] = scaling.NotifyUnknownGroup
			continue
		}
		if claimed(n) && !known(n) {
			out[k] = scaling.NotifyNotConfirmed
			continue
		}
		if byGroup[n.Group] == nil {
			order = append(order, n.Group)
		}
		byGroup[n.Group] = append(byGroup[n.Group], k)
	}
	var news []string
	for _, name := range order {
		g, err := e.group(name)
		if err != nil {
			return nil, err // released between the check and here: the sender asks again
		}
		ttl := g.config().Group.LeaseTTL
		err = g.change(ctx, func(s *scaling.State) error {
			now := g.now()
			s.Housekeep(now)
			for _, k := range byGroup[name] {
				out[k] = s.Notify(ns[k], ttl, now)
				kept := out[k] == scaling.NotifyAccepted || out[k] == scaling.NotifyRenewed
				if kept && s.Release != nil {
					out[k] = scaling.NotifyPaused
				}
				if p := s.Pause; kept && p != nil && ((ns[k].Signal == scaling.High && p.Out) || (ns[k].Signal == scaling.Low && p.In)) {
					out[k] = scaling.NotifyPaused
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("store the notifications of group %q: %w", name, err)
		}
		// What is renewed, by every peer and with every repetition, waits for the next
		// regular tick: the condition stood already.
		if slices.ContainsFunc(byGroup[name], func(k int) bool { return out[k] != scaling.NotifyRenewed }) {
			news = append(news, name)
			poke(g.wake)
		}
	}
	if len(news) > 0 {
		e.lookups.want(news)
	}
	return out, nil
}

// receiverAlertmanager is the Receiver of what came in Alertmanager's form.
const receiverAlertmanager = "alertmanager"

// claimed reports whether a notification says that Alertmanager holds its alert.
func claimed(n scaling.Notification) bool { return n.Firing && n.Receiver == receiverAlertmanager }

// known returns the test whether Alertmanager may know an alert.
func (e *Engine) known(ctx context.Context, ns []scaling.Notification) func(scaling.Notification) bool {
	var asked []scaling.Notification
	for _, n := range ns {
		if _, err := e.group(n.Group); err == nil && n.Signal.Valid() && claimed(n) {
			asked = append(asked, n)
		}
	}
	for _, c := range e.lookups.asked() {
		if c.Source() == receiverAlertmanager && len(asked) > 0 {
			return e.lookups.known(ctx, c, asked)
		}
	}
	return func(scaling.Notification) bool { return true }
}

// Order implements scaling.Operator.
func (e *Engine) Order(ctx context.Context, group string, o scaling.Order) (scaling.OrderResult, error) {
	g, err := e.group(group)
	if err != nil {
		return scaling.OrderResult{}, err
	}
	if g.observing() {
		return scaling.OrderResult{}, fmt.Errorf("%w: the group observes and touches nothing (mode or --observe)", scaling.ErrRefused)
	}
	gc := g.config().Group
	digest := orderDigest(o)
	o.ID = "o-" + e.opts.IDs.Activity(g.now())
	var res scaling.OrderResult
	err = g.change(ctx, func(s *scaling.State) error {
		now := g.now()
		o.At = now
		s.Housekeep(now)
		if o.Key != "" {
			if k := slices.IndexFunc(s.Answers, func(a scaling.Answer) bool { return a.Key == o.Key }); k >= 0 {
				if s.Answers[k].Digest != digest {
					return scaling.ErrKeyReused
				}
				res = scaling.OrderResult{ID: s.Answers[k].Order, Replayed: true, Message: "the same request came before with this key"}
				return errNoChange
			}
		}
		msg, err := s.Check(o, gc)
		if err != nil {
			return err
		}
		s.Orders = append(s.Orders, o)
		if o.Key != "" {
			s.Answers = append(s.Answers, scaling.Answer{Key: o.Key, Digest: digest, Order: o.ID, At: now})
		}
		res = scaling.OrderResult{ID: o.ID, Message: msg}
		return nil
	})
	if err != nil && res.ID == "" {
		return scaling.OrderResult{}, fmt.Errorf("order %s of group %q: %w", o.Kind, group, err)
	}
	if !res.Replayed {
		g.log.Info("order taken", "order", o.ID, "kind", string(o.Kind), "count", o.Count, "instance", o.Instance, "by", o.By)
		poke(g.wake)
	}
	return res, nil
}

func orderDigest(o scaling.Order) string {
	h := sha256.Sum256(fmt.Appendf(nil, "%s|%d|%s|%d", o.Kind, o.Count, o.Instance, o.Hold))
	return hex.EncodeToString(h[:8])
}

// Pause implements scaling.Operator.
func (e *Engine) Pause(ctx context.Context, group string, p scaling.Pause) error {
	g, err := e.group(group)
	if err != nil {
		return err
	}
	p.At = g.now()
	err = g.change(ctx, func(s *scaling.State) error { s.Pause = &p; return nil })
	if err != nil {
		return fmt.Errorf("pause group %q: %w", group, err)
	}
	g.log.Info("group paused", "out", p.Out, "in", p.In, "until", p.Until, "by", p.By, "reason", p.Reason)
	poke(g.wake)
	return nil
}

// Resume implements scaling.Operator.
func (e *Engine) Resume(ctx context.Context, group, by string) error {
	g, err := e.group(group)
	if err != nil {
		return err
	}
	err = g.change(ctx, func(s *scaling.State) error {
		if err := s.Retake(); err != nil {
			return err
		}
		s.Pause, s.HoldUntil = nil, g.now()
		return nil
	})
	if err != nil {
		return fmt.Errorf("resume group %q: %w", group, err)
	}
	g.log.Info("group resumed", "by", by)
	poke(g.wake)
	return nil
}

// Retake implements scaling.Leaver.
func (e *Engine) Retake(ctx context.Context, group, by string) error {
	g, err := e.group(group)
	if err != nil {
		return err
	}
	left := false
	err = g.change(ctx, func(s *scaling.State) error { left = s.Abandon(by, g.now()); return nil })
	if err != nil {
		return fmt.Errorf("end the release of group %q: %w", group, err)
	}
	if left {
		g.mu.Lock()
		g.letting = letting{}
		g.mu.Unlock()
		g.log.Warn("the release of the group was ended by force; VMs may keep their marks", "by", by)
	}
	return e.Resume(ctx, group, by)
}

// Protect implements scaling.Operator.
func (e *Engine) Protect(ctx context.Context, group, instance string, on bool, by string) error {
	g, err := e.group(group)
	if err != nil {
		return err
	}
	err = g.change(ctx, func(s *scaling.State) error {
		i := s.Find(instance)
		if i == nil {
			return scaling.ErrUnknownInstance
		}
		i.Protected = on
		return nil
	})
	if err != nil {
		return fmt.Errorf("protect %q of group %q: %w", instance, group, err)
	}
	g.log.Info("protection changed", "instance", instance, "protected", on, "by", by)
	return nil
}

// Standby implements scaling.Operator.
func (e *Engine) Standby(ctx context.Context, group, instance string, on bool, by string) error {
	g, err := e.group(group)
	if err != nil {
		return err
	}
	if g.observing() {
		return fmt.Errorf("%w: the group observes and touches nothing (mode or --observe)", scaling.ErrRefused)
	}
	err = g.change(ctx, func(s *scaling.State) error {
		return s.Standby(instance, on, g.config().Group, by, g.now(), e.opts.IDs)
	})
	if err != nil {
		return fmt.Errorf("standby of %q of group %q: %w", instance, group, err)
	}
	g.log.Info("standby changed", "instance", instance, "standby", on, "by", by)
	poke(g.poolWake)
	poke(g.wake)
	return nil
}
