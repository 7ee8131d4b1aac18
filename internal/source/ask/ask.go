// Package ask puts one question to an HTTP server of the Prometheus family and
// reads the answer whole: bounded in size, with the times between which it was
// given, and with a class for every way to fail. What the answer means is the
// asking source's business.
package ask

import (
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// MaxAnswer bounds an answer, in bytes: 150 bytes for a series and a kilobyte for
// an alert leave room for a hundred thousand VMs and thousands of groups.
const MaxAnswer = 16 << 20

// Answer is what a server said, whatever its status.
type Answer struct {
	Status int // of HTTP
	Header http.Header
	Body   []byte
	// Asked and Answered are our times before the request and after the last byte.
	Asked, Answered time.Time
}

// Get asks once; it blocks until the whole answer was read or ctx ends. name is
// the server's for the error, like "Prometheus at http://127.0.0.1:9090". An
// answer of any status is none. Errors are Temporary, and Permanent where asking
// again is of no use: a URL that is none, an answer above MaxAnswer.
func Get(ctx context.Context, client *http.Client, name, url string) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return Answer{}, scaling.Errorf(scaling.Permanent, "ask %s: %w", name, err)
	}
	a := Answer{Asked: time.Now()}
	response, err := client.Do(request)
	if err != nil {
		return Answer{}, scaling.Errorf(scaling.Temporary, "ask %s: %w", name, reason(ctx, err))
	}
	// Nothing can be done about an answer that does not close, and it was read by then.
	defer func() { _ = response.Body.Close() }()
	a.Status, a.Header = response.StatusCode, response.Header
	if a.Body, err = io.ReadAll(io.LimitReader(response.Body, MaxAnswer+1)); err != nil {
		return Answer{}, scaling.Errorf(scaling.Temporary, "read the answer of %s: %w", name, reason(ctx, err))
	}
	a.Answered = time.Now()
	if len(a.Body) > MaxAnswer {
		return Answer{}, scaling.Errorf(scaling.Permanent, "read the answer of %s: more than %d bytes", name, MaxAnswer)
	}
	return a, nil
}

// Class is that of an answer which is not the one that was hoped for: it tells a
// server that is busy, starting or behind a failing proxy from one that refuses.
func (a Answer) Class() scaling.Class {
	if a.Status >= 400 && a.Status < 500 && a.Status != http.StatusRequestTimeout && a.Status != http.StatusTooManyRequests {
		return scaling.Permanent
	}
	return scaling.Temporary
}

// Skew is how far the server's clock is from ours at the least, if it read now
// while the answer was under way and cuts its times to units of precision.
func (a Answer) Skew(now time.Time, precision time.Duration) time.Duration {
	return max(a.Asked.Sub(now)-precision, now.Sub(a.Answered), 0)
}

// reason prefers the cause of an expired deadline to the bare "deadline exceeded".
func reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ended{context.Cause(ctx), ctx.Err()}
	}
	return err
}

// ended is why there was no time left; it is one error to people and two to programs.
type ended struct{ cause, err error }

func (e ended) Error() string { return e.cause.Error() }

func (e ended) Unwrap() []error { return []error{e.cause, e.err} }

// Clip keeps what somebody else wrote from flooding the log.
func Clip(s string) string {
	const most = 200
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strings.ToValidUTF8(s, "�")
}
