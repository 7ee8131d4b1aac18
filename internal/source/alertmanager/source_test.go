package alertmanager_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/source/alertmanager"
	"github.com/scalehook/scalehook/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source returns a source with one peer for each handler.
func source(t *testing.T, timeout time.Duration, handlers ...http.HandlerFunc) *alertmanager.Source {
	t.Helper()
	cfg := alertmanager.DefaultConfig()
	cfg.URLs = nil
	cfg.Timeout = timeout
	for _, handler := range handlers {
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		cfg.URLs = append(cfg.URLs, server.URL)
	}
	s, err := alertmanager.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// held is an alert as a peer holds it.
type held struct {
	group, signal, state string
	updated, ends        time.Duration // from now
	silencedBy, mutedBy  []string
}

func active(group, signal string, updated time.Duration) held {
	return held{group: group, signal: signal, state: "active", updated: updated, ends: time.Minute}
}

func peer(alerts ...held) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v2/alerts" || r.URL.Query().Get("silenced") != "true" {
			http.Error(w, "unexpected: "+r.URL.String(), http.StatusNotFound)
			return
		}
		all := []any{}
		for _, a := range alerts {
			all = append(all, map[string]any{
				"labels":      map[string]string{"alertname": "A", "scaling_group": a.group, "scalehook_signal": a.signal},
				"annotations": map[string]string{"summary": "not read"},
				"startsAt":    time.Now().Add(-time.Hour), "updatedAt": time.Now().Add(a.updated), "endsAt": time.Now().Add(a.ends),
				"fingerprint": a.group + a.signal, "generatorURL": "", "receivers": []any{},
				"status": map[string]any{"state": a.state, "silencedBy": a.silencedBy, "inhibitedBy": nil, "mutedBy": a.mutedBy},
			})
		}
		if err := json.NewEncoder(w).Encode(all); err != nil {
			panic(err)
		}
	}
}

func answers(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

// states renders evidence for comparison, with its age in seconds.
func states(all []scaling.Evidence) string {
	found := make([]string, 0, len(all))
	for _, e := range all {
		found = append(found, fmt.Sprintf("%s %s %s %.0f", e.Group, e.Signal, e.State, time.Since(e.At).Seconds()))
	}
	return strings.Join(found, ", ")
}

func TestPeersAreUnited(t *testing.T) {
	silenced := held{group: "web", signal: "high", state: "suppressed", updated: -10 * time.Second, ends: time.Minute, silencedBy: []string{"abc"}}
	for _, test := range []struct {
		name  string
		peers []http.HandlerFunc
		want  string
	}{
		{"nothing", []http.HandlerFunc{peer(), peer()}, ""},
		{"one alert", []http.HandlerFunc{peer(active("web", "high", -20*time.Second))}, "web high firing 20"},
		{"known to one peer only", []http.HandlerFunc{peer(), peer(active("web", "high", -20*time.Second))}, "web high firing 20"},
		{"the peer that was updated last counts", []http.HandlerFunc{peer(active("web", "high", -20*time.Second)), peer(active("web", "high", -5*time.Second)), peer(active("web", "high", -40*time.Second))}, "web high firing 5"},
		{"a silence at one peer is a silence", []http.HandlerFunc{peer(active("web", "high", -5*time.Second)), peer(silenced)}, "web high suppressed 10"},
		{"a silence of one of a signal's alerts is a silence", []http.HandlerFunc{peer(active("web", "high", -5*time.Second), silenced)}, "web high suppressed 10"},
		{"a silence of one signal leaves the other", []http.HandlerFunc{peer(silenced, active("web", "low", -5*time.Second))}, "web high suppressed 10, web low firing 5"},
		{"muted by a time interval", []http.HandlerFunc{peer(held{group: "web", signal: "low", state: "active", updated: -time.Second, ends: time.Minute, mutedBy: []string{"weekend"}})}, "web low suppressed 1"},
		{"an alert that has ended", []http.HandlerFunc{peer(held{group: "web", signal: "high", state: "active", updated: -time.Minute, ends: -time.Second})}, ""},
		{"not processed yet", []http.HandlerFunc{peer(held{group: "web", signal: "high", state: "unprocessed", ends: time.Minute})}, ""},
		{"not renewed for long", []http.HandlerFunc{peer(active("web", "high", -10*time.Minute))}, "web high unreachable 600"},
		{"not renewed at one peer, renewed at another", []http.HandlerFunc{peer(active("web", "high", -10*time.Minute)), peer(active("web", "high", -20*time.Second))}, "web high firing 20"},
		{"of the future", []http.HandlerFunc{peer(active("web", "high", 20*time.Second))}, "web high unreachable -20"},
		{"no signal and no group", []http.HandlerFunc{peer(active("web", "sideways", 0), active("", "high", 0))}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := source(t, 5*time.Second, test.peers...).Confirm(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, states(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnAnswerThatIsNoneIsAnError(t *testing.T) {
	dated := func(date string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["Date"] = nil
			if date != "" {
				w.Header().Set("Date", date)
			}
			fmt.Fprint(w, "[]")
		}
	}
	for _, test := range []struct {
		name  string
		peers []http.HandlerFunc
		class scaling.Class
		want  string
	}{
		{"not found", []http.HandlerFunc{answers(404, "page not found")}, scaling.Permanent, "404 Not Found: page not found"},
		{"not authorized", []http.HandlerFunc{answers(403, "")}, scaling.Permanent, "403 Forbidden"},
		{"too many requests", []http.HandlerFunc{answers(429, "")}, scaling.Temporary, "429"},
		{"starting", []http.HandlerFunc{answers(503, "")}, scaling.Temporary, "503"},
		{"one refuses and one is starting", []http.HandlerFunc{answers(403, ""), answers(503, "")}, scaling.Temporary, "403"},
		{"a web page", []http.HandlerFunc{answers(200, "<html>")}, scaling.Temporary, "not an answer of its API version 2"},
		{"no list", []http.HandlerFunc{answers(200, "null")}, scaling.Temporary, "not a list of alerts"},
		{"an object", []http.HandlerFunc{answers(200, "{}")}, scaling.Temporary, "not an answer"},
		{"cut off", []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, `[{"labels`)
		}}, scaling.Temporary, "unexpected EOF"},
		{"far too long", []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			for range 17 {
				if _, err := w.Write(make([]byte, 1<<20)); err != nil {
					return
				}
			}
		}}, scaling.Permanent, "more than 16777216 bytes"},
		{"no date", []http.HandlerFunc{dated("")}, scaling.Permanent, "no date"},
		{"a clock that is ahead", []http.HandlerFunc{dated(time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))}, scaling.Permanent, "its clock differs"},
		{"a clock that is behind", []http.HandlerFunc{dated(time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))}, scaling.Permanent, "its clock differs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := source(t, 5*time.Second, test.peers...).Confirm(t.Context())
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want something with %q", err, test.want)
			} else if class := scaling.ClassOf(err); class != test.class {
				t.Errorf("%v is %v, want %v", err, class, test.class)
			}
		})
	}
}

func TestWhatASilentPeerMayKnowIsUnreachableAndNotAbsent(t *testing.T) {
	down := answers(http.StatusServiceUnavailable, "starting")
	silenced := held{group: "web", signal: "high", state: "suppressed", updated: -10 * time.Second, ends: time.Minute, silencedBy: []string{"abc"}}
	for _, test := range []struct {
		name  string
		peers []http.HandlerFunc
		want  string
	}{
		{"one peer is down and the other knows one signal", []http.HandlerFunc{down, peer(active("web", "high", -20*time.Second))}, "web high firing 20"},
		{"one peer is down and the other knows a silence", []http.HandlerFunc{peer(silenced), down}, "web high suppressed 10"},
		{"one peer is down and the other knows nothing", []http.HandlerFunc{peer(), down}, ""},
		{"one of three is down", []http.HandlerFunc{peer(active("web", "low", -20*time.Second)), down, peer()}, "web low firing 20"},
		{"one peer refuses", []http.HandlerFunc{peer(active("web", "high", -20*time.Second)), answers(http.StatusForbidden, "")}, "web high firing 20"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := source(t, 5*time.Second, test.peers...).Confirm(t.Context())
			if err == nil || scaling.ClassOf(err) != scaling.Temporary {
				t.Errorf("got the error %v, want a temporary one: the rest is unknown", err)
			}
			if diff := cmp.Diff(test.want, states(got)); diff != "" {
				t.Error(diff)
			}
			for _, e := range got {
				if e.Detail == "" {
					t.Errorf("%+v does not say that a peer is missing", e)
				}
			}
		})
	}
}

func TestAPeerThatHangsDelaysAndDoesNotHide(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	got, err := source(t, time.Second, hang, peer(active("web", "high", -20*time.Second))).Confirm(t.Context())
	if err == nil || scaling.ClassOf(err) != scaling.Temporary || len(got) != 1 || got[0].State != scaling.EvidenceFiring || !strings.Contains(got[0].Detail, "without every peer") {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := source(t, 100*time.Millisecond, hang, hang).Confirm(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer within 100ms") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source(t, time.Minute, hang).Confirm(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestConfigurationIsStrictAndSaysWhatWouldBeRight(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"nothing stated", "{}", ""},
		{"two peers", "urls: [http://a:9093, https://b/alertmanager]", ""},
		{"an unknown key", "url: x", "field url not found"},
		{"no peer", "urls: []", "urls: name every peer"},
		{"no scheme", "urls: ['localhost:9093']", "use an http or https URL"},
		{"twice", "urls: [http://a, http://a]", "is named twice"},
		{"a password", "urls: [http://a:secret@b]", "http_client.basic_auth"},
		{"a query", "urls: ['http://a?x=1']", "leave out query"},
		{"no timeout", "timeout: 0s", "timeout 0s"},
		{"believes everything", "max_age: 2h", "max_age 2h0m0s"},
		{"a clock to the second", "max_clock_skew: 1s", "max_clock_skew 1s: use 2s to 1m"},
		{"a certificate that is not there", "http_client: {tls_config: {ca_file: /does/not/exist}}", "/does/not/exist"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := alertmanager.DefaultConfig()
			decoder := yaml.NewDecoder(strings.NewReader(test.text))
			decoder.KnownFields(true)
			err := decoder.Decode(&cfg)
			if err == nil {
				_, err = alertmanager.New(cfg)
			}
			if test.want == "" && err == nil {
				return
			}
			if test.want == "" || err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the secret is shown: %v", err)
			}
		})
	}
}

// post sends JSON to a real Alertmanager and returns the answer.
func post(t *testing.T, url string, body any) []byte {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("POST %s: %s %s %v", url, response.Status, answer, err)
	}
	return answer
}

func TestRealAlertmanagersConfirmWhatTheyHold(t *testing.T) {
	testenv.Need(t, testenv.Program("prometheus-alertmanager"))
	dir := t.TempDir()
	config := filepath.Join(dir, "alertmanager.yml")
	if err := os.WriteFile(config, []byte("route: {receiver: none}\nreceivers: [{name: none}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var urls []string
	var daemons []*testenv.Process
	for i := range 2 {
		// Not a cluster: what one peer knows the other one has to miss.
		address := testenv.FreeAddress(t)
		urls = append(urls, "http://"+address)
		daemons = append(daemons, testenv.Start(t, exec.Command(testenv.Path(t, "prometheus-alertmanager"),
			"--config.file="+config, "--storage.path="+filepath.Join(dir, strconv.Itoa(i)), "--web.listen-address="+address,
			"--cluster.listen-address=", "--log.level=warn"), testenv.OK("http://"+address+"/-/ready")))
	}
	cfg := alertmanager.DefaultConfig()
	cfg.URLs = urls
	s, err := alertmanager.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	send := func(url, signal string, ends time.Time) {
		post(t, url+"/api/v2/alerts", []any{map[string]any{
			"labels":   map[string]string{"alertname": "Scalehook", "scaling_group": "web", "scalehook_signal": signal},
			"startsAt": time.Now().Add(-time.Minute), "endsAt": ends,
		}})
	}
	confirms := func(want string, peersMissing bool) {
		t.Helper()
		testenv.Eventually(t, 20*time.Second, want, func() error {
			asked := time.Now()
			all, err := s.Confirm(t.Context())
			if (err != nil) != peersMissing {
				return errors.Join(fmt.Errorf("a peer is missing: %t", peersMissing), err)
			}
			found := make([]string, 0, len(all))
			for _, e := range all {
				found = append(found, fmt.Sprintf("%s %s", e.Signal, e.State))
				if e.At.After(asked) || asked.Sub(e.At) > time.Minute || e.Fingerprint == "" {
					return fmt.Errorf("evidence %+v", e)
				}
			}
			if got := strings.Join(found, ", "); got != want {
				return fmt.Errorf("%q, want %q", got, want)
			}
			return nil
		})
	}

	confirms("", false)
	send(urls[0], "high", time.Now().Add(5*time.Minute))
	confirms("high firing", false)
	send(urls[1], "high", time.Now().Add(5*time.Minute))
	send(urls[1], "low", time.Now().Add(5*time.Minute))
	confirms("high firing, low firing", false)

	var silence struct{ SilenceID string }
	if err := json.Unmarshal(post(t, urls[1]+"/api/v2/silences", map[string]any{
		"matchers": []any{map[string]any{"name": "scalehook_signal", "value": "high", "isRegex": false, "isEqual": true}},
		"startsAt": time.Now(), "endsAt": time.Now().Add(time.Hour), "createdBy": "operator", "comment": "pause",
	}), &silence); err != nil {
		t.Fatal(err)
	}
	confirms("high suppressed, low firing", false)
	all, err := s.Confirm(t.Context())
	if err != nil || !strings.Contains(all[0].Detail, "silenced by "+silence.SilenceID) {
		t.Errorf("the silence is not named: %+v, %v", all, err)
	}

	daemons[1].Kill(t)
	confirms("high firing", true) // the other peer never heard of the silence, nor of low
	send(urls[0], "high", time.Now().Add(-time.Second))
	confirms("", true) // resolved
	daemons[0].Kill(t)
	if all, err := s.Confirm(t.Context()); len(all) > 0 || err == nil || scaling.ClassOf(err) != scaling.Temporary {
		t.Errorf("no Alertmanager: %+v, %v", all, err)
	}
}
