package prometheus

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

	"github.com/prometheus/common/model"

	"github.com/scalehook/scalehook/internal/scaling"
)

// maxAnswer bounds an answer: some 150 bytes a series leave room for a hundred
// thousand VMs.
const maxAnswer = 16 << 20

// answer is the result of an instant query, and Prometheus's time at which it was
// evaluated.
type answer struct {
	samples model.Vector
	now     time.Time
}

// query asks once. The marker vector(time()) comes back in every answer: it tells
// the server's clock and an empty answer from one that is none.
func (s *Source) query(ctx context.Context, expr string) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, fmt.Errorf("no answer within %v", s.cfg.Timeout))
	defer cancel()
	u := strings.TrimSuffix(s.cfg.URL, "/") + "/api/v1/query?" + url.Values{
		"query":   {expr + " or vector(time())"},
		"timeout": {s.cfg.Timeout.String()},
	}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u, http.NoBody)
	if err != nil {
		return answer{}, scaling.Errorf(scaling.Permanent, "ask Prometheus at %s: %w", s.cfg.URL, err)
	}
	asked := time.Now()
	response, err := s.client.Do(request)
	if err != nil {
		return answer{}, scaling.Errorf(scaling.Temporary, "ask Prometheus at %s: %w", s.cfg.URL, reason(ctx, err))
	}
	// Nothing can be done about an answer that does not close, and it was read by then.
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return answer{}, scaling.Errorf(scaling.Temporary, "read the answer of Prometheus at %s: %w", s.cfg.URL, reason(ctx, err))
	}
	answered := time.Now()
	if len(body) > maxAnswer {
		return answer{}, scaling.Errorf(scaling.Permanent, "read the answer of Prometheus at %s: more than %d bytes", s.cfg.URL, maxAnswer)
	}
	got, err := decode(response.StatusCode, body)
	if err != nil {
		return answer{}, scaling.WithClass(classOf(response.StatusCode), fmt.Errorf("ask Prometheus at %s: %w", s.cfg.URL, err))
	}
	// It was evaluated at some time between asked and answered.
	if skew := max(asked.Sub(got.now), got.now.Sub(answered)); skew > s.cfg.MaxClockSkew {
		return answer{}, scaling.Errorf(scaling.Permanent, "ask Prometheus at %s: its clock differs from ours by %v, more than %v; evidence times would be wrong",
			s.cfg.URL, skew.Round(time.Millisecond), s.cfg.MaxClockSkew)
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

// classOf tells a Prometheus that is busy, starting or behind a failing proxy from
// one that refuses.
func classOf(status int) scaling.Class {
	if status >= 400 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests {
		return scaling.Permanent
	}
	return scaling.Temporary
}

func decode(status int, body []byte) (answer, error) {
	var message struct {
		Status string `json:"status"`
		Error  string `json:"error"`
		Data   struct {
			ResultType string          `json:"resultType"`
			Result     json.RawMessage `json:"result"`
		} `json:"data"`
	}
	err := json.Unmarshal(body, &message)
	switch {
	case err == nil && message.Error != "":
		return answer{}, fmt.Errorf("%d %s: %s", status, http.StatusText(status), clip(message.Error))
	case status != http.StatusOK:
		return answer{}, fmt.Errorf("%d %s: %s", status, http.StatusText(status), clip(string(body)))
	case err != nil:
		return answer{}, fmt.Errorf("not an answer of Prometheus's API: %w", err)
	case message.Status != "success" || message.Data.ResultType != "vector":
		return answer{}, fmt.Errorf("not an instant vector: status %q, type %q", clip(message.Status), clip(message.Data.ResultType))
	}
	var got answer
	if err := json.Unmarshal(message.Data.Result, &got.samples); err != nil {
		return answer{}, fmt.Errorf("not an instant vector: %w", err)
	}
	for i, sample := range got.samples {
		if sample == nil {
			return answer{}, errors.New("not an instant vector: it has an empty sample")
		}
		if len(sample.Metric) == 0 {
			got.now = sample.Timestamp.Time()
			got.samples = append(got.samples[:i:i], got.samples[i+1:]...)
			return got, nil
		}
	}
	return answer{}, errors.New("the answer is not complete: the time marker is missing")
}

// clip keeps what somebody else wrote from flooding the log.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "�")
}

// seconds turns a sample that holds a Unix time into a time; false if it cannot be one.
func seconds(v model.SampleValue) (time.Time, bool) {
	f := float64(v)
	// The comparison is false for NaN too. The bound is the year 2286.
	if !(f > 0 && f < 1e10) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(f * 1000)), true
}
