package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
)

// canary is a secret of the test: its name says where it was put.
func canary(name string) string { return "CANARY" + name + "0123456789abcdef" }

var canaryRE = regexp.MustCompile("CANARY[A-Za-z]+0123")

// sealed looks for canaries in what somebody may read.
func sealed(t *testing.T, what, text string) {
	t.Helper()
	for _, leak := range canaryRE.FindAllString(text, 3) {
		at := strings.Index(text, leak)
		t.Errorf("%s holds the secret %s:\n…%s…", what, leak, text[max(0, at-300):min(len(text), at+200)])
	}
}

// secretConfig has a secret in every place that takes one. deny answers 401 to all,
// dead answers nothing.
const secretConfig = `
owner: test
prometheus:
  url: http://DENY/
  timeout: 1s
  http_client:
    basic_auth: {username: u, password: CANARYbasic0123456789abcdef}
    http_headers: {X-Key: {secrets: [CANARYheader0123456789abcdef], values: [CANARYvalue0123456789abcdef]}}
alertmanagers:
  - url: http://DENY
    timeout: 1s
    http_client:
      oauth2: {client_id: id, client_secret: CANARYoauth0123456789abcdef, token_url: "http://DENY/token", endpoint_params: {a: CANARYparam0123456789abcdef}}
tokens:
  - {name: ops, role: operator, file: ops.token}
  - {name: am, role: alerts, file: alerts.token}
webhooks:
  - name: chat
    url: http://DENY/services/CANARYpath0123456789abcdef
    secret_file: hook.secret
    max_tries: 1
    http_client: {authorization: {credentials: CANARYcredentials0123456789abcdef}}
  - name: dead
    url: http://DEAD/services/CANARYpath0123456789abcdef
    secret_file: hook.secret
    max_tries: 1
    http_client: {proxy_url: "http://u:p@CANARYproxy0123456789abcdef@DEAD"}
providers:
  sim:
    simulated: {boot_time: 50ms}
  one: # a comment with CANARYcomment0123456789abcdef
    openstack: {cloud: one, clouds_file: clouds.yaml, timeout: 1s}
  two:
    openstack: {cloud: two, clouds_file: clouds.yaml, timeout: 1s}
  host:
    libvirt: {uri: "qemu+unix:///system?socket=/nonexistent/libvirt"}
balancers:
  pool:
    simulated: {provider: sim}
  none:
    direct: {}
  hap:
    haproxy: {sockets: ["/nonexistent/haproxy.sock"]}
groups:
  web:
    mode: full
    max: 2
    provider: sim
    balancer: pool
  cloud:
    max: 2
    provider: one
    balancer: none
    template: {flavor: f, image: i, networks: [n], user_data: user.sh}
  other:
    max: 2
    provider: two
    balancer: none
    template: {flavor: f, image: i, networks: [n]}
  vm:
    max: 2
    provider: host
    balancer: hap
    pool: {backend: web}
    template: {image: base.qcow2, network: default, cloud_init: {user_data: user.sh}}
`

func TestNoSecretIsEverShown(t *testing.T) {
	deny := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, `{"error":{"message":"no","code":401,"title":"Unauthorized"}}`)
	}))
	defer deny.Close()
	flags := testFlags(t)
	dir := filepath.Dir(flags.configFile)
	dead := testenv.FreeAddress(t)
	fill := strings.NewReplacer("DENY", strings.TrimPrefix(deny.URL, "http://"), "DEAD", dead)
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(fill.Replace(text)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	clouds := fmt.Sprintf(`clouds:
  one: {auth_type: v3applicationcredential, auth: {auth_url: "http://DENY/v3", application_credential_id: id, application_credential_secret: %s}}
  two: {auth: {auth_url: "http://DEAD/v3", username: u, password: %s, project_name: p, user_domain_name: d, project_domain_name: d}}
`, canary("appcred"), canary("password"))
	write("clouds.yaml", clouds)
	write("user.sh", "#!/bin/sh\necho "+canary("userdata")+"\n")
	write("ops.token", canary("ops")+"\n")
	write("alerts.token", canary("alerts")+"\n")
	write("hook.secret", canary("hook")+"\n")
	write("scalehook.yml", secretConfig)

	address := testenv.FreeAddress(t)
	log := &lines{}
	flags.listen, flags.lifecycle, flags.auditFile, flags.pprof = []string{address}, true, filepath.Join(dir, "audit.log"), true
	if err := flags.logLevel.Set("debug"); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- serve(t.Context(), flags, log) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		sealed(t, "the log", log.String())
	})
	testenv.Eventually(t, time.Minute, "the server", testenv.OK("http://"+address+"/-/healthy"))

	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method, path, token string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, "http://"+address+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		sealed(t, method+" "+path, string(body))
		return resp.StatusCode, string(body)
	}
	run := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		execute(t.Context(), args, func(string) string { return "" }, &out, &out)
		sealed(t, strings.Join(args, " "), out.String())
		return out.String()
	}

	// What goes well, and what the others refuse.
	testenv.Eventually(t, time.Minute, "every driver was asked", func() error {
		_, page := ask(http.MethodGet, "/metrics", "")
		for _, want := range []string{
			`scalehook_deliveries_total{result="given_up",webhook="dead"} 1`, `scalehook_deliveries_total{result="rejected",webhook="chat"} 1`,
		} {
			if !strings.Contains(page, want) {
				return errors.New("no " + want)
			}
		}
		if _, groups := ask(http.MethodGet, "/api/v1/groups", ""); strings.Count(groups, `"problems"`) < 3 {
			return errors.New(groups)
		}
		return nil
	})
	for _, path := range []string{
		"/", "/api/v1/groups", "/api/v1/activities", "/api/v1/orphans", "/api/v1/status/buildinfo", "/api/v1/status/runtimeinfo",
		"/api/v1/groups/cloud/verdicts", "/-/ready", "/sd/prometheus",
	} {
		ask(http.MethodGet, path, "")
	}
	ask(http.MethodPost, "/api/v1/groups/web/resume", canary("wrong"))
	ask(http.MethodPost, "/api/v1/groups/web/resume", canary("ops"))
	ask(http.MethodPost, "/api/v1/backup", canary("ops"))
	ask(http.MethodGet, "/debug/pprof/cmdline", canary("ops"))
	// Of a dump of the stacks only arguments could leak, and it has none of strings.
	ask(http.MethodGet, "/debug/pprof/goroutine?debug=2", canary("ops"))
	code, shown := ask(http.MethodGet, "/api/v1/status/config", canary("ops"))
	if code != http.StatusOK || strings.Count(shown, `\u003csecret\u003e`) < 8 || !strings.Contains(shown, "user_data: user.sh") {
		t.Errorf("the configuration is answered %d: %s", code, shown)
	}
	if code, _ := ask(http.MethodGet, "/api/v1/status/config", canary("alerts")); code != http.StatusForbidden {
		t.Errorf("the configuration is answered %d to a sender of alerts", code)
	}
	file := filepath.Join(dir, "scalehook.yml")
	if out := run("check-config", file); !strings.Contains(out, "clouds.yaml") && !strings.Contains(out, "401") {
		t.Errorf("check-config asked nobody: %s", out)
	}
	run("doctor", "--config.file", file, "--url", "http://"+address, "--token-file", filepath.Join(dir, "ops.token"), "--timeout", "10s")
	run("groups", "--url", "http://u:"+canary("url")+"@"+dead)
	run("groups", "--url", "ftp://u:p@"+canary("url")+"@"+dead)
	run("groups", "--url", "http://u:"+canary("url")+"@%zz")

	// What is malformed: the reason is told, the secret is not.
	for name, change := range map[string]func(){
		"a word where authorization belongs": func() {
			write("scalehook.yml", strings.Replace(secretConfig, "{authorization: {credentials: CANARYcredentials0123456789abcdef}}", "{authorization: CANARYword0123456789abcdef}", 1))
		},
		"a list where a password belongs": func() {
			write("scalehook.yml", strings.Replace(secretConfig, "password: CANARYbasic0123456789abcdef", "password: [CANARYlist0123456789abcdef]", 1))
		},
		"a word where a password's section belongs": func() {
			write("scalehook.yml", strings.Replace(secretConfig, "{username: u, password: CANARYbasic0123456789abcdef}", "CANARYsection0123456789abcdef", 1))
		},
		"a token in the place of its section": func() {
			write("scalehook.yml", strings.Replace(secretConfig, "{name: ops, role: operator, file: ops.token}", "CANARYtoken0123456789abcdef", 1))
		},
		"a token in the place of its file's key": func() {
			write("scalehook.yml", strings.Replace(secretConfig, "file: ops.token", "token: CANARYtoken0123456789abcdef", 1))
		},
		"a password in the URL of Prometheus": func() {
			write("scalehook.yml", strings.Replace(secretConfig, "url: http://DENY/\n", "url: http://u:CANARYurl0123456789abcdef@DENY/?a=b\n", 1))
		},
		"a password in a broken URL of Prometheus": func() {
			write("scalehook.yml", strings.Replace(secretConfig, "url: http://DENY/\n", "url: \"http://u:p@CANARYurl0123456789abcdef@%zz/\"\n", 1))
		},
		"a password in the URL of Alertmanager": func() {
			write("scalehook.yml", strings.Replace(secretConfig, "- url: http://DENY\n", "- url: http://u:CANARYurl0123456789abcdef@DENY/?a=b\n", 1))
		},
		"a password in the URL of a webhook": func() {
			write("scalehook.yml", strings.Replace(secretConfig, "url: http://DENY/services", "url: http://u:CANARYurl0123456789abcdef@DENY/services", 1))
		},
		"a password in a proxy's broken URL": func() {
			write("scalehook.yml", strings.Replace(secretConfig, "abcdef@DEAD", "abcdef@%zz", 1))
		},
		"a password in a service's URL": func() {
			write("scalehook.yml", strings.Replace(secretConfig, "{cloud: one,", `{endpoints: {compute: "ftp://u:p@CANARYurl0123456789abcdef@DEAD"}, cloud: one,`, 1))
		},
		"broken YAML": func() { write("scalehook.yml", secretConfig+"\n  x: CANARYsyntax0123456789abcdef: [\n") },
		"a password of the wrong type in clouds.yaml": func() {
			write("clouds.yaml", strings.Replace(clouds, "password: "+canary("password"), "password: ["+canary("password")+"]", 1))
		},
		"a word where clouds.yaml has a login": func() { write("clouds.yaml", "clouds: {one: "+canary("cloud")+", two: "+canary("cloud")+"}\n") },
		"a broken clouds.yaml":                 func() { write("clouds.yaml", clouds+"\n  x: "+canary("syntax")+": [\n") },
		"user data with an unknown field":      func() { write("user.sh", "echo "+canary("userdata")+" {{.Secret}}\n") },
		"user data with a broken template":     func() { write("user.sh", "echo "+canary("userdata")+" {{.Name\n") },
		"a token file with a space":            func() { write("ops.token", canary("ops")+" "+canary("ops")+"\n") },
		"a signature's key over many lines":    func() { write("hook.secret", canary("hook")+"\n"+strings.Repeat(canary("hook"), 400)) },
		"an rc file with a broken line": func() {
			write("rc", "export OS_PASSWORD="+canary("rc")+"\nexport OS_USERNAME='"+canary("rc")+"\nOS_AUTH_URL $("+canary("rc")+")\n")
			write("scalehook.yml", strings.Replace(secretConfig, "{cloud: one, clouds_file: clouds.yaml,", "{rc_file: rc,", 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			change()
			out := run("check-config", file)
			code, answer := ask(http.MethodPost, "/-/reload", canary("ops"))
			if code == http.StatusOK && !strings.Contains(out, "rror") && !strings.Contains(name, "many lines") {
				t.Logf("taken as it is: %s\n%s", answer, out)
			}
			for name, text := range map[string]string{"clouds.yaml": clouds, "user.sh": "#!/bin/sh\n", "ops.token": canary("ops") + "\n", "hook.secret": canary("hook"), "scalehook.yml": secretConfig} {
				write(name, text)
			}
		})
	}
	trail, err := os.ReadFile(flags.auditFile)
	if err != nil {
		t.Fatal(err)
	}
	sealed(t, "the audit log", string(trail))
	for _, name := range []string{"cmdline", "environ"} {
		own, err := os.ReadFile("/proc/self/" + name)
		if err != nil {
			t.Fatal(err)
		}
		sealed(t, "/proc/self/"+name, string(own))
	}
	stored, err := filepath.Glob(filepath.Join(flags.storagePath, "*"))
	if err != nil || len(stored) < 2 {
		t.Fatalf("the store has %v, %v", stored, err)
	}
	for _, file := range stored {
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sealed(t, file, string(data))
	}
}
