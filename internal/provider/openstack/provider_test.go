package openstack

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/cloud"
	"github.com/scalehook/scalehook/internal/scaling"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func marked(id, uuid string) []string {
	return cloud.Mark{Owner: "lab", Group: "web", ID: id, UUID: uuid}.Tags()
}

func TestAListingThatLacksAServerIsAnError(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(f *fake)
		want   string
	}{
		{"a cell is down, and says so", func(f *fake) { f.servers[0]["status"] = "UNKNOWN" }, "of unknown state"},
		{"a cell is down, and its servers are left out", func(f *fake) {
			f.hidden = []string{uuid1}
			f.servers[0]["status"] = "UNKNOWN"
			delete(f.servers[0], "tags")
		}, "of unknown state"},
		{"a server is left out for no reason", func(f *fake) { f.hidden = []string{uuid1} }, "exists and was not listed"},
		{"a server is gone", func(f *fake) { f.servers = f.servers[1:] }, ""},
		{"a server is not ours any more", func(f *fake) { f.servers[0]["tags"] = []string{} }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			f.add(uuid1, "web-1", marked(id1, uuid1), nil)
			f.add(uuid2, "web-2", marked(id2, uuid2), nil)
			p := f.provider(t)
			if all, err := p.List(t.Context()); err != nil || len(all) != 2 {
				t.Fatalf("List() = %+v, %v", all, err)
			}
			f.mu.Lock()
			c.change(f)
			f.mu.Unlock()
			all, err := p.List(t.Context())
			if c.want == "" {
				if err != nil || len(all) != 1 {
					t.Errorf("List() = %+v, %v", all, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || scaling.ClassOf(err) != scaling.Temporary {
				t.Errorf("List() = %+v, %v; want %q", all, err, c.want)
			}
			// Neither does the first listing of a process forget it.
			if c.name == "a cell is down, and its servers are left out" {
				if all, err := f.provider(t).List(t.Context()); err == nil {
					t.Errorf("the first List() = %+v", all)
				}
			}
		})
	}
}

func TestASecondServerOfAnInstanceIsDroppedOrLeftAlone(t *testing.T) {
	ours := map[string]any{"metadata": map[string]string{metadataID: id1}, "created": "2026-11-22T09:00:05Z"}
	f := newFake(t)
	f.add(uuid1, "web-1", cloud.Tags("lab", "web", id1), map[string]any{"metadata": map[string]string{metadataID: id1}})
	f.add(uuid2, "web-1", cloud.Tags("lab", "web", id1), ours)
	const copied = "cccccccc-0000-4000-8000-000000000003"
	f.add(copied, "web-1", cloud.Tags("lab", "web", id1), map[string]any{"created": "2026-11-22T09:00:09Z"})
	p := f.provider(t)
	vm, err := p.Create(t.Context(), scaling.LaunchSpec{ID: id1, Group: "web", Name: "web-1", Number: 1})
	if err != nil || vm.UUID != uuid1 {
		t.Fatalf("Create() = %+v, %v; want the oldest", vm, err)
	}
	if diff := cmp.Diff([]string{"tag " + uuid1, "delete " + uuid2}, f.calls); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if all, err := p.List(t.Context()); err != nil || len(all) != 1 || all[0].UUID != uuid1 {
		t.Errorf("List() = %+v, %v; want the one that names itself", all, err)
	}
	if err := p.Delete(t.Context(), scaling.Ref{ID: id1, Group: "web", Name: "web-1", UUID: uuid1}); err != nil {
		t.Error(err)
	}
	if !slices.Contains(f.calls, "delete "+uuid1) || slices.Contains(f.calls, "delete "+copied) {
		t.Errorf("want the server deleted, and the one with copied tags left alone: %q", f.calls)
	}
}

func TestADeletionWaitsForTheVolumesThatGoWithTheServer(t *testing.T) {
	f := newFake(t)
	f.add(uuid1, "web-1", marked(id1, uuid1), map[string]any{"os-extended-volumes:volumes_attached": []any{
		map[string]any{"id": "boot", "delete_on_termination": true},
		map[string]any{"id": "data", "delete_on_termination": false},
	}})
	f.volumes["boot"] = "in-use deleting"
	f.volumes["data"] = "available available available"
	p := f.provider(t)
	if err := p.Delete(t.Context(), scaling.Ref{ID: id1, Group: "web", Name: "web-1", UUID: uuid1}); err != nil {
		t.Fatal(err)
	}
	if f.volumes["boot"] != "" || len(strings.Fields(f.volumes["data"])) != 3 {
		t.Errorf("volumes: %q", f.volumes)
	}

	f.add(uuid2, "web-2", marked(id2, uuid2), map[string]any{"os-extended-volumes:volumes_attached": []any{
		map[string]any{"id": "stuck", "delete_on_termination": true},
	}})
	f.volumes["stuck"] = "error_deleting"
	err := p.Delete(t.Context(), scaling.Ref{ID: id2, Group: "web", Name: "web-2", UUID: uuid2})
	if scaling.ClassOf(err) != scaling.Permanent {
		t.Errorf("a volume that stays: %v (%s)", err, scaling.ClassOf(err))
	}
}

func TestALockIsWaitedForNoLongerThanTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := keyedLock{held: map[string]chan struct{}{}}
		_, unlock, err := l.lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := l.lock(soon, "a"); scaling.ClassOf(err) != scaling.Temporary {
			t.Error(err)
		}
		_, other, err := l.lock(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		other()
		unlock()
		_, again, err := l.lock(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		again()
	})
}

func TestARequestThatNobodyWaitsForKeepsTheNextOneWaiting(t *testing.T) {
	f := newFake(t)
	f.hold = make(chan struct{})
	f.add(uuid1, "web-1", marked(id1, uuid1), nil)
	p := f.provider(t)
	ref := scaling.Ref{ID: id1, Group: "web", Name: "web-1", UUID: uuid1}
	if _, err := p.Get(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := p.Delete(soon, ref); scaling.ClassOf(err) != scaling.Unknown || !scaling.Interrupted(err) {
		t.Errorf("a deletion that is not answered in time: %v (%s)", err, scaling.ClassOf(err))
	}
	later, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Delete(later, ref); scaling.ClassOf(err) != scaling.Temporary {
		t.Errorf("while it is under way: %v (%s)", err, scaling.ClassOf(err))
	}
	close(f.hold)
	if err := p.Delete(t.Context(), ref); err != nil {
		t.Error(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if diff := cmp.Diff([]string{"delete " + uuid1}, f.calls); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestAnOldSnapshotGoesWithTheVolumesSnapshotsItIsMadeOf(t *testing.T) {
	f := newFake(t)
	snapshot := func(id, made, server string, more map[string]any) {
		image := map[string]any{
			"id": id, "name": id, "status": "active", "created_at": made, propertyOwner: "lab", propertyGroup: "web", propertyName: id,
			propertyServer: uuid1, propertyMadeFrom: server, "owner": "p",
		}
		maps.Copy(image, more)
		f.images = append(f.images, image)
	}
	snapshot("old", "2026-11-01T00:00:00Z", uuid1, map[string]any{"block_device_mapping": `[{"snapshot_id": "disk", "boot_index": 0}, {"snapshot_id": null}]`})
	snapshot("theirs", "2026-11-02T00:00:00Z", uuid2, nil) // of a server that was made from one of ours
	snapshot("another group's", "2026-11-02T00:00:00Z", uuid1, map[string]any{propertyGroup: "api"})
	snapshot("another project's", "2026-11-02T00:00:00Z", uuid1, map[string]any{"owner": "q"}) // as an administrator sees it
	snapshot("being written", "2026-11-02T00:00:00Z", uuid1, map[string]any{"status": "saving"})
	snapshot("new", "2026-11-03T00:00:00Z", uuid1, nil)
	p := f.provider(t)
	if err := p.PruneSnapshots(t.Context(), "web", 1, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"delete volume snapshot disk", "delete image old"}, f.calls); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
