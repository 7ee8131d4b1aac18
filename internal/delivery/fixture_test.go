package delivery_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	promconfig "github.com/prometheus/common/config"
	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/delivery"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/webhook"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const secret = "a secret that is none"

// secretFile has the white space that an editor leaves.
func secretFile(t testing.TB) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(secret, " ", "-")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func hook(t testing.TB, name, url string, change ...func(*delivery.Hook)) delivery.Hook {
	t.Helper()
	h := delivery.Hook{
		Name: name, URL: url, SecretFile: secretFile(t), Timeout: 10 * time.Second, MaxTries: 10, GiveUpAfter: 15 * time.Minute,
		HTTPClient: promconfig.DefaultHTTPClientConfig,
	}
	for _, c := range change {
		c(&h)
	}
	return h
}

func prepare(t testing.TB, hooks ...delivery.Hook) delivery.Prepared {
	t.Helper()
	p, err := delivery.Prepare(hooks)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// activity ended at the time.
func activity(id, group string, at time.Time) scaling.Activity {
	a := scaling.Activity{
		ID: id, Group: group, Kind: scaling.ActivityScaleOut, Status: scaling.ActivityPending, Launch: "i-" + id, Created: at.Add(-time.Minute),
		Cause: scaling.Cause{Kind: scaling.CauseManual, By: "ops"},
	}
	a.Enter("creating", at.Add(-time.Minute))
	a.End(scaling.ActivityDone, "in service", at)
	return a
}

// journal is one in memory.
type journal struct {
	mu    sync.Mutex
	list  []scaling.Ending
	last  int64
	told  map[string]int64
	fails error
	asked int
}

func newJournal() *journal { return &journal{told: map[string]int64{}} }

func (j *journal) end(list ...scaling.Activity) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, a := range list {
		j.last++
		j.list = append(j.list, scaling.Ending{Position: j.last, Activity: a})
	}
}

func (j *journal) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fails = err
}

func (j *journal) position(name string) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.told[name]
}

func (j *journal) Endings(_ context.Context, after int64, limit int) ([]scaling.Ending, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	from, _ := slices.BinarySearchFunc(j.list, after+1, func(e scaling.Ending, p int64) int { return int(e.Position - p) })
	return slices.Clone(j.list[from:min(len(j.list), from+limit)]), j.fails
}

func (j *journal) LastEnding(context.Context) (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked++
	return j.last, j.fails
}

func (j *journal) Told(context.Context) (map[string]int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.told), j.fails
}

func (j *journal) SetTold(_ context.Context, told map[string]int64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fails == nil {
		j.told = maps.Clone(told)
	}
	return j.fails
}

// log collects lines.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// running is a service that runs until the test, or stop, ends it.
type running struct {
	*delivery.Service

	log      *log
	registry *prometheus.Registry
	stop     func()
}

func run(t testing.TB, j delivery.Journal, p delivery.Prepared) *running {
	t.Helper()
	r := &running{log: &log{}, registry: prometheus.NewPedanticRegistry()}
	s, err := delivery.New(delivery.Options{
		Journal: j, Convert: webhook.Activity, Owner: "lab", Host: "hv1", ExternalURL: "https://scalehook.example", Version: "1.2.3",
		Logger: slog.New(slog.NewTextHandler(r.log, nil)), Registerer: r.registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Service = s
	s.Use(p)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// value returns the sum of the samples of a metric with the labels.
func (r *running) value(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	samples:
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if i := slices.Index(labels, l.GetName()); i >= 0 && labels[i+1] != l.GetValue() {
					continue samples
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// got is a request that a receiver got.
type got struct {
	at     time.Time
	header http.Header
	body   string
	api.Delivery
}

// receiver checks each request as the documentation says, and answers what it is
// told to.
type receiver struct {
	t      testing.TB
	answer func(n int, w http.ResponseWriter, r *http.Request) // n: from 0

	mu  sync.Mutex
	all []got
	new chan struct{}
}

func newReceiver(t testing.TB, answer func(int, http.ResponseWriter, *http.Request)) *receiver {
	return &receiver{t: t, answer: answer, new: make(chan struct{}, 1)}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		r.t.Errorf("read the request: %v", err)
	}
	g := got{at: time.Now(), header: req.Header.Clone(), body: string(body)}
	if err := json.Unmarshal(body, &g.Delivery); err != nil {
		r.t.Errorf("%v in %s", err, body)
	}
	if err := verify(req.Header, body); err != nil {
		r.t.Error(err)
	}
	r.mu.Lock()
	n := len(r.all)
	r.all = append(r.all, g)
	r.mu.Unlock()
	select {
	case r.new <- struct{}{}:
	default:
	}
	if r.answer != nil {
		r.answer(n, w, req)
	}
}

// verify is written from the documentation alone.
func verify(header http.Header, body []byte) error {
	timestamp := header.Get("X-Scalehook-Timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return fmt.Errorf("timestamp %q: %w", timestamp, err)
	}
	mac := hmac.New(sha256.New, []byte("a-secret-that-is-none"))
	mac.Write([]byte(timestamp))
	mac.Write([]byte{'.'})
	mac.Write(body)
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); !hmac.Equal([]byte(want), []byte(header.Get("X-Scalehook-Signature"))) {
		return fmt.Errorf("signature %q, want %q", header.Get("X-Scalehook-Signature"), want)
	}
	return nil
}

// await waits for so many requests in all and returns them.
func (r *receiver) await(n int) []got {
	r.t.Helper()
	late := time.After(5 * time.Minute)
	for {
		r.mu.Lock()
		list := slices.Clone(r.all)
		r.mu.Unlock()
		if len(list) >= n {
			return list
		}
		select {
		case <-r.new:
		case <-late:
			r.t.Fatalf("%d requests in 5 minutes, want %d", len(list), n)
		}
	}
}

// activities are the ids of those it was told of.
func (r *receiver) activities() (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.all {
		ids = append(ids, g.Activity.ID)
	}
	return ids
}

// RoundTrip makes the receiver a transport, where time stands still meanwhile.
func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	w := &answer{header: http.Header{}, code: http.StatusOK}
	r.ServeHTTP(w, req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: w.code, Header: w.header, Body: http.NoBody, Request: req}, nil
}

type answer struct {
	header http.Header
	code   int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(code int)        { a.code = code }
func (a *answer) Write(b []byte) (int, error) { return len(b), nil }
