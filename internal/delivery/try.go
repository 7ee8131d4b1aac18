package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An outcome is what became of one try.
type outcome struct {
	code   string        // class of the HTTP status, like 2xx, or none
	after  time.Duration // how long the receiver asks to be left alone
	final  bool          // it is not tried again
	unread bool          // nothing was sent: the secret cannot be read now
	err    error         // nil: the receiver has it
}

// noCode stands for a try that was not answered.
const noCode = "none"

// codes are the values of outcome.code.
func codes() []string { return []string{"2xx", "3xx", "4xx", "5xx", noCode} }

// maxAnswer bounds what is read of an answer, in bytes. What it says does not
// matter; a connection is used again only if it was read.
const maxAnswer = 64 << 10

// try posts the body once. It blocks for at most the hook's timeout.
func (r *receiver) try(ctx context.Context, agent, id string, body []byte) outcome {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, fmt.Errorf("no answer within %v", r.Timeout))
	defer cancel()
	secret, err := readSecret(r.SecretFile)
	if err != nil {
		return outcome{unread: true, err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return outcome{code: noCode, final: true, err: errors.New("the URL is none")}
	}
	now := time.Now()
	timestamp := strconv.FormatInt(now.Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", agent)
	req.Header.Set(HeaderDelivery, id)
	req.Header.Set(HeaderTimestamp, timestamp)
	req.Header.Set(HeaderSignature, Sign(secret, timestamp, body))
	resp, err := r.client.Do(req)
	if err != nil {
		return outcome{code: noCode, err: r.reason(ctx, err)}
	}
	// Its status has arrived; whether the rest does changes nothing.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	_ = resp.Body.Close()
	return judge(resp, now)
}

// judge tells a receiver that has it from one that is busy and one that refuses.
func judge(resp *http.Response, now time.Time) outcome {
	o := outcome{code: strconv.Itoa(resp.StatusCode/100) + "xx", err: fmt.Errorf("answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))}
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		o.err = nil
	case resp.StatusCode == http.StatusTooManyRequests, resp.StatusCode >= 500 && resp.StatusCode < 600:
		o.after = retryAfter(resp.Header.Get("Retry-After"), now)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		o.final = true
		o.err = fmt.Errorf("%w: redirects are not followed", o.err)
	case resp.StatusCode >= 400 && resp.StatusCode < 500:
		o.final = true
	default: // no status that there is
		o.code, o.final = noCode, true
	}
	return o
}

// retryAfter reads the header's two forms, seconds and a date; 0 for neither.
func retryAfter(text string, now time.Time) time.Duration {
	const longest = 24 * time.Hour
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, longest)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, min(at.Sub(now), longest))
	}
	return 0
}

// tokenStatusRE finds what a token's server answered, without what it wrote.
var tokenStatusRE = regexp.MustCompile(`^(cannot fetch token: \d{3}[A-Za-z ]*|"[a-z_]{1,40}")`)

// reason is why a request failed, in few words: without its URL, without that of a
// token's server, which may hold credentials too, and without what that server wrote,
// which may repeat them.
func (r *receiver) reason(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	depth := 0
	for wrapped, ok := errors.AsType[*url.Error](err); ok; wrapped, ok = errors.AsType[*url.Error](err) {
		err = wrapped.Err
		depth++
	}
	text := err.Error()
	// What a proxy said may be long.
	const most = 200
	_, token, ok := strings.Cut(text, "oauth2: ")
	switch {
	case ok:
		if said := tokenStatusRE.FindStringSubmatch(token); said != nil {
			return fmt.Errorf("http_client.oauth2: no token: %s", strings.TrimPrefix(said[1], "cannot fetch token: "))
		}
		return errors.New("http_client.oauth2: no token: the server's answer is none")
	case len(text) > most:
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	for _, hidden := range r.hidden() {
		text = strings.ReplaceAll(text, hidden, "<hidden>")
	}
	if depth > 1 {
		return fmt.Errorf("http_client.oauth2: no token: %s", text)
	}
	return errors.New(text)
}

// hidden are the parts of URLs that are as good as passwords, the longest first.
func (r *receiver) hidden() []string {
	var all []string
	for _, text := range []string{r.URL, r.tokenURL()} {
		u, err := url.Parse(text)
		if text == "" || err != nil {
			continue
		}
		all = append(all, text, u.RequestURI(), u.Path, u.RawQuery)
		if password, ok := u.User.Password(); ok {
			all = append(all, password)
		}
	}
	// A path of one letter would hide every such letter.
	all = slices.DeleteFunc(all, func(s string) bool { return len(s) < 4 })
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return all
}

func (r *receiver) tokenURL() string {
	if r.HTTPClient.OAuth2 == nil {
		return ""
	}
	return r.HTTPClient.OAuth2.TokenURL
}
