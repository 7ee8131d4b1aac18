package webpage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

const (
	// lookTimeout bounds what a page may wait for the engine.
	lookTimeout = 5 * time.Second
	// shownActivities is how many activities a page shows.
	shownActivities = 20
	// earlierVerdicts is how many verdicts before the newest a page shows.
	earlierVerdicts = 20
)

// Options are what a Page is made of. All but Insecure, Now and the last two are
// required.
type Options struct {
	Viewer scaling.Viewer
	// Group, Verdict and Activity turn the domain's types into those of the API.
	Group    func(scaling.GroupView) api.Group
	Verdict  func(scaling.Verdict) api.Verdict
	Activity func(scaling.Activity) api.Activity

	// Version is shown at the foot of the page.
	Version string
	// Insecure says that orders need no token.
	Insecure   bool
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time

	// MaxStreams bounds the pages that are told of changes at once; 0 means 100.
	MaxStreams int
	// Live is how often a page is told of changes at most; 0 means once a second.
	Live time.Duration
}

// Page serves the web page. Make it with New.
type Page struct {
	opts    Options
	log     *slog.Logger
	assets  assets
	history *history
	mux     *http.ServeMux
	streams prometheus.Gauge
	seats   *seats

	mu     sync.Mutex
	ended  <-chan struct{} // of the newest Begin; nil before the first
	boards map[topic]*board
}

// New makes a page and registers its metric. It starts nothing.
func New(opts Options) (*Page, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.MaxStreams == 0 {
		opts.MaxStreams = 100
	}
	if opts.Live == 0 {
		opts.Live = time.Second
	}
	p := &Page{
		opts: opts, log: opts.Logger, assets: loadAssets(), history: newHistory(), mux: http.NewServeMux(),
		seats: newSeats(opts.MaxStreams), boards: map[topic]*board{},
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "scalehook_webhook_event_streams",
			Help: "Open web pages that are told of changes.",
		}),
	}
	if err := opts.Registerer.Register(p.streams); err != nil {
		return nil, fmt.Errorf("make the web page: %w", err)
	}
	p.mux.HandleFunc("GET /{$}", p.overview)
	p.mux.HandleFunc("GET /groups/{group}", p.group)
	p.mux.HandleFunc("GET /static/{file}", p.assets.serve)
	p.mux.HandleFunc("GET /events", p.events)
	p.mux.HandleFunc("GET /events/{group}", p.events)
	return p, nil
}

// Paths are what the page answers, as echo writes them. Those that take long, or
// whose size does not matter, are among the second.
func Paths() (pages, others []string) {
	return []string{"/", "/groups/:group"}, []string{"/static/:file", "/events", "/events/:group"}
}

// ServeHTTP answers what is in Paths.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.mux.ServeHTTP(w, r) }

// Begin has every page that is told of changes be left when ctx ends, so that a server
// that stops need not wait. It holds for those that come after it.
func (p *Page) Begin(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = ctx.Done()
}

// Run samples the groups for the charts until ctx ends.
func (p *Page) Run(ctx context.Context) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		p.sample(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (p *Page) sample(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, fmt.Errorf("no answer within %s", lookTimeout))
	defer cancel()
	views, err := p.opts.Viewer.Groups(ctx)
	if err != nil {
		p.log.Debug("the groups could not be sampled for the charts", "err", err)
		p.history.gap(p.opts.Now())
		return
	}
	p.Note(p.opts.Now(), views)
}

// Note takes a sample of the groups for the charts, later than all before.
func (p *Page) Note(at time.Time, views []scaling.GroupView) { p.history.add(at, views) }

// csp lets a page load from this server alone, run nothing that stands in it, and
// be framed by nobody.
const csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// secure sets what a browser is told about anything served here.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", csp)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

func (p *Page) overview(w http.ResponseWriter, r *http.Request) {
	q, err := readQuery(r.URL.Query())
	if err != nil {
		p.fail(w, r, http.StatusBadRequest, err)
		return
	}
	p.serve(w, r, topic{query: q}, "overview")
}

func (p *Page) group(w http.ResponseWriter, r *http.Request) {
	p.serve(w, r, topic{group: r.PathValue("group")}, "group")
}

// serve answers with a whole page.
func (p *Page) serve(w http.ResponseWriter, r *http.Request, t topic, name string) {
	ctx, cancel := context.WithTimeoutCause(r.Context(), lookTimeout, fmt.Errorf("no answer within %s", lookTimeout))
	defer cancel()
	v, err := p.look(ctx, t)
	if err != nil {
		p.fail(w, r, statusOf(err), err)
		return
	}
	var out bytes.Buffer
	if err := p.render(&out, name, v); err != nil {
		p.fail(w, r, http.StatusInternalServerError, err)
		return
	}
	p.write(w, r, http.StatusOK, out.Bytes())
}

func (p *Page) write(w http.ResponseWriter, r *http.Request, code int, body []byte) {
	secure(w.Header())
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(body); err != nil {
		p.log.Debug("a page could not be written", "err", err)
	}
}

func statusOf(err error) int {
	if errors.Is(err, scaling.ErrUnknownGroup) {
		return http.StatusNotFound
	}
	return http.StatusServiceUnavailable
}

// fail answers with a page that says what went wrong.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, code int, err error) {
	if code >= http.StatusInternalServerError {
		p.log.Warn("a page could not be made", "path", r.URL.Path, "err", err)
	}
	v := view{shell: p.shell(topic{}, http.StatusText(code)), Failure: err.Error()}
	v.Events = ""
	var out bytes.Buffer
	if err := p.render(&out, "failure", v); err != nil {
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	if code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "1")
	}
	p.write(w, r, code, out.Bytes())
}
