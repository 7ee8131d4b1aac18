package webhook

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/audit"
)

// answerKey is where the data of an answer is kept in a request's context.
const answerKey = "answer"

// audited lets a request pass that may change something: it has a token of the
// role operator, and what it asks is in the audit log before the handler begins.
// Where that cannot be written nothing is done.
func (s *Server) audited(action string) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if err := s.admit(c, RoleOperator, false); err != nil {
				s.turnedAway(c, action, err)
				return err
			}
			e := s.entry(c, action)
			asked, err := askedOf(c)
			if err != nil {
				s.auditEnd(c, e, err)
				return err
			}
			e.Asked = asked
			if err := s.opts.Audit.Write(e); err != nil {
				return &apiError{http.StatusServiceUnavailable, api.ErrorUnavailable, fmt.Sprintf("nothing was done: %v", err)}
			}
			done := false
			defer func() {
				if !done { // it panicked
					s.auditEnd(c, e, errors.New("internal error, see the log"))
				}
			}()
			err = next(c)
			done = true
			s.auditEnd(c, e, err)
			return err
		}
	}
}

// auditEnd writes what came of a request. It is too late to refuse it: an entry
// that cannot be written is counted and in the log.
func (s *Server) auditEnd(c echo.Context, e audit.Entry, err error) {
	e.Time = s.opts.Now()
	e.Asked = nil // the first entry has it
	e.Outcome, e.Code = audit.Taken, c.Response().Status
	if err != nil {
		wrong := s.explain(err, c.Request())
		e.Outcome, e.Code, e.Reason = audit.Refused, wrong.code, wrong.reason
		if wrong.code >= http.StatusInternalServerError {
			e.Outcome = audit.Failed
		}
	} else {
		outcomeOf(&e, c.Get(answerKey))
	}
	_ = s.opts.Audit.Write(e)
}

// outcomeOf copies what an answer says was done.
func outcomeOf(e *audit.Entry, answer any) {
	switch a := answer.(type) {
	case api.OrderResult:
		e.Order, e.Replayed, e.Message = a.ID, a.Replayed, a.Message
	case api.ReleaseResult:
		e.Message = a.Message
		if a.Activity != "" {
			e.Activities = []string{a.Activity}
		}
	case []api.CleanupResult:
		var said []string
		for _, r := range a {
			if r.Activity != "" {
				e.Activities = append(e.Activities, r.Activity)
			}
			word := "taken"
			if r.Removed {
				word = "removed"
			}
			if r.Refused != "" {
				word = "refused: " + r.Refused
			}
			said = append(said, r.ID+" "+word)
		}
		e.Message = strings.Join(said, "; ")
	case api.Done:
		e.Message = a.Message
	case api.Reloaded:
		e.Message = a.Message
	}
}

// entry is what is known of a request from its head.
func (s *Server) entry(c echo.Context, action string) audit.Entry {
	r := c.Request()
	e := audit.Entry{
		Time: s.opts.Now(), ID: strings.ToLower(rand.Text()[:16]), Action: action, Outcome: audit.Asked, By: by(c), Auth: "none",
		Remote: r.RemoteAddr, Forwarded: r.Header.Get("X-Forwarded-For"), Agent: r.UserAgent(), Method: r.Method, Path: r.URL.Path,
		Group: c.Param("group"), Instance: c.Param("instance"), Certificate: certificateName(r),
	}
	switch t := tokenOf(c); {
	case t != nil:
		e.Auth, e.Role = "token", string(t.Role)
	case e.Certificate != "":
		e.Auth = "certificate"
	case r.Header.Get("Authorization") != "":
		e.Auth = "basic" // what the listener let pass, where there are no tokens
	}
	return e
}

// turnedAway writes a request that was refused before it proved anything.
func (s *Server) turnedAway(c echo.Context, action string, err error) {
	wrong := s.explain(err, c.Request())
	e := s.entry(c, action)
	e.Outcome, e.Code, e.Reason = audit.Refused, wrong.code, wrong.reason
	if e.Auth == "basic" {
		e.Auth = "none"
	}
	s.opts.Audit.Refusal(hostOf(c.Request()), s.opts.Now(), e)
}

// notCovered writes that a sender's token does not reach the group of an alert. The
// rest of the notification is taken.
func (s *Server) notCovered(c echo.Context, group, reason string) {
	e := s.entry(c, "notification")
	e.Group, e.Outcome, e.Code, e.Reason = group, audit.Refused, http.StatusOK, reason
	s.opts.Audit.Refusal(hostOf(c.Request()), s.opts.Now(), e)
}

// suspicious writes a request that a browser was tricked into sending.
func (s *Server) suspicious(r *http.Request, reason string) {
	if handlerOf(r) != handlerOperator {
		return
	}
	s.opts.Audit.Refusal(hostOf(r), s.opts.Now(), audit.Entry{
		ID: strings.ToLower(rand.Text()[:16]), Action: actionOf(r.URL.Path), Outcome: audit.Refused, By: hostOf(r), Auth: "none",
		Remote: r.RemoteAddr, Agent: r.UserAgent(), Method: r.Method, Path: r.URL.Path, Code: http.StatusForbidden, Reason: reason,
	})
}

// actionOf names what a route does: the last word of its path.
func actionOf(route string) string { return strings.ReplaceAll(path.Base(route), "-", "_") }

// askedOf reads what the body of an order says, for its entry; the handler reads
// the body again. Only fields that have a meaning are kept: what somebody put
// there by mistake may be a secret.
func askedOf(c echo.Context) (map[string]any, error) {
	if !isJSON(c.Request()) {
		return nil, nil
	}
	body, err := readBody(c)
	if err != nil {
		return nil, err
	}
	c.Request().Body = io.NopCloser(bytes.NewReader(body))
	var all map[string]any
	_ = json.Unmarshal(body, &all) // the handler says what is wrong with it
	var kept map[string]any
	for _, key := range []string{
		"count", "instance", "hold", "direction", "for", "reason", "protected", "standby", "ids", "group", "serving", "yes", "force",
	} {
		switch v := all[key].(type) {
		case string, bool, float64:
		case []any:
			if len(v) > maxCleanup {
				continue // refused
			}
		default:
			continue
		}
		if kept == nil {
			kept = map[string]any{}
		}
		kept[key] = all[key]
	}
	return kept, nil
}

// hangup is how a reload by SIGHUP is named.
const hangup = "SIGHUP"

// Signalled runs f, which a signal to the process asks for, as audited runs a
// handler. Who may send one is the operating system's decision.
func (s *Server) Signalled(action string, f func() error) error {
	e := audit.Entry{
		Time: s.opts.Now(), ID: strings.ToLower(rand.Text()[:16]), Action: action, Outcome: audit.Asked, By: hangup, Auth: "signal",
	}
	if err := s.opts.Audit.Write(e); err != nil {
		return fmt.Errorf("nothing was done: %w", err)
	}
	err := f()
	e.Time, e.Outcome = s.opts.Now(), audit.Taken
	if err != nil {
		e.Outcome, e.Reason = audit.Failed, err.Error()
	}
	_ = s.opts.Audit.Write(e) // counted and logged, and it is too late to refuse
	return err
}

// handshakes is where net/http reports connections that failed. What a client did
// wrong in its handshake is worth a look: it may be an Alertmanager whose
// certificate ended. That no connection can be taken is worth one too. The rest is
// noise of scanners and health checks.
type handshakes struct{ s *Server }

// Write takes one message.
func (h handshakes) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	if err, full := strings.CutPrefix(text, "http: Accept error: "); full {
		// It is said again for each try, up to one a second.
		if err, _, _ = strings.Cut(err, "; retrying in "); h.s.handshakes.first("accept "+err, h.s.opts.Now()) {
			h.s.log.Warn("connections cannot be taken; trying again", "err", err)
		}
		return len(p), nil
	}
	rest, failed := strings.CutPrefix(text, "http: TLS handshake error from ")
	remote, reason, _ := strings.Cut(rest, ": ")
	if !failed || strings.Contains(reason, "EOF") || strings.Contains(reason, "reset by peer") || strings.Contains(reason, "timeout") ||
		strings.Contains(reason, "broken pipe") {
		h.s.log.Debug("a connection failed", "err", text)
		return len(p), nil
	}
	host := remote
	if i := strings.LastIndexByte(remote, ':'); i >= 0 {
		host = remote[:i]
	}
	now := h.s.opts.Now()
	if h.s.handshakes.first(host+" "+reason, now) {
		h.s.log.Warn("a TLS connection was refused", "remote", remote, "err", reason)
	}
	h.s.opts.Audit.Refusal(host, now, audit.Entry{
		ID: strings.ToLower(rand.Text()[:16]), Action: "connect", Outcome: audit.Refused, By: host, Auth: "none", Remote: remote, Reason: reason,
	})
	return len(p), nil
}

// seldom lets a message pass once in a while.
type seldom struct {
	strangers

	since time.Time
}

// first reports whether the message was not passed in the last ten minutes.
func (s *seldom) first(message string, now time.Time) bool {
	s.mu.Lock()
	if now.Sub(s.since) > 10*time.Minute {
		s.since = now
		clear(s.seen)
	}
	s.mu.Unlock()
	return s.strangers.first(message)
}
