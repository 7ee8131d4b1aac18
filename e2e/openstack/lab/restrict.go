package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Rule is an access rule of an application credential: a call that it allows.
type Rule struct {
	Service string `json:"service"`
	Method  string `json:"method"`
	Path    string `json:"path"`
}

func (r Rule) String() string { return r.Method + " " + r.Service + " " + r.Path }

// wild are the parts of a rule's path that stand for something.
var wild = regexp.MustCompile(`\{[^}]*\}|\*\*|\*`)

// allows reports whether the rule allows a call, as keystonemiddleware decides it.
func (r Rule) allows(call Rule) bool {
	if r.Service != call.Service || r.Method != call.Method {
		return false
	}
	var pattern strings.Builder
	rest := r.Path
	for at := wild.FindStringIndex(rest); at != nil; at = wild.FindStringIndex(rest) {
		pattern.WriteString(regexp.QuoteMeta(rest[:at[0]]))
		if rest[at[0]:at[1]] == "**" {
			pattern.WriteString(".*")
		} else {
			pattern.WriteString("[^/]+")
		}
		rest = rest[at[1]:]
	}
	pattern.WriteString(regexp.QuoteMeta(rest))
	return regexp.MustCompile("^" + pattern.String() + "$").MatchString(call.Path)
}

// ReadRules reads files of access rules.
func ReadRules(t testing.TB, files ...string) []Rule {
	t.Helper()
	var all []Rule
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var some []Rule
		if err := json.Unmarshal(raw, &some); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all = append(all, some...)
	}
	return all
}

// Restricted is an application credential of the member that allows what its rules
// say and nothing else, and a record of what was called with it.
type Restricted struct {
	// CloudsFile has the credential under the name Member.
	CloudsFile string
	// Endpoints lead to the services by way of the record.
	Endpoints map[string]string

	rules []Rule
	mu    sync.Mutex
	calls map[Rule]int // by the status of the last answer
}

// Restrict makes an application credential with the openstack command, which goes
// with the test.
func (c *Cloud) Restrict(t testing.TB, name string, rules []Rule, roles ...string) *Restricted {
	t.Helper()
	r := &Restricted{rules: rules, calls: map[Rule]int{}, Endpoints: map[string]string{}, CloudsFile: filepath.Join(t.TempDir(), "clouds.yaml")}
	file := filepath.Join(t.TempDir(), "rules.json")
	raw, err := json.Marshal(rules)
	if err == nil {
		err = os.WriteFile(file, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"application", "credential", "create", "--access-rules", file}
	for _, role := range roles {
		args = append(args, "--role", role)
	}
	// A run that was killed may have left it.
	c.Client(lasting(t), Member, "application", "credential", "delete", name)
	var made struct{ ID, Secret string }
	if err := json.Unmarshal(c.OpenStack(t, Member, append(args, name)...), &made); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := c.Client(context.WithoutCancel(t.Context()), Member, "application", "credential", "delete", name); err != nil {
			t.Error(err)
		}
	})
	text := fmt.Sprintf("clouds:\n  %s:\n    region_name: %s\n    auth_type: v3applicationcredential\n    auth: {auth_url: %q, application_credential_id: %s, application_credential_secret: %q}\n",
		Member, Region, AuthURL, made.ID, made.Secret)
	if err := os.WriteFile(r.CloudsFile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for service, at := range map[string]struct {
		port int
		path string
	}{"compute": {ports.Nova, "/v2.1"}, "network": {ports.Neutron, ""}, "image": {ports.Glance, ""}, "load-balancer": {ports.Octavia, ""}} {
		proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "127.0.0.1:" + strconv.Itoa(at.port)})
		proxy.ModifyResponse = func(answer *http.Response) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.calls[Rule{service, answer.Request.Method, answer.Request.URL.EscapedPath()}] = answer.StatusCode
			return nil
		}
		server := httptest.NewServer(proxy)
		t.Cleanup(server.Close)
		r.Endpoints[service] = server.URL + at.path
	}
	return r
}

// Refused lists the calls that a service turned away.
func (r *Restricted) Refused() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for call, status := range r.calls {
		if status == http.StatusUnauthorized {
			out = append(out, call.String())
		}
	}
	slices.Sort(out)
	return out
}

// Spare lists those of the rules without which every call would be allowed just as
// well.
func (r *Restricted) Spare(rules []Rule) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	needed := map[Rule]bool{}
	for call := range r.calls {
		var by []Rule
		for _, rule := range r.rules {
			if rule.allows(call) {
				by = append(by, rule)
			}
		}
		if len(by) == 1 {
			needed[by[0]] = true
		}
	}
	var out []string
	for _, rule := range rules {
		if !needed[rule] {
			out = append(out, rule.String())
		}
	}
	return out
}
