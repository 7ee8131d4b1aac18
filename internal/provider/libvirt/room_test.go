package libvirt

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirtxml"

	"github.com/scalehook/scalehook/internal/scaling"
)

func TestALaunchThatThePoolHasNoRoomForIsRefusedAndLeavesNothing(t *testing.T) {
	conn := testHost(t)
	cfg := DefaultConfig()
	cfg.URI, cfg.ReserveDisk = testURI, 1<<60
	p, err := New(cfg, testOwner, map[string]Template{"web": testTemplate()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx := testContext(t)
	_, err = p.Create(ctx, scaling.LaunchSpec{ID: idA, Group: "web", Name: "web-1", Number: 1})
	if err == nil || scaling.ClassOf(err) != scaling.Quota || !strings.Contains(err.Error(), `pool "images" has `) || !strings.Contains(err.Error(), "reserve_disk of 1048576TiB") {
		t.Errorf("%v (%s)", err, scaling.ClassOf(err))
	}
	if vms, err := p.List(ctx); err != nil || len(vms) != 0 {
		t.Errorf("listed %+v, %v", vms, err)
	}
	if diff := cmp.Diff([]string{"base.qcow2"}, volumeNames(t, conn)); diff != "" {
		t.Error(diff)
	}
	warnings, err := p.Check(ctx)
	if err != nil || !strings.Contains(strings.Join(warnings, "\n"), `group "web": a launch would be refused now: pool "images" has `) {
		t.Errorf("warnings %q, %v", warnings, err)
	}
	if others := p.promise(idB, 1); others != 0 {
		t.Errorf("%d bytes are still promised", others)
	}
}

func TestMemoryIsPromisedToOneLaunchAtATime(t *testing.T) {
	p := &Provider{promised: map[string]uint64{}}
	for _, step := range []struct {
		id   string
		want uint64
	}{
		{idA, 0},
		{idA, 0}, // the same launch again
		{idB, 10},
	} {
		if got := p.promise(step.id, 10); got != step.want {
			t.Errorf("%s: others were promised %d, want %d", step.id, got, step.want)
		}
	}
	p.endPromise(idA)
	if got := p.promise(idB, 10); got != 0 {
		t.Errorf("after the end of the other launch: %d", got)
	}
}

func TestMemoryOfAnOwnDomainIsReadInItsUnit(t *testing.T) {
	for unit, want := range map[string]uint64{
		"": 2 << 10, "KiB": 2 << 10, "k": 2 << 10, "KB": 2e3, "MiB": 2 << 20, "M": 2 << 20, "GiB": 2 << 30, "G": 2 << 30, "GB": 2e9, "b": 2, "bytes": 2, "T": 2 << 40,
	} {
		if got := memoryBytes(libvirtxml.DomainMemory{Value: 2, Unit: unit}); got != want {
			t.Errorf("%q: %d, want %d", unit, got, want)
		}
	}
	template := testTemplate()
	for text, want := range map[string]uint64{
		"<domain><memory unit='MiB'>64</memory></domain>":                                                     64 << 20,
		"<domain><memory unit='GiB'>4</memory><memoryBacking><hugepages/></memoryBacking></domain>":           0,
		"<domain><memory unit='GiB'>4</memory><memoryBacking><source type='memfd'/></memoryBacking></domain>": 4 << 30,
	} {
		template.DomainXML = writeFile(t, "own.xml", text)
		if got, err := template.memory(); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
}
