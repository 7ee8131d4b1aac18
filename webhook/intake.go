package webhook

import (
	"context"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// intake takes a notification: it answers 200 once everything that is understood
// was stored, 503 if that failed.
func (s *Server) intake(c echo.Context) error {
	data, err := readBody(c)
	if err != nil {
		return err
	}
	m, err := decodeMessage(data)
	if err != nil {
		s.log.Warn("a notification was refused", "remote", c.Request().RemoteAddr, "err", err)
		return err
	}

	tok := tokenOf(c)
	results := make([]api.AlertResult, len(m.Alerts))
	known := make([]scaling.Notification, 0, len(m.Alerts))
	places := make([]int, 0, len(m.Alerts)) // of the known ones among the results
	for i, a := range m.Alerts {
		n, reason := m.notification(a)
		results[i] = api.AlertResult{
			Fingerprint: clip(n.Fingerprint), ScalingGroup: clip(n.Group), Signal: clip(string(n.Signal)), Status: clip(a.Status),
		}
		switch {
		case heartbeat(a):
			results[i].Result, results[i].Message = string(scaling.NotifyHeartbeat), explainResult(scaling.NotifyHeartbeat)
			s.log.Debug("the heartbeat arrived", "alertname", clip(n.AlertName), "status", clip(a.Status))
		case reason != "":
			results[i].Result, results[i].Message = string(scaling.NotifyNoSignal), reason
			s.log.Warn("an alert is no scaling signal", "alertname", clip(n.AlertName), "reason", reason)
		case tok != nil && !tok.allows(n.Group):
			results[i].Result = string(scaling.NotifyNotAllowed)
			results[i].Message = fmt.Sprintf("token %q does not cover the group", tok.Name)
			s.log.Warn("an alert's group is not covered by its sender's token", "scaling_group", clip(n.Group), "token", tok.Name)
			s.notCovered(c, n.Group, results[i].Message)
		default:
			known = append(known, n)
			places = append(places, i)
		}
	}

	if len(known) > 0 {
		got, err := ask(c, func(ctx context.Context) ([]scaling.NotifyResult, error) {
			return s.opts.Intake.Notify(ctx, known)
		})
		if err == nil && len(got) != len(known) {
			err = fmt.Errorf("%d results for %d notifications", len(got), len(known))
		}
		if err != nil {
			s.log.Error("a notification could not be stored; the sender will try again", "err", err)
			return &apiError{http.StatusServiceUnavailable, api.ErrorUnavailable, fmt.Sprintf("the notification could not be stored: %v", err)}
		}
		for i, r := range got {
			results[places[i]].Result, results[places[i]].Message = string(r), explainResult(r)
		}
	}
	for _, r := range results {
		s.metrics.alert(r)
	}

	var warnings []string
	if m.TruncatedAlerts > 0 {
		s.metrics.truncated.Add(float64(m.TruncatedAlerts))
		warnings = append(warnings, fmt.Sprintf("the sender left out %d alerts: set max_alerts to 0", m.TruncatedAlerts))
		s.log.Warn("a notification is truncated; set max_alerts to 0", "truncated", uint64(m.TruncatedAlerts), "receiver", clip(m.Receiver))
	}
	return ok(c, http.StatusOK, api.IntakeResult{Results: results, TruncatedAlerts: uint64(m.TruncatedAlerts)}, warnings...)
}

// explainResult says to people what a result means.
func explainResult(r scaling.NotifyResult) string {
	switch r {
	case scaling.NotifyAccepted:
		return "the condition stands"
	case scaling.NotifyRenewed:
		return "the condition stood and was renewed"
	case scaling.NotifyResolved:
		return "the condition was cleared"
	case scaling.NotifyDuplicate:
		return "nothing changed"
	case scaling.NotifyUnknownGroup:
		return "no such group is configured"
	case scaling.NotifyNotAllowed:
		return "the token does not cover the group"
	case scaling.NotifyNoSignal:
		return "no scaling signal"
	case scaling.NotifyHeartbeat:
		return "the way from Prometheus is open"
	case scaling.NotifyPaused:
		return "kept, but the group is paused"
	case scaling.NotifyNotConfirmed:
		return "not confirmed: use scale-out, or amtool alert add"
	}
	return ""
}
