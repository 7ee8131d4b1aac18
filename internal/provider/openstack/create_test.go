package openstack

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/scaling"
)

// TestWhatIsAskedOfNovaForABootVolume: a cloud with volumes is not in the lab, so that
// the request is all that can be shown.
func TestWhatIsAskedOfNovaForABootVolume(t *testing.T) {
	f := newFake(t)
	inner := f.Config.Handler
	f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/nova/v2.1/flavors") {
			answer(w, map[string]any{"flavors": []any{map[string]any{"id": "f-1", "name": "m1.tiny"}}})
			return
		}
		inner.ServeHTTP(w, r)
	})
	f.images = []map[string]any{{"id": "i-1", "name": "cirros", "status": "active"}}
	p := f.provider(t)
	spec := scaling.LaunchSpec{ID: id1, Group: "web", Name: "web-1", Number: 1}
	for name, c := range map[string]struct {
		volume *Volume
		image  any
		device any
	}{
		"none":           {nil, "i-1", nil},
		"of a size":      {&Volume{SizeGiB: 10}, "", map[string]any{"source_type": "image", "uuid": "i-1", "destination_type": "volume", "boot_index": 0.0, "volume_size": 10.0, "delete_on_termination": true}},
		"of a type, too": {&Volume{SizeGiB: 4, Type: "ssd"}, "", map[string]any{"source_type": "image", "uuid": "i-1", "destination_type": "volume", "boot_index": 0.0, "volume_size": 4.0, "volume_type": "ssd", "delete_on_termination": true}},
	} {
		web := DefaultTemplate()
		web.Flavor, web.Image, web.Networks, web.Volume = "m1.tiny", "cirros", []Interface{{Network: "lab-net"}}, c.volume
		opts, _, err := p.order(t.Context(), spec, web)
		if err != nil {
			t.Fatal(err)
		}
		body, err := opts.ToServerCreateMap()
		if err != nil {
			t.Fatal(err)
		}
		server := body["server"].(map[string]any)
		var device any
		if all, ok := server["block_device_mapping_v2"].([]any); ok && len(all) == 1 {
			device = all[0]
		}
		if diff := cmp.Diff(map[string]any{"image": c.image, "device": c.device}, map[string]any{"image": server["imageRef"], "device": device}); diff != "" {
			t.Errorf("%s (-want +got)\n%s", name, diff)
		}
	}
}
