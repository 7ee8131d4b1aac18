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
	hold    chan struct{} // deletions wait for it, if there is one
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{volumes: map[string]string{}}
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
	mux.HandleFunc("GET /cinder/v3/volumes/{id}", f.volume)
	mux.HandleFunc("DELETE /cinder/v3/snapshots/{id}", func(w http.ResponseWriter, r *http.Request) { f.drop(w, "volume snapshot "+r.PathValue("id"), 202) })
	mux.HandleFunc("GET /glance/v2/images", func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]any{"images": f.images}) })
	mux.HandleFunc("DELETE /glance/v2/images/{id}", func(w http.ResponseWriter, r *http.Request) { f.drop(w, "image "+r.PathValue("id"), 204) })
	for _, kind := range []string{"ports", "floatingips"} {
		mux.HandleFunc("GET /neutron/v2.0/"+kind, func(w http.ResponseWriter, _ *http.Request) { answer(w, map[string]any{kind: []any{}}) })
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
