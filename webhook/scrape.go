package webhook

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

const (
	// scrapeTimeout is how long the series may take to be gathered.
	scrapeTimeout = 10 * time.Second
	// sendTimeout is how long a client may take to read the page. It is less than
	// the server's writeTimeout, because a scrape that is sent keeps its slot.
	sendTimeout = 15 * time.Second
	// scrapeMargin is how long before the scraper gives up it is answered.
	scrapeMargin = 500 * time.Millisecond
	// maxScrapes bounds the scrapes at once, and with them what they hold in memory.
	maxScrapes = 8
	// scrapeBuffer is how much of a page is sent at once.
	scrapeBuffer = 64 << 10
	// timeoutHeader is how Prometheus says how long it will wait, in seconds.
	timeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"
)

// Gather returns every family that /metrics serves, by name. With an error it
// returns what could be gathered all the same. The families must not be changed.
func (s *Server) Gather() ([]*dto.MetricFamily, error) {
	return s.collector.all(s.collector.gather(context.Background()))
}

// scrape serves /metrics. The page is never in memory as text: it is written as
// the client reads it, so promhttp's own time limit, which keeps the whole text
// until it is complete, is not used. A scrape that cannot be gathered in time is
// answered with 503, one whose client does not read is cut off.
func (s *Server) scrape() http.Handler {
	slots := make(chan struct{}, maxScrapes)
	handle := func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
		default:
			http.Error(w, fmt.Sprintf("%d scrapes are under way already, which is the limit", maxScrapes), http.StatusServiceUnavailable)
			return
		}
		limit := scrapeLimit(r.Header.Get(timeoutHeader))
		ctx, cancel := context.WithTimeoutCause(r.Context(), limit, fmt.Errorf("the series could not be gathered within %s", limit))
		defer cancel()
		got := make(chan gathered, 1)
		go func() {
			got <- s.collector.gather(ctx)
		}()
		select {
		case g := <-got:
			defer func() { <-slots }()
			s.sendPage(w, r, g)
		case <-ctx.Done():
			// What hangs keeps its slot, so that no more than these can hang.
			go func() { <-got; <-slots }()
			http.Error(w, context.Cause(ctx).Error(), http.StatusServiceUnavailable)
		}
	}
	return promhttp.InstrumentMetricHandler(s.opts.Registry, http.HandlerFunc(handle))
}

// sendPage sends the groups' families, each made when its turn comes, and then the
// others.
func (s *Server) sendPage(w http.ResponseWriter, r *http.Request, g gathered) {
	err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(sendTimeout))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		s.log.Debug("a scrape's client is gone", "err", err)
		return
	}
	out := pageWriter{w, bufio.NewWriterSize(w, scrapeBuffer)}
	send := func(families []*dto.MetricFamily, err error) {
		promhttp.HandlerFor(
			prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return families, err }),
			promhttp.HandlerOpts{
				ErrorLog: promLog{s.log}, ErrorHandling: promhttp.ContinueOnError, Registry: s.opts.Registry,
				DisableCompression: true, // the pieces are compressed as one
			},
		).ServeHTTP(out, r)
	}
	for i := range s.collector.specs {
		if made := s.collector.family(&s.collector.specs[i], g.rows); made != nil {
			send([]*dto.MetricFamily{made}, nil)
		}
	}
	send(g.rest, g.err)
	if err := out.buffer.Flush(); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// pageWriter sends a page in large pieces. One that cannot be sent ends the
// request: promhttp would encode the rest for nobody, and end an answer that
// lacks a piece as if it were whole.
type pageWriter struct {
	http.ResponseWriter

	buffer *bufio.Writer
}

// Write is that of the buffer.
func (p pageWriter) Write(b []byte) (int, error) {
	n, err := p.buffer.Write(b)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

// scrapeLimit is how long the gathering may take for a scrape with this header.
func scrapeLimit(header string) time.Duration {
	asked, err := strconv.ParseFloat(header, 64)
	if err != nil || !(asked > 0) || asked > (scrapeTimeout+scrapeMargin).Seconds() {
		return scrapeTimeout
	}
	d := time.Duration(asked * float64(time.Second))
	return d - min(scrapeMargin, d/2)
}
