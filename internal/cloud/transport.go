package cloud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// transport gives every request a deadline that covers its whole answer, and says
// of one that failed whether it may have had an effect.
type transport struct {
	base    *http.Transport
	timeout time.Duration
}

// lost is a request without an answer.
type lost struct {
	method string
	url    string
	sent   bool // a connection was there, so that it may have arrived
	err    error
}

func (e *lost) Error() string {
	if e.sent {
		return fmt.Sprintf("%s %s: no whole answer: %v", e.method, e.url, e.err)
	}
	return fmt.Sprintf("%s %s: not sent: %v", e.method, e.url, e.err)
}

func (e *lost) Unwrap() error { return e.err }

// harmless reports whether the request cannot have changed anything.
func (e *lost) harmless() bool {
	return !e.sent || e.method == http.MethodGet || e.method == http.MethodHead
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	caller := req.Context()
	ctx, cancel := context.WithTimeout(caller, t.timeout)
	var sent atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	fail := func(err error) error {
		if caller.Err() == nil && ctx.Err() != nil {
			err = fmt.Errorf("nothing came within the timeout of %v", t.timeout)
		} else if caller.Err() != nil && !errors.Is(err, caller.Err()) {
			err = fmt.Errorf("%w: %w", caller.Err(), err)
		}
		u := *req.URL
		u.RawQuery = ""
		return &lost{req.Method, u.Redacted(), sent.Load(), err}
	}
	resp, err := t.base.RoundTrip(req.WithContext(traced))
	if err != nil {
		err = fail(err)
		cancel()
		return nil, err
	}
	resp.Body = &body{resp.Body, cancel, fail}
	return resp, nil
}

// body ends the deadline of its request when it is closed.
type body struct {
	io.ReadCloser
	cancel context.CancelFunc
	fail   func(error) error
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.fail(err)
	}
	return n, err
}

func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.cancel()
	return err
}
