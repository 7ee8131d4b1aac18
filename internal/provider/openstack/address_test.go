package openstack

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

// neutron has ports and one floating IP, and notes every request that changes
// something, as "METHOD path body". The first of answers, if there are any, is what
// the next one is refused with.
type neutron struct {
	ports   []map[string]any
	address map[string]any

	mu      sync.Mutex
	written []string
	answers []int
}

// before makes it answer in place of the fake's.
func (n *neutron) before(f *fake) {
	inner := f.Config.Handler
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path, ok := strings.CutPrefix(r.URL.Path, "/neutron/v2.0/")
		if !ok {
			inner.ServeHTTP(w, r)
			return
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if r.Method != http.MethodGet {
			n.write(w, r, path)
			return
		}
		n.read(w, r, path)
	})
}

func (n *neutron) read(w http.ResponseWriter, r *http.Request, path string) {
	id, single := strings.CutPrefix(path, "ports/")
	device := r.URL.Query().Get("device_id")
	found := slices.DeleteFunc(slices.Clone(n.ports), func(p map[string]any) bool {
		return single && p["id"] != id || device != "" && p["device_id"] != device
	})
	switch {
	case path == "ports":
		answer(w, map[string]any{"ports": found})
	case path == "floatingips":
		answer(w, map[string]any{"floatingips": []any{n.address}})
	case single && len(found) == 1:
		answer(w, map[string]any{"port": found[0]})
	default:
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintf(w, `{"NeutronError": {"message": "%s could not be found."}}`, path)
	}
}

// write is refused, or changes the floating IP, which leads nowhere after an update
// that does not say where.
func (n *neutron) write(w http.ResponseWriter, r *http.Request, path string) {
	body, _ := io.ReadAll(r.Body)
	n.written = append(n.written, fmt.Sprintf("%s %s %s", r.Method, path, body))
	if len(n.answers) > 0 {
		w.WriteHeader(n.answers[0])
		fmt.Fprintf(w, `{"NeutronError": {"message": "refused with %d"}}`, n.answers[0])
		n.answers = n.answers[1:]
		return
	}
	var update struct{ FloatingIP map[string]any }
	if err := json.Unmarshal(body, &update); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	n.address["port_id"] = nil
	maps.Copy(n.address, update.FloatingIP)
	answer(w, map[string]any{"floatingip": n.address})
}

// take returns what was written since the last take.
func (n *neutron) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	written := n.written
	n.written = nil
	return written
}

// TestTheAddressMovesByOneUpdateOfItsPort: at no time does the address lead nowhere
// because of us. An update without a port, or with none, would be such a time.
func TestTheAddressMovesByOneUpdateOfItsPort(t *testing.T) {
	const there = "203.0.113.2"
	tags := cloud.Tags("lab", "web", "")
	port := func(id, device string) map[string]any {
		return map[string]any{"id": id, "name": id, "device_id": device, "device_owner": "compute:nova", "fixed_ips": []map[string]any{{"ip_address": "10.0.0.5"}}}
	}
	for name, c := range map[string]struct {
		from    string // the port that it leads to before
		ports   []map[string]any
		servers bool  // the one that it leads to before is there
		answers []int // with which the first calls are refused
		classes []scaling.Class
	}{
		"from a server that runs":             {from: "p1", ports: []map[string]any{port("p1", uuid1)}, servers: true},
		"from a server that is gone":          {from: "p1", ports: []map[string]any{port("p1", uuid1)}},
		"from a port that is gone as well":    {from: "p1"},
		"from nowhere":                        {},
		"again after 409":                     {from: "p1", ports: []map[string]any{port("p1", uuid1)}, servers: true, answers: []int{409}, classes: []scaling.Class{scaling.Conflict}},
		"again after 503":                     {from: "p1", ports: []map[string]any{port("p1", uuid1)}, servers: true, answers: []int{503}, classes: []scaling.Class{scaling.Temporary}},
		"again after 500 and 504, without it": {from: "p1", ports: []map[string]any{port("p1", uuid1)}, answers: []int{500, 504}, classes: []scaling.Class{scaling.Temporary, scaling.Unknown}},
	} {
		for _, configured := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, configured %v", name, configured), func(t *testing.T) {
				f := newFake(t)
				if c.servers {
					f.add(uuid1, "web-1", marked(id1, uuid1), nil)
				}
				f.add(uuid2, "web-2", marked(id2, uuid2), nil)
				n := &neutron{
					ports:   append(slices.Clone(c.ports), port("p2", uuid2)),
					address: map[string]any{"id": "f1", "floating_ip_address": there, "project_id": "p"},
					answers: c.answers,
				}
				if !configured {
					n.address["description"], n.address["tags"] = "made by scalehook for lab group web", tags
				}
				if c.from != "" {
					n.address["port_id"] = c.from
				}
				n.before(f)
				p := f.provider(t)
				web := DefaultTemplate()
				web.Flavor, web.Image, web.Networks, web.PublicAddress = "m1.tiny", "cirros", []Interface{{Network: "lab-net"}}, &PublicAddress{}
				if configured {
					web.PublicAddress.Address = there
				}
				if err := p.SetTemplates(map[string]Template{"web": web}); err != nil {
					t.Fatal(err)
				}
				ref := scaling.Ref{ID: id2, Group: "web", Name: "web-2", UUID: uuid2}
				want := []string{`PUT floatingips/f1 {"floatingip":{"port_id":"p2"}}`}
				for _, class := range c.classes {
					if err := p.MoveAddress(t.Context(), ref); scaling.ClassOf(err) != class {
						t.Errorf("MoveAddress that is refused: %v (%s), want %s", err, scaling.ClassOf(err), class)
					}
					if diff := cmp.Diff(want, n.take()); diff != "" {
						t.Errorf("a move that is refused (-want +got)\n%s", diff)
					}
					if n.address["port_id"] != c.from {
						t.Errorf("refused, the address leads to %v, want %s", n.address["port_id"], c.from)
					}
				}
				if err := p.MoveAddress(t.Context(), ref); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, n.take()); diff != "" {
					t.Errorf("a move (-want +got)\n%s", diff)
				}
				// Where it is to lead already, nothing is written.
				if err := p.MoveAddress(t.Context(), ref); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff([]string(nil), n.take()); diff != "" {
					t.Errorf("a move to where it leads (-want +got)\n%s", diff)
				}
			})
		}
	}
}
