package prometheus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/source/ask"
)

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
	name := "Prometheus at " + s.cfg.URL
	said, err := ask.Get(ctx, s.client, name, u)
	if err != nil {
		return answer{}, err
	}
	got, err := decode(said.Status, said.Body)
	if err != nil {
		return answer{}, scaling.WithClass(said.Class(), fmt.Errorf("ask %s: %w", name, err))
	}
	if skew := said.Skew(got.now, 0); skew > s.cfg.MaxClockSkew {
		return answer{}, scaling.Errorf(scaling.Permanent, "ask %s: its clock differs from ours by %v, more than %v; evidence times would be wrong",
			name, skew.Round(time.Millisecond), s.cfg.MaxClockSkew)
	}
	return got, nil
}

func decode(status int, body []byte) (answer, error) {
	var got answer
	if err := decodeResult(status, body, "vector", "an instant vector", &got.samples); err != nil {
		return answer{}, err
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

// seconds turns a sample that holds a Unix time into a time; false if it cannot be one.
func seconds(v model.SampleValue) (time.Time, bool) {
	f := float64(v)
	// The comparison is false for NaN too. The bound is the year 2286.
	if !(f > 0 && f < 1e10) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(f * 1000)), true
}

// decodeResult reads the result of a query, which has to be of that type of
// Prometheus's; what is its name for people.
func decodeResult(status int, body []byte, resultType, what string, into any) error {
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
		return fmt.Errorf("%d %s: %s", status, http.StatusText(status), ask.Clip(message.Error))
	case status != http.StatusOK:
		return fmt.Errorf("%d %s: %s", status, http.StatusText(status), ask.Clip(string(body)))
	case err != nil:
		return fmt.Errorf("not an answer of Prometheus's API: %w", err)
	case message.Status != "success" || message.Data.ResultType != resultType:
		return fmt.Errorf("not %s: status %q, type %q", what, ask.Clip(message.Status), ask.Clip(message.Data.ResultType))
	}
	if err := json.Unmarshal(message.Data.Result, into); err != nil {
		return fmt.Errorf("not %s: %w", what, err)
	}
	return nil
}
