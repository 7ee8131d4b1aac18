package alertmanager

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// maxAnswer bounds one peer's answer: a kilobyte an alert leaves room for
// thousands of groups.
const maxAnswer = 16 << 20

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
			return clip(by.what + strings.Join(by.ids, ", ")), true
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
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u, http.NoBody)
	if err != nil {
		return answer{}, scaling.Errorf(scaling.Permanent, "ask Alertmanager at %s: %w", peer, err)
	}
	asked := time.Now()
	response, err := s.client.Do(request)
	if err != nil {
		return answer{}, scaling.Errorf(scaling.Temporary, "ask Alertmanager at %s: %w", peer, reason(ctx, err))
	}
	// Nothing can be done about an answer that does not close, and it was read by then.
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return answer{}, scaling.Errorf(scaling.Temporary, "read the answer of Alertmanager at %s: %w", peer, reason(ctx, err))
	}
	answered := time.Now()
	switch {
	case len(body) > maxAnswer:
		return answer{}, scaling.Errorf(scaling.Permanent, "read the answer of Alertmanager at %s: more than %d bytes", peer, maxAnswer)
	case response.StatusCode != http.StatusOK:
		return answer{}, scaling.Errorf(classOf(response.StatusCode), "ask Alertmanager at %s: %s: %s", peer, response.Status, clip(string(body)))
	}
	var got answer
	if err := json.Unmarshal(body, &got.alerts); err != nil {
		return answer{}, scaling.Errorf(scaling.Temporary, "ask Alertmanager at %s: not an answer of its API version 2: %w", peer, err)
	}
	if got.alerts == nil {
		return answer{}, scaling.Errorf(scaling.Temporary, "ask Alertmanager at %s: not a list of alerts", peer)
	}
	got.now, err = http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return answer{}, scaling.Errorf(scaling.Permanent, "ask Alertmanager at %s: the answer has no date: %w", peer, err)
	}
	// The date is cut to whole seconds, and was set at some time between asked and answered.
	if skew := max(asked.Sub(got.now)-time.Second, got.now.Sub(answered)); skew > s.cfg.MaxClockSkew {
		return answer{}, scaling.Errorf(scaling.Permanent, "ask Alertmanager at %s: its clock differs from ours by %v, more than %v; evidence times would be wrong",
			peer, skew.Round(time.Millisecond), s.cfg.MaxClockSkew)
	}
	return got, nil
}

// reason prefers the cause of an expired deadline to the bare "deadline exceeded".
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), ctx.Err())
	}
	return err
}

// classOf tells an Alertmanager that is busy, starting or behind a failing proxy
// from one that refuses.
func classOf(status int) scaling.Class {
	if status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests {
		return scaling.Permanent
	}
	return scaling.Temporary
}

// clip keeps what somebody else wrote from flooding the log.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "�")
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
