package webhook_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/webhook"
)

const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// inPage finds what a page must not have in it, whatever the policy says.
var inPage = regexp.MustCompile(`(?i)<style|\sstyle=|<script(?:>|\s+[^s])|\son[a-z]+\s*=\s*["']|javascript:|(?:src|href)="(?:https?:)?//`)

func TestPagesAreCompleteAndKeepTheirOwnPolicy(t *testing.T) {
	s := worldServer(t, newWorld(), nil)
	for _, page := range []struct {
		path string
		code int
		want []string
	}{
		{"/", 200, []string{
			`<a href="/groups/web"><bdi>web</bdi></a>`, "Scaling up", "connection refused", "Need attention", `aria-label="Average CPU since `,
			`<nav aria-label="Pages">`, `<main id="main"`, "<noscript>", "did not boot in 5m0s",
		}},
		{"/groups/web", 200, []string{
			"<bdi>web-4</bdi>", "Scaling up", "launches are under way", "cooldown 50s", "<bdi>192.0.2.12</bdi>", "settle is 2m15s",
			"35s pass, or an order", "Average CPU since 11:00:15", "high 70%", `data-order="scale-out"`, `<th scope="row">thresholds</th>`, "firing",
		}},
		{"/groups/ghost", 404, []string{"ghost", `<a href="/">All groups</a>`}},
		{"/groups/%3Cscript%3E", 404, []string{"&lt;script&gt;"}},
		{"/?show=nonsense", 400, []string{"show: must be one of"}},
		{"/?page=0", 400, []string{"page: must be a number"}},
		{"/?q=" + strings.Repeat("a", 101), 400, []string{"q: at most 100 bytes"}},
	} {
		w := send(t, s, request{method: "GET", path: page.path})
		body := w.Body.String()
		if w.Code != page.code {
			t.Errorf("%s: answered %d, want %d", page.path, w.Code, page.code)
		}
		for _, want := range page.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s has no %q in it", page.path, want)
			}
		}
		if bad := inPage.FindString(body); bad != "" {
			t.Errorf("%s has %q in it", page.path, bad)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": pagePolicy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
			"Cache-Control": "no-store", "Content-Type": "text/html; charset=utf-8",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s: %q, want %q", page.path, name, got, want)
			}
		}
		for _, m := range regexp.MustCompile(`(?:src|href)="(/static/[^"]+)"`).FindAllStringSubmatch(body, -1) {
			asset := send(t, s, request{method: "GET", path: m[1]})
			if asset.Code != 200 || asset.Header().Get("Cache-Control") != "public, max-age=31536000, immutable" || asset.Body.Len() == 0 {
				t.Errorf("%s: %d, %v", m[1], asset.Code, asset.Header())
			}
			again := send(t, s, request{method: "GET", path: m[1], header: map[string]string{"If-None-Match": asset.Header().Get("ETag")}})
			if again.Code != 304 || again.Body.Len() != 0 {
				t.Errorf("%s, which the browser has: %d", m[1], again.Code)
			}
		}
	}
	if w := send(t, s, request{method: "GET", path: "/static/style.css"}); w.Code != 404 {
		t.Errorf("a file without its sum: %d", w.Code)
	}
	if w := send(t, s, request{method: "HEAD", path: "/"}); w.Code == 200 && w.Body.Len() > 0 {
		t.Error("HEAD is answered with a body")
	}
}

func TestAPageThatCannotBeMadeSaysWhy(t *testing.T) {
	w := newWorld()
	s := worldServer(t, w, nil)
	w.fail(errors.New("disk full"))
	for _, path := range []string{"/", "/groups/web"} {
		got := send(t, s, request{method: "GET", path: path})
		if got.Code != 503 || !strings.Contains(got.Body.String(), "disk full") || got.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d %v", path, got.Code, got.Header())
		}
	}
}

// hostile are texts that a browser would obey, or show otherwise.
var hostile = []string{
	`<script>window.pwned=1</script>`, `"><img src=x onerror="window.pwned=1">`, `'-alert(1)-'`, `</title></svg><svg onload=window.pwned=1>`,
	"javascript:window.pwned=1", "\u202egpj.exe", strings.Repeat("x", 300), "<!--rows-->", "{{.}}", "\x00\x1b[31m", "\xff\xfe", "a\nb\r\nevent: x\n\ndata: y",
}

// hostileWorld has those texts wherever one can come from outside.
func hostileWorld() *world {
	w := newWorld()
	w.views = nil
	for k, text := range hostile {
		i := instanceAt("web", 1, scaling.StateInService, time.Hour, 0.9)
		i.ID, i.Name, i.UUID, i.Suspect, i.Failure = strconv.Itoa(k), text, text, text, text
		v := groupAt(text, scaling.ModeFull, 1, 3, i)
		v.Problems = []string{text}
		v.Verdict.Reason = text
		v.Verdict.Gates = []scaling.Gate{{Action: scaling.ActionScaleOut, Name: text, Detail: text, Change: text}}
		v.Evidence = []scaling.Evidence{{Source: text, Signal: scaling.High, State: scaling.EvidenceFiring, Detail: text}}
		v.Group.Provider, v.Group.NamePattern, v.Group.Victim = text, text, scaling.VictimPolicy(text)
		v.State.Pause = &scaling.Pause{Out: true, By: text, Reason: text}
		w.views = append(w.views, v)
		w.activities = append(w.activities, scaling.Activity{
			ID: fmt.Sprint("a", k), Group: text, Kind: scaling.ActivityScaleOut, Status: scaling.ActivityRunning, Created: noon, Outcome: text,
			Cause: scaling.Cause{Kind: scaling.CauseManual, By: text, Detail: text}, Steps: []scaling.Step{{Name: text, Started: noon, Err: text}},
		})
	}
	return w
}

func TestWhatComesFromOutsideIsText(t *testing.T) {
	w := hostileWorld()
	s := worldServer(t, w, func(o *webhook.Options) { o.Build.Version = hostile[0] })
	s.Page().Note(noon, w.views)
	address := "http://" + serve(t, s, "")
	check := func(where, text string) {
		t.Helper()
		for _, bad := range []string{"<script>", "<img src=x", "<svg onload", `href="javascript:`, "onerror=\"w", "'-alert"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s has %q in it", where, bad)
			}
		}
	}
	check("the overview", send(t, s, request{method: "GET", path: "/"}).Body.String())
	for k, v := range w.views {
		path := "/groups/" + escape(v.Group.Name)
		if got := send(t, s, request{method: "GET", path: path}); got.Code == 200 {
			check(fmt.Sprintf("the page of %q", hostile[k]), got.Body.String())
		} else if v.Group.Name != "\xff\xfe" && !strings.HasPrefix(v.Group.Name, "\x00") {
			t.Errorf("%s: %d", path, got.Code)
		}
	}
	events := listen(t, address+"/events")
	for _, p := range events.parts() {
		check("the piece "+p.ID, p.HTML)
	}
}

// escape writes a name for a path.
func escape(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// stream reads the events of a page.
type stream struct {
	t      *testing.T
	lines  *bufio.Scanner
	cancel context.CancelFunc
}

type event struct{ kind, data string }

type piece struct {
	ID   string `json:"id"`
	HTML string `json:"html"`
}

func listen(t *testing.T, address string) *stream {
	t.Helper()
	return listenFrom(t, "127.0.0.1", address)
}

// listenFrom is listen of a client with that address.
func listenFrom(t *testing.T, client, address string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(client)}}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = resp.Body.Close()
	})
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%s: %s %v", address, resp.Status, resp.Header)
	}
	s := &stream{t: t, lines: bufio.NewScanner(resp.Body), cancel: cancel}
	s.lines.Buffer(nil, 16<<20)
	return s
}

// next returns the next event; false at the end.
func (s *stream) next() (e event, more bool) {
	for s.lines.Scan() {
		field, value, _ := strings.Cut(s.lines.Text(), ": ")
		switch field {
		case "event":
			e.kind = value
		case "data":
			e.data = value
		case "":
			return e, true
		}
	}
	return e, false
}

// await skips to the next event of a kind.
func (s *stream) await(kind string) string {
	s.t.Helper()
	for {
		e, more := s.next()
		if !more {
			s.t.Fatalf("the stream ended before an event %s: %v", kind, s.lines.Err())
		}
		if e.kind == kind {
			return e.data
		}
	}
}

// parts returns the next pieces.
func (s *stream) parts() (out []piece) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.await("parts")), &out); err != nil {
		s.t.Fatal(err)
	}
	return out
}

func ids(parts []piece) (out []string) {
	for _, p := range parts {
		out = append(out, p.ID)
	}
	return out
}

func TestEventsTellWhatChangedAndNothingElse(t *testing.T) {
	w := newWorld()
	server := httptest.NewServer(worldServer(t, w, nil).Handler()) // which samples nothing meanwhile
	defer server.Close()
	address := server.URL
	all, one := listen(t, address+"/events"), listen(t, address+"/events/web")
	if all.await("hello") == "" || !slices.Equal(ids(all.parts()), []string{"summary", "groups", "activities"}) {
		t.Error("the overview is not sent whole at first")
	}
	want := []string{"state", "timers", "orders", "charts", "instances", "explain", "earlier", "activities", "settings"}
	if diff := cmp.Diff(want, ids(one.parts())); diff != "" {
		t.Errorf("one group at first (-want +got):\n%s", diff)
	}
	w.change(func(v *scaling.GroupView) {
		if v.Group.Name == "api" {
			v.Verdict.Reason = "something else"
		}
	})
	if parts := all.parts(); len(parts) != 1 || !strings.Contains(parts[0].HTML, "something else") || !strings.HasPrefix(parts[0].HTML, "<tr") {
		t.Errorf("after a change of one group: %v", parts)
	}
	w.change(func(v *scaling.GroupView) {
		if v.Group.Name == "web" {
			v.Instances[1].Protected = false
		}
	})
	if parts := one.parts(); len(parts) != 1 || !strings.Contains(parts[0].HTML, "web-2") || strings.Contains(parts[0].HTML, "protected<") {
		t.Errorf("after a change of one instance: %v", parts)
	}
	w.change(func(v *scaling.GroupView) {
		if v.Group.Name == "web" {
			v.Instances = v.Instances[:3]
		}
	})
	if got := ids(one.parts()); !slices.Contains(got, "instances") {
		t.Errorf("with an instance less, %v is sent", got)
	}
	w.fail(errors.New("disk full"))
	if got := all.await("trouble"); !strings.Contains(got, "disk full") {
		t.Errorf("told %s", got)
	}
	w.fail(nil)
	all.await("fine")
	all.cancel()
	one.cancel()
}

// change changes every group under the engine's lock; what was handed out stays.
func (w *world) change(f func(v *scaling.GroupView)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	views := slices.Clone(w.views)
	for i := range views {
		views[i].Instances = slices.Clone(views[i].Instances)
		f(&views[i])
	}
	w.views = views
}

func TestAStreamOutlivesTheServersLimitsOnARequest(t *testing.T) {
	w := newWorld()
	server := httptest.NewUnstartedServer(worldServer(t, w, nil).Handler())
	server.Config.ReadTimeout, server.Config.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond
	server.Start()
	defer server.Close()
	s := listen(t, server.URL+"/events")
	s.parts()
	for n := range 3 { // a second apart each
		w.change(func(v *scaling.GroupView) { v.Verdict.Reason = fmt.Sprint("reason ", n) })
		s.parts()
	}
	s.cancel()
}

func TestAStreamThatIsTakenBeforeTheLoopRunsEndsToo(t *testing.T) {
	page := newServer(t, options(t, newEngine())).Page()
	ctx, end := context.WithCancel(t.Context())
	page.Begin(ctx)
	server := httptest.NewServer(page)
	defer server.Close()
	s := listen(t, server.URL+"/events/web")
	s.parts()
	end()
	guard := time.AfterFunc(10*time.Second, s.cancel)
	for {
		if _, more := s.next(); !more {
			break
		}
	}
	if !guard.Stop() {
		t.Error("it did not end by itself")
	}
}

func TestStreamsAreCountedAndBoundedAndEndWithTheServer(t *testing.T) {
	opts := options(t, newEngine())
	s := newServer(t, opts)
	listeners, err := webhook.Listen(t.Context(), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, listeners, "") }()
	address := "http://" + listeners[0].Addr().String()
	var open []*stream
	for range 100 {
		open = append(open, listen(t, address+"/events/web"))
	}
	if got := gauge(t, opts, "scalehook_webhook_event_streams"); got != 100 {
		t.Errorf("%v streams are counted, want 100", got)
	}
	resp, err := httpClient(nil).Get(address + "/events")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one more is answered %s %v", resp.Status, resp.Header)
	}
	resp, err = httpClient(nil).Get(address + "/events/ghost")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("the events of a group that is not are answered %s", resp.Status)
	}
	other := listenFrom(t, "127.0.0.2", address+"/events")
	other.await("hello")
	for {
		if _, more := open[0].next(); !more {
			break // the oldest of the address that holds all
		}
	}
	open[1].cancel()
	testenv.Eventually(t, 10*time.Second, "room for another", func() error {
		if got := gauge(t, opts, "scalehook_webhook_event_streams"); got != 99 {
			return fmt.Errorf("%v streams", got)
		}
		return nil
	})
	began := time.Now()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("run: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the server took %s to end", took)
	}
	for {
		if _, more := open[2].next(); !more {
			break
		}
	}
}

func gauge(t *testing.T, opts webhook.Options, name string) float64 {
	t.Helper()
	families, err := opts.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

func TestWhoami(t *testing.T) {
	for _, test := range []struct {
		name, token string
		insecure    bool
		code        int
		want        api.Whoami
	}{
		{"an operator", operatorToken, false, 200, api.Whoami{Name: "ops", Role: "operator"}},
		{"an operator of some groups", dbToken, false, 200, api.Whoami{Name: "db-ops", Role: "operator", Groups: []string{"db"}}},
		{"a sender of alerts", alertsToken, false, 200, api.Whoami{Name: "am", Role: "alerts"}},
		{"nobody", "", false, 401, api.Whoami{}},
		{"a wrong token", "wrong-token-0123456789", false, 401, api.Whoami{}},
		{"nobody, where no token is needed", "", true, 200, api.Whoami{Role: "operator"}},
		{"a wrong token, where none is needed", "wrong-token-0123456789", true, 401, api.Whoami{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			opts := options(t, newEngine())
			opts.Insecure = test.insecure
			w := send(t, newServer(t, opts), request{method: "GET", path: "/api/v1/status/whoami", token: test.token})
			if w.Code != test.code {
				t.Fatalf("answered %d: %s", w.Code, w.Body)
			}
			if w.Code == 200 {
				if diff := cmp.Diff(test.want, dataOf[api.Whoami](t, w)); diff != "" {
					t.Errorf("whoami (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// manyGroups is a world of n groups with two instances each.
func manyGroups(n int) *world {
	w := newWorld()
	w.views = nil
	for k := range n {
		name := fmt.Sprintf("group-%05d", k)
		v := groupAt(name, scaling.ModeFull, 1, 5, instanceAt(name, 1, scaling.StateInService, time.Hour, float64(k%97)/100), instanceAt(name, 2, scaling.StateInService, time.Hour, 0.3))
		if k%100 == 7 {
			v.Problems = []string{"no answer"}
		}
		w.views = append(w.views, v)
	}
	w.before = func(time.Duration) []scaling.GroupView { return w.views }
	return w
}

var rowName = regexp.MustCompile(`<tr id="g-[^>]*><th scope="row"><a href="/groups/([^"]+)"`)

func TestTheOverviewOfAThousandGroupsIsFilteredSortedAndPaged(t *testing.T) {
	s := worldServer(t, manyGroups(1000), nil)
	for _, test := range []struct {
		query       string
		rows        int
		first, last string
		has         []string
	}{
		{"", 100, "group-00000", "group-00099", []string{`href="?page=2" rel="next"`, "1 to 100 of 1000"}},
		{"?page=10", 100, "group-00900", "group-00999", []string{`href="?page=9" rel="prev"`, "901 to 1000 of 1000"}},
		{"?page=99", 100, "group-00900", "group-00999", nil},
		{"?q=0012", 11, "group-00012", "group-00129", nil},
		{"?q=GROUP-0099", 10, "group-00990", "group-00999", nil},
		{"?q=nothing+like+it", 0, "", "", []string{"No group is like that."}},
		{"?show=attention", 10, "group-00007", "group-00907", nil},
		{"?sort=attention", 100, "group-00007", "group-00090", nil},
		{"?sort=cpu", 100, "group-00096", "group-00960", nil},
	} {
		body := send(t, s, request{method: "GET", path: "/" + test.query}).Body.String()
		rows := rowName.FindAllStringSubmatch(body, -1)
		if len(rows) != test.rows {
			t.Errorf("%s: %d rows, want %d", test.query, len(rows), test.rows)
			continue
		}
		if test.rows > 0 && (rows[0][1] != test.first || rows[len(rows)-1][1] != test.last) {
			t.Errorf("%s: from %s to %s, want %s to %s", test.query, rows[0][1], rows[len(rows)-1][1], test.first, test.last)
		}
		for _, want := range test.has {
			if !strings.Contains(body, want) {
				t.Errorf("%s has no %q in it", test.query, want)
			}
		}
	}
}

// BenchmarkOverview is what the overview of so many groups costs.
func BenchmarkOverview(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		b.Run(fmt.Sprint(n, " groups"), func(b *testing.B) {
			s := worldServer(b, manyGroups(n), nil)
			size := 0
			for b.Loop() {
				size = send(b, s, request{method: "GET", path: "/"}).Body.Len()
			}
			b.ReportMetric(float64(size), "bytes/page")
			packed := send(b, s, request{method: "GET", path: "/", header: map[string]string{"Accept-Encoding": "gzip"}}).Body.Len()
			b.ReportMetric(float64(packed), "gzipped-bytes/page")
		})
	}
}
