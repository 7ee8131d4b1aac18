package doctor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/config"
	"github.com/scalehook/scalehook/internal/doctor"
	"github.com/scalehook/scalehook/rules"
)

// world answers as a server, a Prometheus and an Alertmanager at which all is well.
type world struct {
	answers map[string]string // by path
	queries map[string]string // what a query with this text in it results in
	webhook error             // what is wrong with the one that is configured
	*httptest.Server
}

// sample is one of an instant vector.
func sample(value int, labels ...string) string {
	m := map[string]string{}
	for i := 0; i+1 < len(labels); i += 2 {
		m[labels[i]] = labels[i+1]
	}
	text, _ := json.Marshal(m)
	return fmt.Sprintf(`{"metric": %s, "value": [%d, "%d"]}`, text, time.Now().Unix(), value)
}

func newWorld(t *testing.T) *world {
	w := &world{queries: map[string]string{
		"scalehook_build_info":   sample(1, "job", "scalehook", "instance", "h:10070"),
		"libvirt_up[1d]":         sample(1, "job", "kvm", "instance", "h:10071"),
		"high_threshold":         sample(1, "scaling_group", "web"),
		"(group_uuid":            sample(2, "scaling_group", "web"),
		"handler":                sample(9, "code", "200"),
		" or vector(time())":     fmt.Sprintf(`{"metric": {}, "value": [%f, "1"]}`, float64(time.Now().UnixMilli())/1000),
		"unless on (uuid) uuid:": "",
	}}
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Close)
	host := strings.TrimPrefix(w.URL, "http://")
	loaded, err := rulesAnswer()
	if err != nil {
		t.Fatal(err)
	}
	w.answers = map[string]string{
		"/api/v1/status/runtimeinfo": `{"status": "success", "data": {"ready": true}}`,
		"/api/v1/status/buildinfo":   `{"status": "success", "data": {"version": "1"}}`,
		"/api/v1/groups":             `{"status": "success", "data": [{"name": "web", "mode": "full", "in_service": 2, "problems": []}]}`,
		"/api/v1/rules":              loaded,
		"/api/v1/status/config": success(map[string]string{"yaml": `
global: {scrape_interval: 15s}
alerting: {alertmanagers: [{static_configs: []}]}
scrape_configs: [{job_name: scalehook}, {job_name: kvm}]
`}),
		"/api/v1/status/flags":  success(map[string]string{"rules.alert.resend-delay": "1m"}),
		"/api/v1/alertmanagers": success(map[string]any{"activeAlertmanagers": []any{map[string]string{"url": w.URL + "/api/v2/alerts"}}}),
		"/api/v1/targets": success(map[string]any{"activeTargets": []any{
			map[string]any{"labels": map[string]string{"job": "kvm", "instance": "h:10071"}, "scrapeUrl": "http://h:10071/metrics", "health": "up"},
			map[string]any{"labels": map[string]string{"job": "others", "instance": "o:1"}, "scrapeUrl": "http://o:1/metrics", "health": "down"},
		}}),
		"/api/v2/alerts": "[]",
		"/api/v2/status": status(`
route:
  receiver: people
  routes:
    - {matchers: ['scalehook_signal=~"high|low"'], receiver: scalehook, group_by: [scaling_group], group_wait: 0s, group_interval: 15s, repeat_interval: 1m}
    - {matchers: ['scalehook_heartbeat="true"'], receiver: scalehook}
receivers:
  - name: people
  - name: scalehook
    webhook_configs:
      - url: http://`+host+`/api/v1/alertmanager
        http_config: {follow_redirects: false, authorization: {type: Bearer, credentials: <secret>}}
`, 1),
	}
	return w
}

func success(data any) string {
	text, _ := json.Marshal(map[string]any{"status": "success", "data": data})
	return string(text)
}

func status(original string, peers int) string {
	text, _ := json.Marshal(map[string]any{
		"cluster": map[string]any{"peers": make([]struct{}, peers)}, "config": map[string]string{"original": original},
	})
	return string(text)
}

// rulesAnswer is the product's rules as the API tells them.
func rulesAnswer() (string, error) {
	text, err := rules.Render(rules.Options{})
	if err != nil {
		return "", err
	}
	groups, err := doctor.RulesAsLoaded(text)
	return success(map[string]any{"groups": groups}), err
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/v1/query" {
		query, results := r.URL.Query().Get("query"), []string{}
		// The longest text that the query has decides.
		best := ""
		for text := range w.queries {
			if strings.Contains(query, text) && len(text) > len(best) {
				best = text
			}
		}
		if result := w.queries[best]; result != "" {
			results = append(results, result)
		}
		fmt.Fprintf(rw, `{"status": "success", "data": {"resultType": "vector", "result": [%s]}}`, strings.Join(results, ","))
		return
	}
	answer, ok := w.answers[r.URL.Path]
	if !ok {
		http.NotFound(rw, r)
		return
	}
	fmt.Fprint(rw, answer)
}

func (w *world) examine(t *testing.T) []doctor.Check {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"am.token": "alerts-token-0123456789\n", "audit.secret": "audit-secret-0123456789\n", "scalehook.yml": fmt.Sprintf(`
owner: test
prometheus: {url: %[1]q}
alertmanagers: [{url: %[1]q}]
tokens: [{name: am, role: alerts, file: am.token}]
webhooks: [{name: audit, url: "https://audit.example/", secret_file: audit.secret}]
providers:
  kvm: {libvirt: {uri: "test:///default"}}
balancers: {none: {direct: {}}}
groups:
  web: {max: 2, template: {image: base.qcow2}, mode: full}
`, w.URL)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Load(filepath.Join(dir, "scalehook.yml"))
	if err != nil {
		t.Fatal(err)
	}
	runtime, err := c.Build(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	server, err := client.New(client.Options{URL: w.URL, HTTP: &http.Client{Transport: transport, Timeout: 10 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return doctor.Live{
		Config: c, Runtime: runtime, Server: server, ServerURL: w.URL, Version: "1",
		CheckToken: func(int) error { return nil }, CheckWebhook: func(int) error { return w.webhook },
	}.Examine(ctx)
}

func TestRunningProgramsAreExamined(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*world)
		want   map[string]string // what is not OK: "WRONG part: what" to a part of the detail
	}{
		"all is well": {},
		"a server that is not ready": {
			func(w *world) {
				w.answers["/api/v1/status/runtimeinfo"] = `{"status": "success", "data": {"not_ready": "the pool was not seen"}}`
			},
			map[string]string{"WRONG server: answers": "is not ready: the pool was not seen"},
		},
		"a server of another version with a problem": {
			func(w *world) {
				w.answers["/api/v1/status/buildinfo"] = `{"status": "success", "data": {"version": "2"}}`
				w.answers["/api/v1/groups"] = `{"status": "success", "data": [{"name": "web", "problems": ["the pool is empty"]}]}`
			},
			map[string]string{"WARN server: answers": "of version 2 where this program is 1", "WARN server: group web": "the pool is empty (scalehook explain web)"},
		},
		"a group that the file has not": {
			func(w *world) {
				w.answers["/api/v1/groups"] = `{"status": "success", "data": [{"name": "web"}, {"name": "old", "pause": {"out": true}}]}`
			},
			map[string]string{"WRONG server: groups": "it has old, which the file has not", "WARN server: group old": "scalehook resume old"},
		},
		"a webhook whose files cannot be read": {
			func(w *world) { w.webhook = errors.New("scalehook.yml:6: no such file") },
			map[string]string{"WRONG configuration: webhook audit": "no such file"},
		},
		"a group that was let go": {
			func(w *world) {
				w.answers["/api/v1/groups"] = `{"status": "success", "data": [{"name": "web", "release": {"by": "ops", "done": "2026-11-22T12:00:00Z"}}]}`
			},
			map[string]string{"WARN server: group web": "let go by ops, so nothing is done for it"},
		},
		"something that only answers queries": {
			func(w *world) {
				delete(w.answers, "/api/v1/rules")
				w.queries["unless on (uuid) uuid:"] = sample(2, "scaling_group", "web")
			},
			map[string]string{
				"WARN prometheus: configuration": "check-config --prometheus FILE does",
				"WRONG prometheus: readings":     "no VM of group web has a CPU reading",
			},
		},
		"an alert that is renewed too seldom": {
			func(w *world) {
				w.answers["/api/v1/status/flags"] = success(map[string]string{"rules.alert.resend-delay": "2m"})
			},
			map[string]string{"WRONG prometheus: resend delay": "or write max_age: 4m"},
		},
		"an Alertmanager of somebody else": {
			func(w *world) {
				w.answers["/api/v1/alertmanagers"] = success(map[string]any{"activeAlertmanagers": []any{map[string]string{"url": "http://other:9093/api/v2/alerts"}}})
			},
			map[string]string{"WARN prometheus: alertmanagers": "it posts to other:9093"},
		},
		"no Alertmanager": {
			func(w *world) { w.answers["/api/v1/alertmanagers"] = success(map[string]any{}) },
			map[string]string{"WRONG prometheus: alertmanagers": "none to post alerts to"},
		},
		"a libvirt that does not answer its exporter": {
			func(w *world) {
				w.queries["(libvirt_up) == 0"] = sample(0, "job", "kvm", "instance", "h:10071")
			},
			map[string]string{"WRONG prometheus: targets": "the exporter at h:10071 runs and libvirt does not answer"},
		},
		"an exporter that is down": {
			func(w *world) {
				w.answers["/api/v1/targets"] = success(map[string]any{"activeTargets": []any{
					map[string]any{"labels": map[string]string{"job": "kvm", "instance": "h:10071"}, "scrapeUrl": "http://h:10071/metrics", "health": "down", "lastError": "refused"},
				}})
				w.queries["unless on (uuid) uuid:"] = sample(2, "scaling_group", "web")
			},
			map[string]string{"WRONG prometheus: targets": "the exporter at h:10071 (job kvm) cannot be scraped: refused"},
		},
		"an exporter that went down a moment ago": {
			func(w *world) {
				w.answers["/api/v1/targets"] = success(map[string]any{"activeTargets": []any{
					map[string]any{"labels": map[string]string{"job": "kvm", "instance": "h:10071"}, "scrapeUrl": "http://h:10071/metrics", "health": "down"},
				}})
				w.queries["unless on (uuid) uuid:"] = sample(2, "scaling_group", "web")
			},
			map[string]string{"WRONG prometheus: targets": "the exporter at h:10071 (job kvm) cannot be scraped: its last scrape failed: start"},
		},
		"a label that was renamed": {
			func(w *world) {
				w.queries["exported_uuid!="] = sample(4, "job", "kvm", "instance", "h:10071")
			},
			map[string]string{"WRONG prometheus: label collisions": "the target h:10071 (job kvm) has a label uuid of its own"},
		},
		"a job that hides a label, which is told once": {
			func(w *world) {
				w.answers["/api/v1/status/config"] = success(map[string]string{"yaml": `
global: {scrape_interval: 15s}
alerting: {alertmanagers: [{static_configs: []}]}
scrape_configs: [{job_name: scalehook}, {job_name: kvm, static_configs: [{targets: [h], labels: {uuid: x}}]}]
`})
				w.queries["exported_uuid!="] = sample(4, "job", "kvm", "instance", "h:10071")
				w.queries["unless on (uuid) uuid:"] = sample(2, "scaling_group", "web")
			},
			map[string]string{"WRONG prometheus: scrape of the exporter": "the published one becomes exported_uuid"},
		},
		"thresholds of other groups": {
			func(w *world) { w.queries["high_threshold"] = sample(1, "scaling_group", "db") },
			map[string]string{"WRONG prometheus: series of the groups": "none of web"},
		},
		"no reading at all": {
			func(w *world) { w.queries["unless on (uuid) uuid:"] = sample(2, "scaling_group", "web") },
			map[string]string{"WRONG prometheus: readings": "no VM of group web has a CPU reading"},
		},
		"a VM that is new": {
			func(w *world) { w.queries["unless on (uuid) uuid:"] = sample(1, "scaling_group", "web") },
			map[string]string{"WARN prometheus: readings": "1 of the 2 VMs of group web have no CPU reading"},
		},
		"a rule that fails": {
			func(w *world) {
				w.answers["/api/v1/rules"] = strings.Replace(w.answers["/api/v1/rules"], `"lastError":""`, `"lastError":"many-to-many"`, 1)
			},
			map[string]string{"WRONG prometheus: rules": "cannot be evaluated: many-to-many"},
		},
		"posts that are refused": {
			func(w *world) { w.queries["handler"] = sample(5, "code", "401") },
			map[string]string{"WRONG alertmanager: notifications": "answered 5 posts of the last 15 minutes with 401"},
		},
		"no posts": {
			func(w *world) { w.queries["handler"] = "" },
			map[string]string{"WARN alertmanager: notifications": "none came within 15 minutes"},
		},
		"a peer that nobody named, and so the third post comes late": {
			func(w *world) {
				var s struct{ Config struct{ Original string } }
				_ = json.Unmarshal([]byte(w.answers["/api/v2/status"]), &s)
				w.answers["/api/v2/status"] = status(s.Config.Original, 4)
			},
			map[string]string{"WARN alertmanager: peers": "the cluster has 4, and 1 are configured", "WRONG alertmanager: timings": "one lost post"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if test.change != nil {
				test.change(w)
			}
			want := maps.Clone(test.want)
			checks := w.examine(t)
			doctor.Documented(t, checks)
			for _, c := range checks {
				if c.Part == doctor.PartProviders || c.OK && !c.Warning {
					continue // libvirt's own test host has no such image
				}
				state := "WRONG"
				if c.OK {
					state = "WARN"
				}
				key := state + " " + c.Part + ": " + c.What
				if part, ok := want[key]; !ok || !strings.Contains(c.Detail, part) {
					t.Errorf("%s: %s, want %q", key, c.Detail, part)
				}
				delete(want, key)
			}
			if len(want) > 0 {
				t.Errorf("not found: %v", want)
			}
		})
	}
}

func TestFilesThatOthersMayUseAreTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	for mode, want := range map[os.FileMode]string{0o600: "", 0o640: "", 0o644: "everybody", 0o604: "everybody", 0o660: "its group may put another"} {
		if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		c := doctor.Secret(file)
		if c.OK != (want == "") || !strings.Contains(c.Detail, want) {
			t.Errorf("%04o: %+v", mode, c)
		}
	}
	if c := doctor.Secret(file + ".none"); c.OK {
		t.Errorf("%+v", c)
	}
}
