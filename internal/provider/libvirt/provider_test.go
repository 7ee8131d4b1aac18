package libvirt

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/scaling"
)

func volumeNames(t *testing.T, conn *libvirt.Connect) []string {
	t.Helper()
	pool, err := conn.LookupStoragePoolByName("images")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Free()
	names, err := pool.ListStorageVolumes()
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestProviderMakesFindsAndDeletesAVM(t *testing.T) {
	conn := testHost(t)
	p := testProvider(t, map[string]Template{"web": testTemplate()})
	ctx := testContext(t)
	spec := scaling.LaunchSpec{ID: idA, Group: "web", Name: "web-1", Number: 1}

	vm, err := p.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	if vm.ID != idA || vm.UUID != idA || vm.Group != "web" || vm.Name != "web-1" || vm.Power != scaling.PowerRunning || vm.CreatedAt.IsZero() {
		t.Errorf("created %+v", vm)
	}
	if _, err := p.Create(ctx, spec); err != nil {
		t.Errorf("create again: %v", err)
	}
	vms, err := p.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(vms) != 1 || vms[0].ID != idA {
		t.Errorf("listed %+v", vms)
	}
	ref := scaling.Ref{ID: idA}
	got, err := p.Get(ctx, ref)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(vms[0].Name, got.Name); diff != "" {
		t.Error(diff)
	}
	if err := p.Shutdown(ctx, ref, false); err != nil {
		t.Errorf("shut down: %v", err)
	}
	if got, err = p.Get(ctx, ref); err != nil || got.Power != scaling.PowerStopped {
		t.Errorf("after the shutdown: %+v, %v", got, err)
	}
	for range 2 {
		if err := p.Delete(ctx, ref); err != nil {
			t.Fatalf("delete: %v", err)
		}
	}
	if diff := cmp.Diff([]string{"base.qcow2"}, volumeNames(t, conn)); diff != "" {
		t.Errorf("volumes left (-want +got):\n%s", diff)
	}
	if _, err := p.Get(ctx, ref); !scaling.IsNotFound(err) {
		t.Errorf("get after delete: %v", err)
	}
}

func TestAnImageThatIsMissingIsSaidWithWhatWouldBeRight(t *testing.T) {
	conn := testHost(t)
	template := testTemplate()
	template.Image = "bse.qcow2"
	p := testProvider(t, map[string]Template{"web": template, "db": testTemplate()})
	ctx := testContext(t)
	// Another group's clone is no image.
	if _, err := p.Create(ctx, scaling.LaunchSpec{ID: idB, Group: "db", Name: "db-1"}); err != nil {
		t.Fatal(err)
	}
	const want = `image "bse.qcow2" is not in pool "images": it has base.qcow2; name one of the pool's, or bring it in with scalehook template import FILE --pool images --name bse.qcow2`
	_, err := p.Create(ctx, scaling.LaunchSpec{ID: idA, Group: "web", Name: "web-1"})
	if err == nil || scaling.ClassOf(err) != scaling.Permanent || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("create: %v (%s)", err, scaling.ClassOf(err))
	}
	if _, err := p.Check(ctx); err == nil || err.Error() != `group "web": `+want {
		t.Errorf("check: %v", err)
	}
	if err := p.Delete(ctx, scaling.Ref{ID: idB}); err != nil {
		t.Error(err)
	}
	if _, err := p.Get(ctx, scaling.Ref{ID: idA}); !scaling.IsNotFound(err) {
		t.Errorf("something was made: %v", err)
	}
	if diff := cmp.Diff([]string{"base.qcow2"}, volumeNames(t, conn)); diff != "" {
		t.Error(diff)
	}
}
