package prometheus

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/source/ask"
)

// mostPoints is how many points are asked for at once. Prometheus gives at most
// 11,000 of a series, and fewer at once keep it free for its rules.
const mostPoints = 2000

// Group records, as they were at one moment.
type Group struct {
	At time.Time
	// High and Low are the averages that the two signals look at, 0..1.
	High, Low float64
	// InService is how many instances were in service, Read how many of them had a
	// reading; 0 where it was not recorded.
	InService, Read int
}

// History returns what the rules recorded of a group at from, from + step and so on
// up to to, the oldest first. A moment without both averages is left out, and a record
// counts for one step: nothing is carried over a gap. It changes nothing, asks in
// pieces of bounded size of which each blocks for at most Timeout, and ends with ctx.
func (s *Source) History(ctx context.Context, group string, from, to time.Time, step time.Duration) ([]Group, error) {
	// A range was closed at both ends before Prometheus 3: a millisecond less holds the
	// same samples there and here.
	window := "[" + model.Duration(step-time.Millisecond).String() + "]"
	only := "{scaling_group=" + strconv.Quote(group) + "}" + window
	last := func(record string) string { return "last_over_time(" + record + only + ")" }
	inService := last("group_uuid:scalehook_instance_in_service:max")
	queries := []string{
		"max(" + last("group:scalehook_cpu_utilization_missing_as_0:avg_ratio") + ")",
		"max(" + last("group:scalehook_cpu_utilization_missing_as_1:avg_ratio") + ")",
		"count(count by (uuid) (" + inService + "))",
		"count(count by (uuid) (" + inService + ") and on (uuid) last_over_time(" + readingRecord + window + "))",
	}
	var out []Group
	for ; !from.After(to); from = from.Add(mostPoints * step) {
		end := from.Add((mostPoints - 1) * step)
		if end.After(to) {
			end = to
		}
		answers := make([]map[int64]float64, len(queries))
		for k, q := range queries {
			var err error
			if answers[k], err = s.queryRange(ctx, q, from, end, step); err != nil {
				return nil, fmt.Errorf("look up what was recorded of group %s: %w", group, err)
			}
		}
		for at := from; !at.After(end); at = at.Add(step) {
			high, isHigh := answers[0][at.UnixMilli()]
			low, isLow := answers[1][at.UnixMilli()]
			if isHigh && isLow && sane(high) && sane(low) {
				out = append(out, Group{at, high, low, int(answers[2][at.UnixMilli()]), int(answers[3][at.UnixMilli()])})
			}
		}
	}
	return out, nil
}

// sane is false for NaN too.
func sane(ratio float64) bool { return ratio >= 0 && ratio <= 1 }

// queryRange asks for a query that has one series at the most, by milliseconds.
func (s *Source) queryRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) (map[int64]float64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Timeout, fmt.Errorf("no answer within %v", s.cfg.Timeout))
	defer cancel()
	seconds := func(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64) }
	u := strings.TrimSuffix(s.cfg.URL, "/") + "/api/v1/query_range?" + url.Values{
		"query": {expr}, "start": {seconds(from.UnixMilli())}, "end": {seconds(to.UnixMilli())}, "step": {seconds(step.Milliseconds())},
		"timeout": {s.cfg.Timeout.String()},
	}.Encode()
	name := "Prometheus at " + s.cfg.URL
	said, err := ask.Get(ctx, s.client, name, u)
	if err != nil {
		return nil, err
	}
	points, err := decodeRange(said.Status, said.Body)
	if err != nil {
		return nil, scaling.WithClass(said.Class(), fmt.Errorf("ask %s: %w", name, err))
	}
	return points, nil
}

func decodeRange(status int, body []byte) (map[int64]float64, error) {
	var series model.Matrix
	if err := decodeResult(status, body, "matrix", "a range", &series); err != nil {
		return nil, err
	}
	points := map[int64]float64{}
	for _, one := range series {
		for _, p := range one.Values {
			points[int64(p.Timestamp)] = float64(p.Value)
		}
	}
	return points, nil
}
