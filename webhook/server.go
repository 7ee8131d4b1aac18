package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/audit"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/webhook/webpage"
)

const (
	// maxBody is how much of a request's body is read, in bytes. A notification
	// with a thousand alerts is about half of it.
	maxBody = 1 << 20
	// callTimeout bounds what one request may wait for the engine. Alertmanager
	// gives up after 10 s at the earliest.
	callTimeout = 5 * time.Second
)

// Options are what a Server is made of.
type Options struct {
	// Intake, Operator and Viewer are the engine's faces. All are required.
	Intake   scaling.Intake
	Operator scaling.Operator
	Viewer   scaling.Viewer
	// Cleaner is another of its faces. Nil answers POST /api/v1/cleanup with 404.
	Cleaner scaling.Cleaner
	// Leaver is another. Nil answers POST /api/v1/groups/{group}/release with 404.
	Leaver scaling.Leaver

	// Tokens are the bearer tokens that are accepted.
	Tokens []Token
	// Insecure takes orders and notifications without a token. Host, origin and
	// content type are checked all the same.
	Insecure bool

	// ExternalURL is where people and senders reach the server; its host is
	// accepted in the Host header. Nil for none.
	ExternalURL *url.URL
	// AllowedHosts are further names accepted in the Host header, without a port.
	// Loopback names and IP addresses always are: a page that was led here by DNS
	// rebinding cannot carry those.
	AllowedHosts []string

	Logger *slog.Logger
	// Audit gets who wants to change what, before it is done. Nil for entries in the
	// log alone.
	Audit *audit.Log
	// Registry gets the server's metrics, and everything in it is served at
	// /metrics, beside the groups' series, whose names it holds. Required.
	Registry *prometheus.Registry

	// Reload reads the configuration again and says what that changed; it must leave
	// the old one in force if it returns an error. Nil answers POST /-/reload with 403.
	Reload func(ctx context.Context) ([]scaling.Effect, error)
	// Config returns the configuration in force as YAML, with its secrets hidden. Nil
	// answers GET /api/v1/status/config with 404.
	Config func() (string, error)
	// Ready returns why the server is not ready, or nil. Nil is always ready.
	Ready func() error
	// Backup writes a consistent copy of the store to a new file. Nil answers
	// POST /api/v1/backup with 404.
	Backup func(ctx context.Context, file string) error
	// BackupDir is where that file is made before it is sent; empty for the
	// system's folder of temporary files.
	BackupDir string
	// Pprof serves /debug/pprof to operators.
	Pprof bool
	// Build is shown at /api/v1/status/buildinfo.
	Build api.BuildInfo

	// MaxConnections bounds the open connections of one listener; 0 means 512.
	MaxConnections int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

func (o *Options) validate() error {
	var errs []error
	if o.Intake == nil || o.Operator == nil || o.Viewer == nil {
		errs = append(errs, errors.New("an intake, an operator and a viewer are required"))
	}
	if o.Logger == nil {
		errs = append(errs, errors.New("a logger is required"))
	}
	if o.Registry == nil {
		errs = append(errs, errors.New("a registry is required"))
	}
	if o.MaxConnections < 0 {
		errs = append(errs, fmt.Errorf("max connections %d: must not be negative", o.MaxConnections))
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 512
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	return errors.Join(errs...)
}

// Server answers HTTP requests. Make it with New.
type Server struct {
	opts   Options
	log    *slog.Logger
	tokens atomic.Pointer[tokens]
	hosts  hosts

	strangers  strangers
	handshakes seldom
	origin     *http.CrossOriginProtection
	metrics    *metrics
	collector  *collector
	page       *webpage.Page
	handler    http.Handler
	started    time.Time
}

// New makes a server, reads its token files once and registers its metrics. It
// starts nothing. The error names every problem.
func New(opts Options) (*Server, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("make the HTTP server: %w", err)
	}
	toks, err := newTokens(opts.Tokens)
	if err != nil {
		return nil, fmt.Errorf("make the HTTP server: %w", err)
	}
	s := &Server{
		opts:    opts,
		log:     opts.Logger,
		hosts:   newHosts(opts.ExternalURL, opts.AllowedHosts),
		origin:  http.NewCrossOriginProtection(),
		started: opts.Now(),
	}
	if s.opts.Audit == nil {
		if s.opts.Audit, err = audit.Open("", opts.Logger, opts.Registry); err != nil {
			return nil, fmt.Errorf("make the HTTP server: %w", err)
		}
	}
	s.tokens.Store(toks)
	if u := opts.ExternalURL; u != nil {
		if err := s.origin.AddTrustedOrigin(u.Scheme + "://" + u.Host); err != nil {
			return nil, fmt.Errorf("make the HTTP server: external URL %q: %w", u, err)
		}
	}
	if s.metrics, err = newMetrics(opts.Registry); err != nil {
		return nil, fmt.Errorf("make the HTTP server: register its metrics: %w", err)
	}
	s.collector = newCollector(opts.Viewer, s.metrics, opts.Registry, opts.Logger)
	s.page, err = webpage.New(webpage.Options{
		Viewer: opts.Viewer, Group: groupOf, Verdict: verdictOf, Activity: activityOf,
		Version: opts.Build.Version, Insecure: opts.Insecure, Logger: opts.Logger, Registerer: opts.Registry, Now: opts.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("make the HTTP server: %w", err)
	}
	s.handler = s.metrics.instrument(s.recovered(s.guarded(s.routes())))
	return s, nil
}

// Handler returns all routes behind all checks. It may be called more than once.
func (s *Server) Handler() http.Handler { return s.handler }

// SetTokens replaces the accepted tokens, as a reloaded configuration has them. If
// one of their files cannot be used, the old ones stay in force.
func (s *Server) SetTokens(list []Token) error {
	toks, err := newTokens(list)
	if err != nil {
		return err
	}
	s.tokens.Store(toks)
	return nil
}

// routes is the table of what is served: echo finds the handler, the handlers
// are this package's own.
func (s *Server) routes() http.Handler {
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = s.answerError

	pages, others := webpage.Paths()
	for _, path := range pages {
		e.GET(path, echo.WrapHandler(s.page), middleware.Gzip())
	}
	for _, path := range others {
		e.GET(path, echo.WrapHandler(s.page))
	}
	e.GET("/-/healthy", s.healthy)
	e.GET("/-/ready", s.ready)
	e.POST("/-/reload", s.reload, s.audited("reload"))
	e.GET("/metrics", echo.WrapHandler(s.scrape()), middleware.Gzip())
	e.GET("/sd/prometheus", s.discovery)

	v1 := e.Group(api.Prefix)
	v1.POST("/alertmanager", s.intake, s.intakeAuth, jsonOnly)

	operate := func(method, path string, h echo.HandlerFunc) {
		v1.Add(method, path, h, s.audited(actionOf(path)), jsonOnly)
	}
	operate(http.MethodPost, "/groups/:group/scale-out", s.order(scaling.OrderScaleOut))
	operate(http.MethodPost, "/groups/:group/scale-in", s.order(scaling.OrderScaleIn))
	operate(http.MethodPost, "/groups/:group/handover", s.order(scaling.OrderHandover))
	operate(http.MethodPut, "/groups/:group/desired", s.order(scaling.OrderSetDesired))
	operate(http.MethodPost, "/groups/:group/pause", s.pause)
	operate(http.MethodPost, "/groups/:group/resume", s.resume)
	operate(http.MethodPost, "/groups/:group/release", s.release)
	operate(http.MethodPut, "/groups/:group/instances/:instance/protection", s.protect)
	operate(http.MethodPut, "/groups/:group/instances/:instance/standby", s.standby)
	operate(http.MethodPost, "/cleanup", s.cleanup)
	operate(http.MethodPost, "/backup", s.backup)

	v1.GET("/groups", s.groups)
	v1.GET("/groups/:group", s.group)
	v1.GET("/groups/:group/instances", s.instances)
	v1.GET("/groups/:group/verdicts", s.verdicts)
	v1.GET("/groups/:group/activities", s.activities)
	v1.GET("/activities", s.activities)
	v1.GET("/orphans", s.orphans)
	v1.GET("/status/buildinfo", s.buildInfo)
	v1.GET("/status/runtimeinfo", s.runtimeInfo)
	v1.GET("/status/config", s.config, s.audited("config"))
	v1.GET("/openapi.json", s.openAPI)
	v1.GET("/status/whoami", s.whoami)

	if s.opts.Pprof {
		debug := e.Group("/debug/pprof", s.audited("pprof"), profiler, longAnswer)
		debug.GET("/cmdline", echo.WrapHandler(http.HandlerFunc(pprof.Cmdline)))
		debug.GET("/profile", echo.WrapHandler(http.HandlerFunc(pprof.Profile)))
		debug.GET("/symbol", echo.WrapHandler(http.HandlerFunc(pprof.Symbol)))
		debug.GET("/trace", echo.WrapHandler(http.HandlerFunc(pprof.Trace)))
		debug.GET("/", echo.WrapHandler(http.HandlerFunc(pprof.Index)))
		debug.GET("/:profile", echo.WrapHandler(http.HandlerFunc(pprof.Index)))
	}
	return e
}

// profiler refuses tokens of some groups: a profile is of all that the server does.
func profiler(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if t := tokenOf(c); t != nil && len(t.Groups) > 0 {
			return &apiError{http.StatusForbidden, api.ErrorForbidden, fmt.Sprintf("token %q is limited to groups and cannot see profiles", t.Name)}
		}
		return next(c)
	}
}

// longAnswer lifts the limit on the time an answer may take, for what an operator
// asked to take long.
func longAnswer(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		deadline := time.Now().Add(5 * time.Minute)
		if err := http.NewResponseController(c.Response()).SetWriteDeadline(deadline); err != nil &&
			!errors.Is(err, http.ErrNotSupported) {
			return fmt.Errorf("lift the write deadline: %w", err)
		}
		return next(c)
	}
}

// promLog lets promhttp report what a scrape could not collect.
type promLog struct{ log *slog.Logger }

// Println is promhttp's Logger.
func (l promLog) Println(v ...any) { l.log.Warn("collect metrics", "err", fmt.Sprint(v...)) }
