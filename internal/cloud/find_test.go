package cloud

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/scaling"
)

// serve answers listings of a kind: those whose name or id is asked for, or all.
func (f *fake) serve(path, kind string, objects ...map[string]any) {
	f.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		found := []any{}
		for _, o := range objects {
			q := r.URL.Query()
			if (q.Get("name") == "" || q.Get("name") == o["name"]) && (q.Get("id") == "" || q.Get("id") == o["id"]) {
				found = append(found, o)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{kind: found})
	})
}

const (
	netA = "aaaaaaaa-0000-4000-8000-000000000001"
	netB = "bbbbbbbb-0000-4000-8000-000000000002"
	netC = "cccccccc-0000-4000-8000-000000000003"
	netD = "dddddddd-0000-4000-8000-000000000004"
)

func TestWhatANameStandsFor(t *testing.T) {
	f := newFake(t, false)
	network := func(id, name, project string) map[string]any {
		return map[string]any{"id": id, "name": name, "project_id": project}
	}
	f.serve("/neutron/v2.0/networks", "networks",
		network(netA, "lab-net", "p1"), network(netB, "lab-net", "another"), network(netC, "twice", "p1"), network(netD, "twice", "p1"))
	c, _ := f.open(t, Config{Endpoints: map[string]string{Network: f.URL + "/neutron"}}, "")
	for _, k := range []struct {
		name, asked, id, says string
	}{
		{"our own comes before one that another project shares", "lab-net", netA, ""},
		{"an id names that of another project", netB, netB, ""},
		{"two of our own", "twice", "", "is ambiguous: 2 are called that; state the id of one instead: " + netC + ", " + netD},
		{"one of two by its id", netD, netD, ""},
		{"none", "lab-nett", "", `network "lab-nett" does not exist; did you mean "lab-net"?`},
		{"an id that nothing has", "eeeeeeee-0000-4000-8000-000000000005", "", "does not exist"},
	} {
		t.Run(k.name, func(t *testing.T) {
			n, err := c.FindNetwork(t.Context(), k.asked)
			if k.says == "" {
				if err != nil || n.ID != k.id {
					t.Errorf("%q, %v; want %s", n.ID, err, k.id)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), k.says) || scaling.ClassOf(err) != scaling.Permanent {
				t.Errorf("%v; want %q", err, k.says)
			}
		})
	}
}

func TestTheNewestImageThatFits(t *testing.T) {
	f := newFake(t, false)
	image := func(id, name, status, made, version string) map[string]any {
		return map[string]any{"id": id, "name": name, "status": status, "created_at": made, "os_version": version}
	}
	f.serve("/glance/v2/images", "images",
		image(netA, "cirros", "active", "2026-01-01T00:00:00Z", "0.5"),
		image(netB, "cirros", "active", "2026-03-01T00:00:00Z", "0.6"),
		image(netC, "cirros", "saving", "2026-04-01T00:00:00Z", "0.6"),
		image(netD, "new", "queued", "2026-04-01T00:00:00Z", "7"),
		image("e", "dead", "killed", "2026-04-01T00:00:00Z", "8"))
	c, _ := f.open(t, Config{Endpoints: map[string]string{Image: f.URL + "/glance"}}, "")
	for _, k := range []struct {
		name  string
		query ImageQuery
		id    string
		class scaling.Class
	}{
		{"the newest that can be used", ImageQuery{Name: "cirros"}, netB, 0},
		{"by a property that the service does not filter by", ImageQuery{Name: "cirros", Properties: map[string]string{"os_version": "0.5"}}, netA, 0},
		{"by a property alone", ImageQuery{Properties: map[string]string{"os_version": "0.6"}}, netB, 0},
		{"one that is being made", ImageQuery{Name: "new"}, "", scaling.Temporary},
		{"one that could not be made", ImageQuery{Name: "dead"}, "", scaling.Permanent},
		{"none", ImageQuery{Name: "cirrus"}, "", scaling.Permanent},
	} {
		t.Run(k.name, func(t *testing.T) {
			i, err := c.FindImage(t.Context(), k.query)
			if i.ID != k.id || k.id == "" && scaling.ClassOf(err) != k.class {
				t.Errorf("%q, %v (%s)", i.ID, err, scaling.ClassOf(err))
			}
		})
	}
}
