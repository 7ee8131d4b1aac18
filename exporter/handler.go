package exporter

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
)

// timeoutHeader is how Prometheus says how long it will wait for a scrape.
const timeoutHeader = "X-Prometheus-Scrape-Timeout-Seconds"

// Handler serves the metrics, with those of own appended where it is not nil.
// A scrape is answered within the timeout that it brings, less the configured
// offset, and within the configured timeout. More than maxRequests scrapes at
// once are refused with 503; 0 is no limit.
func (e *Exporter) Handler(own prometheus.Gatherer, maxRequests int) http.Handler {
	var slots chan struct{}
	if maxRequests > 0 {
		slots = make(chan struct{}, maxRequests)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if slots != nil {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			default:
				http.Error(w, fmt.Sprintf("%d scrapes are under way already, which is the limit", maxRequests),
					http.StatusServiceUnavailable)
				return
			}
		}
		timeout := e.timeout(r.Header.Get(timeoutHeader))
		ctx, cancel := context.WithTimeoutCause(r.Context(), timeout, fmt.Errorf("the scrape's time of %s is over", timeout))
		defer cancel()
		gather := prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return e.gatherWith(ctx, own) })
		buffered := bufferedResponse{w, bufio.NewWriterSize(w, responseBuffer)}
		// A client that is gone is no error of ours.
		defer func() { _ = buffered.out.Flush() }()
		promhttp.HandlerFor(gather, promhttp.HandlerOpts{
			ErrorHandling:     promhttp.ContinueOnError,
			EnableOpenMetrics: true,
		}).ServeHTTP(buffered, r)
	})
}

// responseBuffer is how much of an answer is sent at once.
const responseBuffer = 64 << 10

// bufferedResponse sends an answer in large pieces. The server's own pieces
// are 4 KiB, and the client is woken for each of them.
type bufferedResponse struct {
	http.ResponseWriter
	out *bufio.Writer
}

func (b bufferedResponse) Write(p []byte) (int, error) { return b.out.Write(p) } //nolint:wrapcheck // nothing to add

// timeout is how long a scrape may take that came with this header. What the
// offset takes off is never more than half.
func (e *Exporter) timeout(header string) time.Duration {
	seconds, err := strconv.ParseFloat(header, 64)
	if err != nil || !(seconds > 0) || seconds > e.config.Timeout.Seconds()+e.config.TimeoutOffset.Seconds() {
		return e.config.Timeout
	}
	asked := time.Duration(seconds * float64(time.Second))
	return min(e.config.Timeout, asked-min(e.config.TimeoutOffset, asked/2))
}

func (e *Exporter) gatherWith(ctx context.Context, own prometheus.Gatherer) ([]*dto.MetricFamily, error) {
	var more []*dto.MetricFamily
	var err error
	var others sync.WaitGroup
	if own != nil {
		// Most of a scrape is waiting for libvirt.
		others.Go(func() { more, err = own.Gather() })
	}
	families := e.Gather(ctx)
	others.Wait()
	if err != nil {
		err = fmt.Errorf("gather the exporter's own metrics: %w", err)
	}
	families = append(families, more...)
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return families, err
}
