package grafana

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Check asks a real Prometheus everything that the dashboards ask.
type Check struct {
	URL    string       // of Prometheus
	Client *http.Client // nil: http.DefaultClient
	Choice Choice
	// Except are the questions that need have no answer, each with the reason, by
	// Query.Where.
	Except map[string]string
}

// OnlyInTrouble are the exceptions of a run in which nothing goes wrong: marks, whose
// data is something that happened. Counters of failures are none of them: they are
// there from the start.
func OnlyInTrouble() map[string]string {
	return map[string]string{
		OverviewUID + ": annotation Alerts for people": "no alert for people fires",
		GroupUID + ": annotation Failures":             "no activity fails",
	}
}

const (
	// answerLimit bounds one answer.
	answerLimit = 64 << 20
	// askTimeout bounds one question.
	askTimeout = 30 * time.Second
)

// Run returns how many questions had an answer with data. The error names all that
// had none or were refused, and the exceptions for what nobody asks. It blocks for a few
// seconds, at most half a minute per question.
func (c *Check) Run(ctx context.Context) (int, error) {
	queries, err := Queries()
	if err != nil {
		return 0, err
	}
	var errs []error
	answered := 0
	unknown := make(map[string]bool, len(c.Except))
	for where := range c.Except {
		unknown[where] = true
	}
	for _, q := range queries {
		delete(unknown, q.Where)
		found, err := c.ask(ctx, q)
		_, excepted := c.Except[q.Where]
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", q.Where, err))
		case !found && !excepted:
			errs = append(errs, fmt.Errorf("%s: no data: %s", q.Where, q.Expr))
		case found:
			answered++
		}
	}
	for where := range unknown {
		errs = append(errs, fmt.Errorf("an exception for %q, which nobody asks", where))
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return answered, errors.Join(errs...)
}

// ask reports whether a question has an answer with data in it.
func (c *Check) ask(ctx context.Context, q Query) (bool, error) {
	expr, err := q.Fill(c.Choice)
	if err != nil {
		return false, err
	}
	begin, end := stamp(c.Choice.Begin), stamp(c.Choice.End)
	switch {
	case q.Label != "":
		var values []string
		err := c.get(ctx, "/api/v1/label/"+q.Label+"/values", url.Values{"match[]": {expr}, "start": {begin}, "end": {end}}, &values)
		return len(values) > 0, err
	case q.Instant:
		var answer struct{ Result []series }
		err := c.get(ctx, "/api/v1/query", url.Values{"query": {expr}, "time": {end}}, &answer)
		return slices.ContainsFunc(answer.Result, func(s series) bool { return s.Value.number() }), err
	}
	var answer struct{ Result []series }
	err = c.get(ctx, "/api/v1/query_range", url.Values{
		"query": {expr}, "start": {begin}, "end": {end}, "step": {strconv.FormatFloat(c.Choice.Scrape.Seconds(), 'f', -1, 64)},
	}, &answer)
	return slices.ContainsFunc(answer.Result, func(s series) bool { return slices.ContainsFunc(s.Values, sample.number) }), err
}

func stamp(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

// series is one of an answer: Value of an instant query, Values of a range query.
type series struct {
	Value  sample
	Values []sample
}

// sample is a time and a value, which is text.
type sample [2]any

// number reports whether it is there and a number: a quantile of nothing is none.
func (s sample) number() bool {
	text, ok := s[1].(string)
	return ok && text != "NaN"
}

// get asks Prometheus's API and decodes the data of its answer.
func (c *Check) get(ctx context.Context, path string, values url.Values, into any) (err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.URL, "/")+path+"?"+values.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	client := c.Client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerLimit)).Decode(&answer); err != nil {
		return fmt.Errorf("read the answer, status %d: %w", resp.StatusCode, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("it is refused, status %d: %s", resp.StatusCode, answer.Error)
	}
	if err := json.Unmarshal(answer.Data, into); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return nil
}
