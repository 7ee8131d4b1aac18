package webhook

import (
	"errors"
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/labstack/echo/v4"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/audit"
)

// hosts are the names accepted in a Host header, lower case and without a port.
type hosts []string

func newHosts(external *url.URL, more []string) hosts {
	h := hosts{"localhost"}
	if external != nil {
		h = append(h, strings.ToLower(external.Hostname()))
	}
	for _, name := range more {
		h = append(h, strings.ToLower(strings.TrimSuffix(name, ".")))
	}
	return h
}

// accepts reports whether a request with that Host header may be answered. A
// page of another site that was led here by DNS rebinding carries that site's
// name; an address cannot be rebound.
func (h hosts) accepts(header string) bool {
	host := header
	if name, _, err := net.SplitHostPort(header); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	// Only HTTP/1.0 has no Host, and no browser speaks that; health checks do.
	return header == "" || strings.HasSuffix(host, ".localhost") || slices.Contains(h, host)
}

// strangers remembers the host names that were refused, so that each is logged
// once and nobody can fill the log.
type strangers struct {
	mu   sync.Mutex
	seen map[string]bool
}

// first reports whether the name is new; after a hundred names none is.
func (s *strangers) first(name string) bool {
	const most = 100
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[name] || len(s.seen) >= most {
		return false
	}
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	s.seen[name] = true
	return true
}

// guarded refuses what a browser can be tricked into sending.
func (s *Server) guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("X-Frame-Options", "DENY")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		if !s.hosts.accepts(r.Host) {
			if s.strangers.first(clip(r.Host)) {
				s.log.Warn("a request for an unknown host was refused; name it with --web.external-url or --web.allowed-host",
					"host", clip(r.Host), "remote", r.RemoteAddr, "path", clip(r.URL.Path))
			}
			reason := fmt.Sprintf("host %q is not known here: name it with --web.external-url or --web.allowed-host", clip(r.Host))
			s.suspicious(r, reason)
			s.fail(w, r, &apiError{http.StatusForbidden, api.ErrorForbidden, reason})
			return
		}
		if err := s.origin.Check(r); err != nil {
			s.suspicious(r, err.Error())
			s.fail(w, r, &apiError{http.StatusForbidden, api.ErrorForbidden, err.Error()})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// recovered turns a panic into an answer and a log entry; the process goes on,
// since a bug in a view must not stop the reconciler.
func (s *Server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(v)
			}
			s.log.Error("a request handler panicked", "method", r.Method, "path", r.URL.Path,
				"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			s.fail(w, r, &apiError{http.StatusInternalServerError, api.ErrorInternal, "internal error, see the log"})
		}()
		next.ServeHTTP(w, r)
	})
}

// tokenKey is where the token of a request is kept in its context.
const tokenKey = "token"

// tokenOf returns the token a request was authenticated with, nil without one.
func tokenOf(c echo.Context) *Token {
	t, _ := c.Get(tokenKey).(*Token)
	return t
}

// by names who sent a request, for people: the token, without one the client
// certificate, and the address.
func by(c echo.Context) string {
	host := hostOf(c.Request())
	if t := tokenOf(c); t != nil {
		return t.Name + "@" + host
	}
	if name := certificateName(c.Request()); name != "" {
		return "cert:" + name + "@" + host
	}
	return host
}

// hostOf is the address at the other end of the connection.
func hostOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// certificateName is the name in the verified client certificate of a request: its
// common name or, as those of workloads often have none, its first other name.
func certificateName(r *http.Request) string {
	if !verifiedClient(r) {
		return ""
	}
	leaf := r.TLS.VerifiedChains[0][0]
	name := leaf.Subject.CommonName
	switch {
	case name != "":
	case len(leaf.URIs) > 0:
		name = leaf.URIs[0].String()
	case len(leaf.DNSNames) > 0:
		name = leaf.DNSNames[0]
	case len(leaf.EmailAddresses) > 0:
		name = leaf.EmailAddresses[0]
	case len(leaf.IPAddresses) > 0:
		name = leaf.IPAddresses[0].String()
	default:
		name = "serial " + leaf.SerialNumber.Text(16)
	}
	return clip(audit.Clean(name))
}

// intakeAuth is auth for notifications. Without any token for them, a sender on
// this machine and one with a verified client certificate are trusted.
func (s *Server) intakeAuth(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		trusted := !s.tokens.Load().has(RoleAlerts) && (fromLoopback(r) || verifiedClient(r))
		if err := s.admit(c, RoleAlerts, trusted); err != nil {
			s.turnedAway(c, "notification", err)
			return err
		}
		return next(c)
	}
}

// admit checks a request's token and keeps it for the handler. A trusted request
// needs none.
func (s *Server) admit(c echo.Context, role Role, trusted bool) error {
	tok, err := s.authenticate(c.Request())
	if err != nil {
		return err
	}
	c.Set(tokenKey, tok)
	group := c.Param("group")
	switch {
	case tok == nil && (trusted || s.opts.Insecure):
	case tok == nil && !s.tokens.Load().has(role):
		return &apiError{
			http.StatusUnauthorized, api.ErrorUnauthorized,
			fmt.Sprintf("no token of the role %s is configured: configure one, or start with --web.insecure-operator", role),
		}
	case tok == nil:
		return &apiError{http.StatusUnauthorized, api.ErrorUnauthorized, "a bearer token is needed"}
	case tok.Role != role && tok.Role != RoleOperator:
		return &apiError{
			http.StatusForbidden, api.ErrorForbidden,
			fmt.Sprintf("token %q has the role %s, and %s is needed", tok.Name, tok.Role, role),
		}
	case group != "" && !tok.allows(group):
		return &apiError{http.StatusForbidden, api.ErrorForbidden, fmt.Sprintf("token %q does not cover group %q", tok.Name, clip(group))}
	}
	return nil
}

func fromLoopback(r *http.Request) bool {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && addr.Addr().Unmap().IsLoopback()
}

func verifiedClient(r *http.Request) bool {
	return r.TLS != nil && len(r.TLS.VerifiedChains) > 0
}

// authenticate returns the request's token, nil if it presents none. A wrong one
// is an error even where none is needed: it is a mistake that should be seen.
func (s *Server) authenticate(r *http.Request) (*Token, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return nil, nil
	}
	scheme, presented, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		if len(s.tokens.Load().files) == 0 {
			return nil, nil // the basic authentication of the listener has been passed already
		}
		return nil, &apiError{http.StatusUnauthorized, api.ErrorUnauthorized, "the Authorization header must hold a bearer token"}
	}
	tok, err := s.tokens.Load().find(strings.TrimSpace(presented))
	if err != nil {
		s.log.Error("a token could not be checked", "err", err)
		return nil, &apiError{http.StatusServiceUnavailable, api.ErrorUnavailable, "the token cannot be checked now, see the log"}
	}
	if tok == nil {
		s.log.Warn("a wrong token was presented", "remote", r.RemoteAddr, "path", r.URL.Path)
		return nil, &apiError{http.StatusUnauthorized, api.ErrorUnauthorized, "the bearer token is wrong"}
	}
	return tok, nil
}

// jsonOnly refuses the content types that a browser's form can send.
func jsonOnly(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if !isJSON(c.Request()) {
			return &apiError{
				http.StatusUnsupportedMediaType, api.ErrorBadData,
				fmt.Sprintf("content type %q: must be application/json", clip(c.Request().Header.Get("Content-Type"))),
			}
		}
		return next(c)
	}
}

func isJSON(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && kind == "application/json"
}

// clip shortens what a client sent before it is shown.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
