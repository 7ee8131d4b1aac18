package webhook_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// hung is a viewer that answers when it is let go, whatever the caller's patience.
type hung struct {
	*engine

	asked chan struct{}
	free  chan struct{}
}

func (h hung) GroupNames(ctx context.Context) ([]string, error) {
	h.asked <- struct{}{}
	<-h.free
	return h.engine.GroupNames(ctx)
}

func TestAScrapeThatCannotBeGatheredInTimeIsRefused(t *testing.T) {
	e := newEngine()
	h := hung{e, make(chan struct{}, 100), make(chan struct{})}
	opts := options(t, e)
	opts.Viewer = h
	s := newServer(t, opts)
	hurry := request{method: "GET", path: "/metrics", header: map[string]string{"X-Prometheus-Scrape-Timeout-Seconds": "0.02"}}
	const most = 8
	for range most {
		if w := send(t, s, hurry); w.Code != 503 || !strings.Contains(w.Body.String(), "within 10ms") {
			t.Errorf("answered %d: %s", w.Code, w.Body)
		}
	}
	if w := send(t, s, hurry); w.Code != 503 || !strings.Contains(w.Body.String(), "limit") {
		t.Errorf("with %d scrapes that hang: answered %d: %s", most, w.Code, w.Body)
	}
	if n := len(h.asked); n != most {
		t.Errorf("the groups were asked for %d times, want %d", n, most)
	}
	close(h.free)
	for deadline := time.Now().Add(10 * time.Second); ; {
		w := send(t, s, request{method: "GET", path: "/metrics"})
		if w.Code == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still answered %d: %s", w.Code, w.Body)
		}
	}
}

func TestAScrapesTimeoutHeaderIsReadWithCare(t *testing.T) {
	for name, header := range map[string]string{
		"none": "", "ten seconds": "10", "a minute": "60", "not a number": "soon", "NaN": "NaN", "infinite": "+Inf", "zero": "0", "negative": "-1",
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, options(t, newEngine()))
			w := send(t, s, request{method: "GET", path: "/metrics", header: map[string]string{"X-Prometheus-Scrape-Timeout-Seconds": header}})
			if w.Code != 200 || !strings.Contains(w.Body.String(), "scalehook_group_status{") {
				t.Errorf("answered %d", w.Code)
			}
		})
	}
}

// breaking is a viewer with a bug.
type breaking struct{ *engine }

func (breaking) GroupNames(context.Context) ([]string, error) { panic("planted") }

func TestAPanicOfTheViewerIsAnErrorOfTheScrape(t *testing.T) {
	opts := options(t, newEngine())
	opts.Viewer = breaking{newEngine()}
	s := newServer(t, opts)
	if _, err := s.Gather(); err == nil || !strings.Contains(err.Error(), "planted") {
		t.Errorf("error %v", err)
	}
	if w := send(t, s, request{method: "GET", path: "/metrics"}); w.Code != 200 || !strings.Contains(w.Body.String(), "scalehook_webhook_requests_total") {
		t.Errorf("answered %d", w.Code)
	}
	w := send(t, s, request{method: "GET", path: "/metrics"})
	if want := `promhttp_metric_handler_errors_total{cause="gathering"} 1`; !strings.Contains(w.Body.String(), want) {
		t.Errorf("no %s in\n%s", want, w.Body)
	}
}

// forgetful names a group that it has released by the time it is asked for it.
type forgetful struct{ *engine }

func (f forgetful) GroupNames(ctx context.Context) ([]string, error) {
	names, err := f.engine.GroupNames(ctx)
	return append([]string{"released"}, names...), err
}

func TestAGroupThatIsReleasedMeanwhileCostsNoOther(t *testing.T) {
	e := newEngine()
	opts := options(t, e)
	opts.Viewer = forgetful{e}
	s := newServer(t, opts)
	if _, err := s.Gather(); err != nil {
		t.Error(err)
	}
	if got := labelValues(t, s, "scalehook_group_instances", "scaling_group"); !cmp.Equal(got, []string{"web"}) {
		t.Errorf("groups %v, want web", got)
	}
}

// stuck is a connection whose client stopped reading after a while.
type stuck struct {
	*httptest.ResponseRecorder

	room int
}

func (s *stuck) Write(b []byte) (int, error) {
	if s.room -= len(b); s.room < 0 {
		return 0, errors.New("planted")
	}
	return s.ResponseRecorder.Write(b)
}

func TestAPageThatCannotBeSentIsCutOff(t *testing.T) {
	e := newEngine()
	e.views = fleet(100)
	s := newServer(t, options(t, e))
	for _, encoding := range []string{"identity", "gzip"} {
		t.Run(encoding, func(t *testing.T) {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
					t.Errorf("the handler ended with %v, want it to abort", err)
				}
			}()
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/metrics", nil)
			req.Header.Set("Accept-Encoding", encoding)
			s.Handler().ServeHTTP(&stuck{httptest.NewRecorder(), 1 << 10}, req)
		})
	}
	// The slots are free again, and a whole page ends as one.
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	for range 10 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
		if err != nil || resp.StatusCode != http.StatusOK || strings.Count(string(body), "\nscalehook_instance_info{") != 1000 {
			t.Fatalf("answered %s with %d bytes: %v", resp.Status, len(body), err)
		}
	}
}
