package openstack

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/scalehook/scalehook/internal/cloud"
)

// fake is a cloud in memory for what the lab cannot be brought to: cells that are
// down, volumes, lost calls that made a second server. Everything else is tested at
// the lab.
type fake struct {
	*httptest.Server
	mu      sync.Mutex
	servers []map[string]any
	hidden  []string // servers that no listing by tags has
	volumes map[string]string
	calls   []string // those that change something
	images  []map[string]any
	parts   map[string][]map[string]any // ports and floating IPs
	refuse  string                      // the call, as calls has it, that fails
	hold    chan struct{}               // deletions wait for it, if there is one
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{volumes: map[string]string{}, parts: map[string][]map[string]any{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v3/auth/tokens", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Subject-Token", "token")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		json.NewEncoder(w).Encode(map[string]any{"token": map[string]any{"project": map[string]any{"id": "p", "name": "demo"}, "catalog": []any{}}})
	})
	mux.HandleFunc("GET /nova/v2.1/servers", func(w http.ResponseWriter, r *http.Request) { f.list(w, r) })
	mux.HandleFunc("GET /nova/v2.1/servers/detail", func(w http.ResponseWriter, r *http.Request) { f.list(w, r) })
	mux.HandleFunc("GET /nova/v2.1/servers/{id}", f.show)
	mux.HandleFunc("DELETE /nova/v2.1/servers/{id}", f.remove)
	mux.HandleFunc("PUT /nova/v2.1/servers/{id}/tags/{tag}", f.tag)
	mux.HandleFunc("PUT /nova/v2.1/servers/{id}/tags", func(w http.ResponseWriter, r *http.Request) { f.retag(w, r, f.servers) })
	mux.HandleFunc("DELETE /nova/v2.1/servers/{id}/metadata/{key}", f.dropMetadata)
	mux.HandleFunc("GET /cinder/v3/volumes/{id}", f.volume)
	mux.HandleFunc("DELETE /cinder/v3/snapshots/{id}", func(w http.ResponseWriter, r *http.Request) { f.drop(w, "volume snapshot "+r.PathValue("id"), 202) })
	mux.HandleFunc("GET /glance/v2/images", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]any{"images": f.images}) })
	mux.HandleFunc("DELETE /glance/v2/images/{id}", func(w http.ResponseWriter, r *http.Request) { f.drop(w, "image "+r.PathValue("id"), 204) })
	for _, kind := range []string{"ports", "floatingips"} {
		mux.HandleFunc("GET /neutron/v2.0/"+kind, func(w http.ResponseWriter, r *http.Request) { f.listParts(w, r, kind) })
		mux.HandleFunc("PUT /neutron/v2.0/"+kind+"/{id}", func(w http.ResponseWriter, r *http.Request) { f.update(w, r, kind) })
		mux.HandleFunc("PUT /neutron/v2.0/"+kind+"/{id}/tags", func(w http.ResponseWriter, r *http.Request) { f.retag(w, r, f.parts[kind]) })
	}
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func (f *fake) provider(t *testing.T) *Provider {
	t.Helper()
	file := filepath.Join(t.TempDir(), "clouds.yaml")
	text := fmt.Sprintf("clouds: {c: {auth: {auth_url: %s/v3, username: u, password: p, project_name: demo}}}\n", f.URL)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := Config{Config: cloud.Config{Cloud: "c", CloudsFile: file, Endpoints: map[string]string{
		cloud.Compute: f.URL + "/nova/v2.1", cloud.Network: f.URL + "/neutron", cloud.BlockStorage: f.URL + "/cinder/v3", cloud.Image: f.URL + "/glance",
	}}}
	web := DefaultTemplate()
	web.Flavor, web.Image, web.Networks = "m1.tiny", "cirros", []Interface{{Network: "lab-net"}}
	p, err := New(cfg, "lab", map[string]Template{"web": web}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// add puts a server there.
func (f *fake) add(uuid, name string, tags []string, more map[string]any) {
	s := map[string]any{
		"id": uuid, "name": name, "status": "ACTIVE", "OS-EXT-STS:power_state": 1, "tags": tags, "created": "2026-11-22T09:00:00Z",
		"addresses": map[string]any{"lab-net": []any{map[string]any{"addr": "10.0.0.5", "OS-EXT-IPS:type": "fixed"}}},
	}
	maps.Copy(s, more)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.servers = append(f.servers, s)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func (f *fake) list(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := []any{}
	for _, s := range f.servers {
		have, _ := s["tags"].([]string)
		fits := true
		if want := r.URL.Query().Get("tags"); want != "" {
			fits = !slices.Contains(f.hidden, s["id"].(string))
			for tag := range strings.SplitSeq(want, ",") {
				fits = fits && slices.Contains(have, tag)
			}
		}
		if name := r.URL.Query().Get("name"); name != "" {
			fits = fits && name == "^"+s["name"].(string)+"$"
		}
		if fits {
			found = append(found, s)
		}
	}
	answer(w, map[string]any{"servers": found})
}

func (f *fake) find(w http.ResponseWriter, id string) map[string]any {
	for _, s := range f.servers {
		if s["id"] == id {
			return s
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	fmt.Fprintf(w, `{"itemNotFound": {"code": 404, "message": "Instance %s could not be found."}}`, id)
	return nil
}

func (f *fake) show(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.find(w, r.PathValue("id")); s != nil {
		answer(w, map[string]any{"server": s})
	}
}

func (f *fake) remove(w http.ResponseWriter, r *http.Request) {
	if f.hold != nil {
		<-f.hold
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, "delete "+r.PathValue("id"))
	if f.find(w, r.PathValue("id")) != nil {
		f.servers = slices.DeleteFunc(f.servers, func(s map[string]any) bool { return s["id"] == r.PathValue("id") })
		w.WriteHeader(http.StatusNoContent)
	}
}

// drop notes that something is deleted.
func (f *fake) drop(w http.ResponseWriter, what string, status int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, "delete "+what)
	w.WriteHeader(status)
}

func (f *fake) tag(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, "tag "+r.PathValue("id"))
	if s := f.find(w, r.PathValue("id")); s != nil {
		s["tags"] = append(s["tags"].([]string), r.PathValue("tag"))
		w.WriteHeader(http.StatusCreated)
	}
}

// volume answers once for each word that is put for its state, and then it is gone.
func (f *fake) volume(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	states := strings.Fields(f.volumes[r.PathValue("id")])
	if len(states) == 0 {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"itemNotFound": {"code": 404, "message": "Volume could not be found."}}`)
		return
	}
	f.volumes[r.PathValue("id")] = strings.Join(states[1:], " ")
	answer(w, map[string]any{"volume": map[string]any{"id": r.PathValue("id"), "status": states[0]}})
}

// did notes a call that changes something, and answers it if it is to fail. The caller
// holds mu.
func (f *fake) did(w http.ResponseWriter, call string) bool {
	if f.refuse == call {
		w.WriteHeader(http.StatusServiceUnavailable)
		return false
	}
	f.calls = append(f.calls, call)
	return true
}

// listParts lists by description, tags and device, as Neutron does.
func (f *fake) listParts(w http.ResponseWriter, r *http.Request, kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := []any{}
	q := r.URL.Query()
	for _, p := range f.parts[kind] {
		have, _ := p["tags"].([]string)
		fits := (q.Get("description") == "" || q.Get("description") == p["description"]) && (q.Get("device_id") == "" || q.Get("device_id") == p["device_id"])
		if q.Get("tags") != "" {
			for tag := range strings.SplitSeq(q.Get("tags"), ",") {
				fits = fits && slices.Contains(have, tag)
			}
		}
		if fits {
			found = append(found, p)
		}
	}
	answer(w, map[string]any{kind: found})
}

// update changes a part. A floating IP leads nowhere after an update that does not say
// where, as Neutron has it.
func (f *fake) update(w http.ResponseWriter, r *http.Request, kind string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.did(w, "update "+r.PathValue("id")) {
		return
	}
	var body map[string]map[string]any
	json.NewDecoder(r.Body).Decode(&body)
	one := strings.TrimSuffix(kind, "s")
	for _, p := range f.parts[kind] {
		if p["id"] == r.PathValue("id") {
			if kind == "floatingips" {
				p["port_id"] = nil
			}
			maps.Copy(p, body[one])
			answer(w, map[string]any{one: p})
		}
	}
}

func (f *fake) retag(w http.ResponseWriter, r *http.Request, all []map[string]any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.did(w, "retag "+r.PathValue("id")) {
		return
	}
	var body struct{ Tags []string }
	json.NewDecoder(r.Body).Decode(&body)
	for _, p := range all {
		if p["id"] == r.PathValue("id") {
			p["tags"] = body.Tags
		}
	}
	answer(w, map[string]any{"tags": body.Tags})
}

func (f *fake) dropMetadata(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.did(w, "metadata "+r.PathValue("id")) {
		return
	}
	if s := f.find(w, r.PathValue("id")); s != nil {
		if m, ok := s["metadata"].(map[string]string); ok {
			delete(m, r.PathValue("key"))
		}
		w.WriteHeader(http.StatusNoContent)
	}
}
