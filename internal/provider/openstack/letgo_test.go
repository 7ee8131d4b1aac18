package openstack

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

func TestWhatIsLetGoKeepsAllThatItHasAndNoMark(t *testing.T) {
	const text, groupText = "made by scalehook for lab " + id1, "made by scalehook for lab group web"
	f := newFake(t)
	f.add(uuid1, "web-1", append(marked(id1, uuid1), "mine=yes"), map[string]any{"metadata": map[string]string{metadataID: id1, "note": "keep"}})
	f.add(uuid2, "web-2", marked(id2, uuid2), nil)
	tags := cloud.Tags("lab", "web", id1)
	f.parts["ports"] = []map[string]any{
		{"id": "p1", "name": "web-1-port0", "device_id": uuid1, "description": text, "tags": append(slices.Clone(tags), "colour=blue")},
		// A person wrote what it is for: that is not ours to take.
		{"id": "p2", "name": "web-1-port1", "device_id": uuid1, "description": "back end", "tags": slices.Clone(tags)},
		{"id": "p3", "name": "web-2-port0", "device_id": uuid2, "description": "made by scalehook for lab " + id2, "tags": cloud.Tags("lab", "web", id2)},
	}
	f.parts["floatingips"] = []map[string]any{
		{"id": "f1", "floating_ip_address": "203.0.113.1", "port_id": "p1", "fixed_ip_address": "10.0.0.6", "description": text, "tags": slices.Clone(tags)},
		{"id": "f2", "floating_ip_address": "203.0.113.2", "port_id": "p2", "fixed_ip_address": "10.0.0.7", "description": groupText, "tags": cloud.Tags("lab", "web", "")},
		{"id": "f3", "floating_ip_address": "203.0.113.3", "port_id": "p3", "fixed_ip_address": "10.0.0.8", "description": groupText, "tags": cloud.Tags("lab", "web", "")},
	}
	p := f.provider(t)
	ref := scaling.Ref{ID: id1, Group: "web", Name: "web-1", UUID: uuid1}

	// It fails at every change once, and each further call goes on.
	for _, refuse := range []string{"update f1", "retag f1", "update f2", "retag f2", "update p1", "retag p1", "retag p2", "metadata " + uuid1, "retag " + uuid1} {
		f.refuse = refuse
		if err := p.LetGo(t.Context(), ref); err == nil {
			t.Fatalf("%s: no error", refuse)
		}
		if all, err := p.List(t.Context()); err != nil || len(all) != 2 {
			t.Fatalf("after %s failed: listed %+v, %v; want it to be listed until all is done", refuse, all, err)
		}
	}
	f.refuse = ""
	for range 2 {
		if err := p.LetGo(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	if all, err := p.List(t.Context()); err != nil || len(all) != 1 || all[0].ID != id2 {
		t.Errorf("listed %+v, %v", all, err)
	}
	if left, err := p.Leftovers(t.Context()); err != nil || slices.ContainsFunc(left, func(l scaling.Leftover) bool { return l.Kind == scaling.KindParts }) {
		t.Errorf("what is left: %+v, %v", left, err)
	}
	if i := slices.IndexFunc(f.calls, func(c string) bool { return strings.HasPrefix(c, "delete") }); i >= 0 {
		t.Errorf("deleted: %q", f.calls)
	}
	want := []map[string]any{
		{"id": "p1", "name": "web-1-port0", "device_id": uuid1, "description": "", "tags": []string{"colour=blue"}},
		{"id": "p2", "name": "web-1-port1", "device_id": uuid1, "description": "back end", "tags": []string{}},
		{"id": "p3", "name": "web-2-port0", "device_id": uuid2, "description": "made by scalehook for lab " + id2, "tags": cloud.Tags("lab", "web", id2)},
		{"id": "f1", "floating_ip_address": "203.0.113.1", "port_id": "p1", "fixed_ip_address": "10.0.0.6", "description": "", "tags": []string{}},
		{"id": "f2", "floating_ip_address": "203.0.113.2", "port_id": "p2", "fixed_ip_address": "10.0.0.7", "description": "", "tags": []string{}},
		{"id": "f3", "floating_ip_address": "203.0.113.3", "port_id": "p3", "fixed_ip_address": "10.0.0.8", "description": groupText, "tags": cloud.Tags("lab", "web", "")},
	}
	if diff := cmp.Diff(want, append(slices.Clone(f.parts["ports"]), f.parts["floatingips"]...)); diff != "" {
		t.Errorf("ports and floating IPs (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"mine=yes"}, f.servers[0]["tags"]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]string{"note": "keep"}, f.servers[0]["metadata"]); diff != "" {
		t.Error(diff)
	}
}
