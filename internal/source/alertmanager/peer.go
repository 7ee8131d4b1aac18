package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/source/ask"
)

// alert is what is read of an alert of API version 2; the rest may change.
type alert struct {
	Labels      map[string]string `json:"labels"`
	EndsAt      time.Time         `json:"endsAt"`
	UpdatedAt   time.Time         `json:"updatedAt"`
	Fingerprint string            `json:"fingerprint"`
	Status      struct {
		State       string   `json:"state"`
		SilencedBy  []string `json:"silencedBy"`
		InhibitedBy []string `json:"inhibitedBy"`
		MutedBy     []string `json:"mutedBy"` // by a time interval, from 0.28 on
	} `json:"status"`
}

// suppressed says by what the alert is kept from being notified; false if by nothing.
func (a alert) suppressed() (string, bool) {
	for _, by := range []struct {
		what string
		ids  []string
	}{{"silenced by ", a.Status.SilencedBy}, {"inhibited by ", a.Status.InhibitedBy}, {"muted by ", a.Status.MutedBy}} {
		if len(by.ids) > 0 {
			return ask.Clip(by.what + strings.Join(by.ids, ", ")), true
		}
	}
	return "suppressed", a.Status.State == "suppressed"
}

// answer is what one peer said, and its own time.
type answer struct {
	alerts []alert
	now    time.Time
}

// ask asks one peer for the scaling alerts that it holds, suppressed ones included.
func (s *Source) ask(ctx context.Context, peer string) (answer, error) {
	u := strings.TrimSuffix(peer, "/") + "/api/v2/alerts?" + url.Values{
		"filter":      {`scalehook_signal=~"high|low"`},
		"active":      {"true"},
		"silenced":    {"true"},
		"inhibited":   {"true"},
		"unprocessed": {"true"},
	}.Encode()
	name := "Alertmanager at " + peer
	said, err := ask.Get(ctx, s.client, name, u)
	if err != nil {
		return answer{}, err
	}
	if said.Status != http.StatusOK {
		return answer{}, scaling.Errorf(said.Class(), "ask %s: %d %s: %s", name, said.Status, http.StatusText(said.Status), ask.Clip(string(said.Body)))
	}
	var got answer
	if err := json.Unmarshal(said.Body, &got.alerts); err != nil {
		return answer{}, scaling.Errorf(scaling.Temporary, "ask %s: not an answer of its API version 2: %w", name, err)
	}
	if got.alerts == nil {
		return answer{}, scaling.Errorf(scaling.Temporary, "ask %s: not a list of alerts", name)
	}
	got.now, err = http.ParseTime(said.Header.Get("Date"))
	if err != nil {
		return answer{}, scaling.Errorf(scaling.Permanent, "ask %s: the answer has no date: %w", name, err)
	}
	// The date is cut to whole seconds.
	if skew := said.Skew(got.now, time.Second); skew > s.cfg.MaxClockSkew {
		return answer{}, scaling.Errorf(scaling.Permanent, "ask %s: its clock differs from ours by %v, more than %v; evidence times would be wrong",
			name, skew.Round(time.Millisecond), s.cfg.MaxClockSkew)
	}
	return got, nil
}

// check says why an alert cannot be evidence at the peer's time; nil if it can.
func (s *Source) check(a alert, now time.Time) error {
	switch age := now.Sub(a.UpdatedAt); {
	case a.UpdatedAt.IsZero():
		return errors.New("the alert has no time of its last update")
	case age > s.cfg.MaxAge:
		return fmt.Errorf("the alert was updated %v ago, more than %v", age.Round(time.Second), s.cfg.MaxAge)
	case age < -s.cfg.MaxClockSkew-time.Second:
		return fmt.Errorf("the alert was updated at a time %v ahead", -age.Round(time.Second))
	}
	return nil
}
