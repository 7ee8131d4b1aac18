// Package client is the Go client of scalehook's REST API, as the command line
// and the terminal use it. It turns every answer that is no success into an
// *Error and repeats nothing by itself: an order is made safe to repeat with an
// Idempotency-Key, which is the caller's to choose.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/api"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// Options say how to reach a server.
type Options struct {
	// URL is where the server is reached, such as http://127.0.0.1:10070.
	URL string
	// TokenFile holds the bearer token; empty for none. It is read at every request.
	TokenFile string
	// CAFile verifies the server in the place of the system's authorities, CertFile
	// and KeyFile hold the certificate to show to it; all may be empty.
	CAFile, CertFile, KeyFile string
	// HTTP sends the requests; nil for a client that uses the files above.
	HTTP *http.Client
	// UserAgent names the caller; empty for "scalehook".
	UserAgent string
	// Dated is told the server's clock, to the second, with every answer; nil for
	// nobody. It is called by whoever asks and must not block.
	Dated func(time.Time)
}

// Client asks one server. It waits as long as its caller's context says, and 30 s
// where that has no deadline. It may be used by several goroutines.
type Client struct {
	base      *url.URL
	tokenFile string
	http      *http.Client
	agent     string
	dated     func(time.Time)
}

// ErrUnreachable says that no answer came: whether a request had an effect is not
// known.
var ErrUnreachable = errors.New("the server cannot be reached")

// Error is an answer that says that a request did not succeed.
type Error struct {
	Code   int           // the HTTP status code
	Type   api.ErrorType // empty if the answer was not scalehook's
	Reason string
}

// Error returns the reason with its type.
func (e *Error) Error() string {
	if e.Type == "" {
		return fmt.Sprintf("HTTP status %d: %s", e.Code, e.Reason)
	}
	return fmt.Sprintf("%s (%s)", e.Reason, e.Type)
}

// New checks the options and returns a client. It connects to nothing.
func New(opts Options) (*Client, error) {
	u, err := url.Parse(opts.URL)
	if err != nil {
		// Not the URL itself: it may hold a password.
		return nil, errors.New("server URL: must be like http://127.0.0.1:10070")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("server URL %q: must be like http://127.0.0.1:10070", u.Redacted())
	}
	c := &Client{base: u, tokenFile: opts.TokenFile, http: opts.HTTP, agent: opts.UserAgent, dated: opts.Dated}
	if c.http == nil {
		config, err := opts.tls()
		if err != nil {
			return nil, err
		}
		c.http = &http.Client{
			Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, IdleConnTimeout: time.Minute},
			// A redirect would turn an order into a GET, or send the token elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	if c.agent == "" {
		c.agent = "scalehook"
	}
	return c, nil
}

// tls reads the files that TLS needs.
func (o Options) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CAFile != "" {
		pem, err := os.ReadFile(o.CAFile)
		if err != nil {
			return nil, fmt.Errorf("certificate authority: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificate authority: %s holds no PEM certificate", o.CAFile)
		}
	}
	if o.CertFile != "" || o.KeyFile != "" {
		cert, err := tls.LoadX509KeyPair(o.CertFile, o.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config, nil
}

// Groups lists every configured group, by name.
func (c *Client) Groups(ctx context.Context) ([]api.Group, error) {
	return get[[]api.Group](ctx, c, "/groups", nil)
}

// Group returns one group.
func (c *Client) Group(ctx context.Context, group string) (api.Group, error) {
	return get[api.Group](ctx, c, "/groups/"+url.PathEscape(group), nil)
}

// Instances lists a group's instances.
func (c *Client) Instances(ctx context.Context, group string) ([]api.Instance, error) {
	return get[[]api.Instance](ctx, c, "/groups/"+url.PathEscape(group)+"/instances", nil)
}

// Verdicts lists a group's kept verdicts, newest first.
func (c *Client) Verdicts(ctx context.Context, group string) ([]api.Verdict, error) {
	return get[[]api.Verdict](ctx, c, "/groups/"+url.PathEscape(group)+"/verdicts", nil)
}

// Activities lists activities, newest first: of one group or, with an empty name,
// of all; at most limit (0: the server's default), begun before the one with the
// id before (empty: from the newest).
func (c *Client) Activities(ctx context.Context, group, before string, limit int) ([]api.Activity, error) {
	query := url.Values{}
	if before != "" {
		query.Set("before", before)
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	path := "/activities"
	if group != "" {
		path = "/groups/" + url.PathEscape(group) + path
	}
	return get[[]api.Activity](ctx, c, path, query)
}

// Orphans lists the VMs and members that nobody answers for.
func (c *Client) Orphans(ctx context.Context) ([]api.Orphan, error) {
	return get[[]api.Orphan](ctx, c, "/orphans", nil)
}

// Cleanup orders quarantined orphans to be removed.
func (c *Client) Cleanup(ctx context.Context, req api.CleanupRequest) ([]api.CleanupResult, error) {
	return send[[]api.CleanupResult](ctx, c, http.MethodPost, "/cleanup", "", req)
}

// Reload orders the configuration to be read again.
func (c *Client) Reload(ctx context.Context) (api.Reloaded, error) {
	req, err := c.requestAt(ctx, http.MethodPost, "/-/reload", nil, struct{}{})
	if err != nil {
		return api.Reloaded{}, err
	}
	return do[api.Reloaded](c, req)
}

// BuildInfo says which scalehook answers.
func (c *Client) BuildInfo(ctx context.Context) (api.BuildInfo, error) {
	return get[api.BuildInfo](ctx, c, "/status/buildinfo", nil)
}

// RuntimeInfo says how the server does.
func (c *Client) RuntimeInfo(ctx context.Context) (api.RuntimeInfo, error) {
	return get[api.RuntimeInfo](ctx, c, "/status/runtimeinfo", nil)
}

// Config returns the server's configuration, with its secrets hidden.
func (c *Client) Config(ctx context.Context) (api.ConfigInfo, error) {
	return get[api.ConfigInfo](ctx, c, "/status/config", nil)
}

// ScaleOut orders instances to be added; key is an Idempotency-Key or empty.
func (c *Client) ScaleOut(ctx context.Context, group, key string, req api.OrderRequest) (api.OrderResult, error) {
	return c.order(ctx, http.MethodPost, group, "/scale-out", key, req)
}

// ScaleIn orders instances to be drained and removed.
func (c *Client) ScaleIn(ctx context.Context, group, key string, req api.OrderRequest) (api.OrderResult, error) {
	return c.order(ctx, http.MethodPost, group, "/scale-in", key, req)
}

// Handover orders that the primary, or the named instance, is replaced.
func (c *Client) Handover(ctx context.Context, group, key string, req api.OrderRequest) (api.OrderResult, error) {
	return c.order(ctx, http.MethodPost, group, "/handover", key, req)
}

// SetDesired orders that the group is brought to req.Count instances.
func (c *Client) SetDesired(ctx context.Context, group, key string, req api.OrderRequest) (api.OrderResult, error) {
	return c.order(ctx, http.MethodPut, group, "/desired", key, req)
}

// Pause keeps automatic steps of a group from beginning.
func (c *Client) Pause(ctx context.Context, group string, req api.PauseRequest) (api.Done, error) {
	return send[api.Done](ctx, c, http.MethodPost, "/groups/"+url.PathEscape(group)+"/pause", "", req)
}

// Retake is Resume for a group whose release cannot end: marks may stay on.
func (c *Client) Retake(ctx context.Context, group string) (api.Done, error) {
	return send[api.Done](ctx, c, http.MethodPost, "/groups/"+url.PathEscape(group)+"/resume", "", api.ResumeRequest{Force: true})
}

// Resume ends a pause, a hold and a release.
func (c *Client) Resume(ctx context.Context, group string) (api.Done, error) {
	return send[api.Done](ctx, c, http.MethodPost, "/groups/"+url.PathEscape(group)+"/resume", "", struct{}{})
}

// Release says what a release of the group lets go of, and with yes begins it.
func (c *Client) Release(ctx context.Context, group string, yes bool) (api.ReleaseResult, error) {
	return send[api.ReleaseResult](ctx, c, http.MethodPost, "/groups/"+url.PathEscape(group)+"/release", "", api.ReleaseRequest{Yes: yes})
}

// Protect sets or takes off an instance's protection against scale-in.
func (c *Client) Protect(ctx context.Context, group, instance string, on bool) (api.Done, error) {
	path := "/groups/" + url.PathEscape(group) + "/instances/" + url.PathEscape(instance) + "/protection"
	return send[api.Done](ctx, c, http.MethodPut, path, "", api.ProtectRequest{Protected: &on})
}

// Standby takes an instance out of traffic and keeps its VM, or puts it back.
func (c *Client) Standby(ctx context.Context, group, instance string, on bool) (api.Done, error) {
	path := "/groups/" + url.PathEscape(group) + "/instances/" + url.PathEscape(instance) + "/standby"
	return send[api.Done](ctx, c, http.MethodPut, path, "", api.StandbyRequest{Standby: &on})
}

// Backup writes a consistent copy of the server's store to w. That may take longer
// than other answers: without a deadline of the context nothing bounds it.
func (c *Client) Backup(ctx context.Context, w io.Writer) (err error) {
	req, err := c.request(ctx, http.MethodPost, "/backup", nil, struct{}{})
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return unreachable(err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode != http.StatusOK {
		_, err := decode[json.RawMessage](resp)
		return err
	}
	n, err := io.Copy(w, resp.Body)
	if err != nil {
		return fmt.Errorf("receive the copy of the store: %w", err)
	}
	if resp.ContentLength >= 0 && n != resp.ContentLength {
		return fmt.Errorf("receive the copy of the store: %d bytes of %d", n, resp.ContentLength)
	}
	return nil
}

// Healthy returns nil if a server answers that it is alive, or with ready that it
// is ready; else an Error with what it says. scalehook-exporter answers the first too.
func (c *Client) Healthy(ctx context.Context, ready bool) (err error) {
	path := "/-/healthy"
	if ready {
		path = "/-/ready"
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	req, err := c.requestAt(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return &Error{Code: resp.StatusCode, Reason: firstLine(data, http.StatusText(resp.StatusCode))}
}

func (c *Client) order(ctx context.Context, method, group, path, key string, req api.OrderRequest) (api.OrderResult, error) {
	return send[api.OrderResult](ctx, c, method, "/groups/"+url.PathEscape(group)+path, key, req)
}

// bounded is for callers that set no deadline of their own.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, has := ctx.Deadline(); has {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, 30*time.Second)
}

func get[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	var none T
	req, err := c.request(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return none, err
	}
	return do[T](c, req)
}

func send[T any](ctx context.Context, c *Client, method, path, key string, body any) (T, error) {
	var none T
	req, err := c.request(ctx, method, path, nil, body)
	if err != nil {
		return none, err
	}
	if key != "" {
		req.Header.Set(api.IdempotencyKey, key)
	}
	return do[T](c, req)
}

func (c *Client) request(ctx context.Context, method, path string, query url.Values, body any) (*http.Request, error) {
	return c.requestAt(ctx, method, api.Prefix+path, query, body)
}

// requestAt makes a request to a path that need not be of the API.
func (c *Client) requestAt(ctx context.Context, method, path string, query url.Values, body any) (*http.Request, error) {
	target := strings.TrimSuffix(c.base.String(), "/") + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var content io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("write the request: %w", err)
		}
		content = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, content)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("User-Agent", c.agent)
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.tokenFile != "" {
		token, err := readToken(c.tokenFile)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// readToken returns the first token in a file: a file that the server reads too
// may hold the old one after the new one.
func readToken(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	fields := strings.Fields(string(data))
	if len(fields) == 0 {
		return "", fmt.Errorf("token: %s is empty", file)
	}
	return fields[0], nil
}

func do[T any](c *Client, req *http.Request) (_ T, err error) {
	var none T
	ctx, cancel := bounded(req.Context())
	defer cancel()
	resp, err := c.http.Do(req.WithContext(ctx))
	if err != nil {
		return none, unreachable(err)
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if at, err := http.ParseTime(resp.Header.Get("Date")); c.dated != nil && err == nil {
		c.dated(at)
	}
	return decode[T](resp)
}

// decode reads an envelope.
func decode[T any](resp *http.Response) (T, error) {
	var none T
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return none, fmt.Errorf("read scalehook's answer: %w", err)
	}
	success := resp.StatusCode/100 == 2
	var envelope api.Response[json.RawMessage]
	if err := json.Unmarshal(data, &envelope); err != nil || envelope.Status == "" {
		if success {
			return none, fmt.Errorf("the answer of %s is not scalehook's; is the URL right?", resp.Request.URL.Redacted())
		}
		reason := firstLine(data, http.StatusText(resp.StatusCode))
		if strings.Contains(reason, "HTTP request to an HTTPS server") {
			reason = "the server speaks TLS here: write https:// in the URL"
		}
		return none, &Error{Code: resp.StatusCode, Reason: reason}
	}
	if !success || envelope.Status != api.StatusSuccess {
		return none, &Error{Code: resp.StatusCode, Type: envelope.ErrorType, Reason: envelope.Error}
	}
	var out T
	if err := json.Unmarshal(envelope.Data, &out); err != nil {
		return none, fmt.Errorf("read scalehook's answer: %w", err)
	}
	return out, nil
}

func firstLine(data []byte, otherwise string) string {
	const most = 200
	line, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\n")
	if line == "" || strings.HasPrefix(line, "<") {
		return otherwise
	}
	return line[:min(len(line), most)]
}
