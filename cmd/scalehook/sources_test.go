package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/promslog"

	"github.com/scalehook/scalehook/internal/config"
)

// standIn counts what it is asked and answers as an Alertmanager without alerts.
func standIn(t *testing.T) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "[]")
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestAReloadMovesTheSources(t *testing.T) {
	file := filepath.Join(t.TempDir(), "scalehook.yml")
	write := func(url string) {
		t.Helper()
		content := minimalConfig
		if url != "" {
			content += fmt.Sprintf("alertmanagers: [{url: %q}]\n", url)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, firstAsked := standIn(t)
	second, secondAsked := standIn(t)
	write(first)
	r := newReloader(file, promslog.NewNopLogger(), prometheus.NewRegistry())
	if _, err := r.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer r.close()
	confirmers := r.confirmers()
	if len(confirmers) != 1 || confirmers[0].Source() != "alertmanager" || r.meter() != nil {
		t.Fatalf("confirmers %v, meter %v", confirmers, r.meter())
	}
	ask := func() {
		t.Helper()
		// Whether the stand-in convinces is not the point: whom it asks is.
		_, _ = confirmers[0].Confirm(t.Context())
	}
	ask()
	write(second)
	apply := func(*config.Runtime) error { return nil }
	if err := r.reload(t.Context(), apply); err != nil {
		t.Fatal(err)
	}
	before := firstAsked.Load()
	ask()
	if before == 0 || firstAsked.Load() != before || secondAsked.Load() == 0 {
		t.Errorf("the first was asked %d, then %d times, the second %d times", before, firstAsked.Load(), secondAsked.Load())
	}
	write("")
	if err := r.reload(t.Context(), apply); !errors.Is(err, errSourcesChanged) {
		t.Errorf("error %v, want %v", err, errSourcesChanged)
	}
	write(first)
	planted := errors.New("planted")
	if err := r.reload(t.Context(), func(*config.Runtime) error { return planted }); !errors.Is(err, planted) {
		t.Errorf("error %v, want the planted one", err)
	}
	n := secondAsked.Load()
	ask()
	if secondAsked.Load() == n {
		t.Error("after a reload that failed, the source in force is not asked any more")
	}
}
