package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"

	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/common/model"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// Labels that an alert must have to reach a group.
const (
	labelGroup  = "scaling_group"
	labelSignal = "scalehook_signal"
)

// labelHeartbeat marks the alert that always fires and proves the way from
// Prometheus; it belongs to no group.
const labelHeartbeat = "scalehook_heartbeat"

const (
	versionAlertmanager = "4" // Alertmanager's payload since 0.4
	versionGrafana      = "1" // the webhook of Grafana-managed alerting
)

const (
	// maxAlerts bounds the alerts of one message: a real one has a handful per
	// group, and empty alerts are three bytes each.
	maxAlerts = 10_000
	// maxFingerprint bounds a fingerprint as sent; Alertmanager's has 16 characters.
	maxFingerprint = 64
)

// message is the payload of a webhook. Fields that are not named here come with
// new releases of the senders and are ignored.
type message struct {
	template.Data

	Version         looseString `json:"version"`
	GroupKey        string      `json:"groupKey"`
	TruncatedAlerts looseCount  `json:"truncatedAlerts"`
}

// looseString is a string that some senders write as a number.
type looseString string

// UnmarshalJSON takes a string, a number or null.
func (l *looseString) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err == nil {
		*l = looseString(s)
		return nil
	}
	var n json.Number
	if err := json.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("version %s: must be a string", clip(string(b)))
	}
	*l = looseString(n.String())
	return nil
}

// looseCount is a number of alerts; what is no such number counts as none, since
// nothing is decided by it.
type looseCount uint64

// UnmarshalJSON never fails.
func (l *looseCount) UnmarshalJSON(b []byte) error {
	var n uint64
	if json.Unmarshal(b, &n) == nil {
		*l = looseCount(n)
	}
	return nil
}

// decodeMessage reads a payload. Its error is an answer.
func decodeMessage(data []byte) (*message, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	m := &message{}
	if err := dec.Decode(m); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, &apiError{http.StatusBadRequest, api.ErrorBadData, "the body is empty: Alertmanager's webhook payload is expected"}
		}
		return nil, badJSON(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, &apiError{http.StatusBadRequest, api.ErrorBadData, "the body goes on after its JSON object"}
	}
	switch m.Version {
	case versionAlertmanager, versionGrafana:
	default:
		return nil, &apiError{
			http.StatusUnprocessableEntity, api.ErrorBadData,
			fmt.Sprintf("payload version %q: must be %q (Alertmanager) or %q (Grafana); is a custom payload set?",
				clip(string(m.Version)), versionAlertmanager, versionGrafana),
		}
	}
	if len(m.Alerts) > maxAlerts {
		return nil, &apiError{
			http.StatusRequestEntityTooLarge, api.ErrorTooLarge,
			fmt.Sprintf("%d alerts in one message: at most %d are read", len(m.Alerts), maxAlerts),
		}
	}
	return m, nil
}

// receiver names the contract by which the message came.
func (m *message) receiver() string {
	if m.Version == versionGrafana {
		return "grafana"
	}
	return "alertmanager"
}

// notification reduces an alert to what may be believed of it. The reason is set
// if it is none.
func (m *message) notification(a template.Alert) (n scaling.Notification, reason string) {
	n = scaling.Notification{
		Group:       a.Labels[labelGroup],
		Signal:      scaling.Signal(a.Labels[labelSignal]),
		Firing:      a.Status == string(model.AlertFiring),
		Fingerprint: a.Fingerprint,
		AlertName:   a.Labels[model.AlertNameLabel],
		StartsAt:    a.StartsAt,
		Receiver:    m.receiver(),
	}
	if n.Fingerprint == "" || len(n.Fingerprint) > maxFingerprint {
		n.Fingerprint = fingerprint(a.Labels)
	}
	switch {
	case n.Group == "":
		return n, "the alert has no label " + labelGroup
	case n.Signal == "":
		return n, "the alert has no label " + labelSignal
	case !n.Signal.Valid():
		return n, fmt.Sprintf("label %s=%q: must be %s or %s", labelSignal, clip(string(n.Signal)), scaling.High, scaling.Low)
	case !n.Firing && a.Status != string(model.AlertResolved):
		return n, fmt.Sprintf("status %q: must be firing or resolved", clip(a.Status))
	}
	return n, ""
}

// heartbeat reports whether an alert is no signal because it is the heartbeat.
func heartbeat(a template.Alert) bool {
	return a.Labels[labelHeartbeat] == "true" && a.Labels[labelGroup] == "" && a.Labels[labelSignal] == ""
}

// fingerprint computes what Alertmanager would have sent for the labels.
func fingerprint(labels template.KV) string {
	set := make(model.LabelSet, len(labels))
	for name, value := range maps.All(labels) {
		set[model.LabelName(name)] = model.LabelValue(value)
	}
	return set.Fingerprint().String()
}
