package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/webhook"
)

const amProgram = "prometheus-alertmanager"

// am is a real Alertmanager that posts to a server of ours.
type am struct {
	dir, address, target string
	process              *testenv.Process
}

func (a *am) start(t *testing.T) {
	t.Helper()
	config := fmt.Sprintf(`
route:
  receiver: scalehook
  group_by: [scaling_group]
  group_wait: 0s
  group_interval: 1s
  repeat_interval: 1h
receivers:
  - name: scalehook
    webhook_configs:
      - url: http://%s/api/v1/alertmanager
        send_resolved: true
        max_alerts: 0
        http_config:
          follow_redirects: false
          authorization: {type: Bearer, credentials_file: %s}
`, a.target, filepath.Join(a.dir, "token"))
	writeFile(t, a.dir, "token", []byte(alertsToken))
	writeFile(t, a.dir, "alertmanager.yml", []byte(config))
	cmd := exec.Command(testenv.Path(t, amProgram), "--config.file="+filepath.Join(a.dir, "alertmanager.yml"),
		"--storage.path="+filepath.Join(a.dir, "data"), "--web.listen-address="+a.address, "--cluster.listen-address=")
	a.process = testenv.Start(t, cmd, testenv.OK("http://"+a.address+"/-/ready"))
}

// send gives Alertmanager an alert as Prometheus would.
func (a *am) send(t *testing.T, signal string, ends time.Time) {
	t.Helper()
	body, err := json.Marshal([]map[string]any{{
		"labels":       map[string]string{"alertname": "ScalehookCPU", "scaling_group": "web", "scalehook_signal": signal},
		"annotations":  map[string]string{"summary": "busy"},
		"startsAt":     time.Now().Add(-time.Minute),
		"endsAt":       ends,
		"generatorURL": "http://prometheus.example/graph",
	}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := httpClient(nil).Post("http://"+a.address+"/api/v2/alerts", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("Alertmanager answered %s", resp.Status)
	}
}

// runOn serves on a given address until stop is called.
func runOn(t *testing.T, s *webhook.Server, address string) (stop func()) {
	t.Helper()
	listeners, err := webhook.Listen(t.Context(), []string{address})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, listeners, "") }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestARealAlertmanager(t *testing.T) {
	testenv.Need(t, testenv.Program(amProgram))
	e := newEngine()
	address := testenv.FreeAddress(t)
	opts := options(t, e)
	stop := runOn(t, newServer(t, opts), address)
	a := &am{dir: t.TempDir(), address: testenv.FreeAddress(t), target: address}
	a.start(t)

	awaitSeen := func(signal scaling.Signal, firing bool) {
		t.Helper()
		testenv.Eventually(t, 60*time.Second, fmt.Sprintf("a notification: %s, firing %t", signal, firing), func() error {
			seen := e.seen()
			if slices.ContainsFunc(seen, func(n scaling.Notification) bool {
				return n.Signal == signal && n.Firing == firing && n.Group == "web" && n.AlertName == "ScalehookCPU" &&
					len(n.Fingerprint) == 16 && n.Receiver == "alertmanager" && !n.StartsAt.IsZero()
			}) {
				return nil
			}
			return fmt.Errorf("seen so far: %+v", seen)
		})
	}
	awaitCode := func(reg prometheus.Gatherer, code int, atLeast float64) {
		t.Helper()
		testenv.Eventually(t, 60*time.Second, fmt.Sprintf("%v answers of %d", atLeast, code), func() error {
			if n := requestsCounted(t, reg, code); n < atLeast {
				return fmt.Errorf("%v so far", n)
			}
			return nil
		})
	}

	a.send(t, "high", time.Now().Add(time.Hour))
	awaitSeen(scaling.High, true)

	// What could not be stored is sent again until it is.
	e.fail(errors.New("disk full"))
	a.send(t, "high", time.Now().Add(-time.Second))
	awaitCode(opts.Registry, http.StatusServiceUnavailable, 2)
	e.fail(nil)
	awaitSeen(scaling.High, false)

	// A restart of scalehook in the middle loses nothing either.
	stop()
	a.send(t, "low", time.Now().Add(time.Hour))
	opts.Registry = prometheus.NewRegistry()
	runOn(t, newServer(t, opts), address)
	awaitSeen(scaling.Low, true)

	// After a crash of Alertmanager the resolved alert still arrives.
	a.process.Kill(t)
	a.start(t)
	a.send(t, "low", time.Now().Add(time.Hour))
	before := len(e.seen())
	a.send(t, "high", time.Now().Add(time.Hour))
	testenv.Eventually(t, 60*time.Second, "a notification after the restart", func() error {
		if len(e.seen()) == before {
			return errors.New("none")
		}
		return nil
	})
	a.send(t, "low", time.Now().Add(-time.Second))
	awaitSeen(scaling.Low, false)

	for _, code := range []int{400, 401, 403, 413, 415, 422} {
		if n := requestsCounted(t, opts.Registry, code); n != 0 {
			t.Errorf("%v answers of %d", n, code)
		}
	}
}
