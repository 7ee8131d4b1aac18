package libvirt

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/scaling"
)

// domains lists what is defined, by name and whether it runs.
func domains(t *testing.T, conn *libvirt.Connect) map[string]bool {
	t.Helper()
	list, err := conn.ListAllDomains(0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for k := range list {
		name, err := list[k].GetName()
		if err != nil {
			t.Fatal(err)
		}
		active, err := list[k].IsActive()
		if err != nil {
			t.Fatal(err)
		}
		out[name] = active
		if err := list[k].Free(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func listed(t *testing.T, p *Provider) string {
	t.Helper()
	vms, err := p.List(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, vm := range vms {
		names = append(names, vm.Name)
	}
	return strings.Join(names, " ")
}

func unmarked(t *testing.T, p *Provider) string {
	t.Helper()
	vms, err := p.Unmarked(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, vm := range vms {
		if vm.ID != "" || vm.Group != "" {
			t.Errorf("%s is not ours and has id %q and group %q", vm.Name, vm.ID, vm.Group)
		}
		names = append(names, vm.Name)
	}
	return strings.Join(names, " ")
}

func TestWhatIsLetGoRunsOnWithItsDisksAndIsNobodys(t *testing.T) {
	conn := testHost(t)
	p := testProvider(t, map[string]Template{"web": testTemplate()})
	ctx := testContext(t)
	vm, err := p.Create(ctx, scaling.LaunchSpec{ID: idA, Group: "web", Name: "web-1", Number: 1})
	if err != nil {
		t.Fatal(err)
	}
	ref := scaling.Ref{ID: idA, Group: "web", Name: "web-1", UUID: vm.UUID}
	before, volumes := domains(t, conn), volumeNames(t, conn)
	for range 2 {
		if err := p.LetGo(ctx, ref); err != nil {
			t.Fatal(err)
		}
	}
	if got := listed(t, p); got != "" {
		t.Errorf("listed: %q", got)
	}
	if got := unmarked(t, p); !strings.Contains(got, "web-1") {
		t.Errorf("what is not ours: %q", got)
	}
	for _, r := range []scaling.Ref{ref, {ID: idA, Group: "web", Name: "web-1"}, {ID: idA, Group: "web", Name: "web-1", Adopted: true}} {
		if err := p.Delete(ctx, r); scaling.ClassOf(err) != scaling.Conflict {
			t.Errorf("deleting what was let go by %+v: %v", r, err)
		}
	}
	if diff := cmp.Diff(before, domains(t, conn)); diff != "" {
		t.Errorf("domains (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(volumes, volumeNames(t, conn)); diff != "" {
		t.Errorf("volumes (-before +after):\n%s", diff)
	}
	dom, err := conn.LookupDomainByName("web-1")
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Free()
	for _, flags := range []libvirt.DomainXMLFlags{0, libvirt.DOMAIN_XML_INACTIVE} {
		xml, err := dom.GetXMLDesc(flags)
		if err != nil || strings.Contains(xml, markURI) {
			t.Errorf("the definition (flags %d): %v\n%s", flags, err, xml)
		}
	}

	// Whoever wants it back adopts it.
	if _, err := p.Adopt(ctx, scaling.LaunchSpec{ID: idA, Group: "web", Name: "web-1"}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []scaling.Ref{{ID: idA, Group: "web", Name: "web-1", UUID: vm.UUID, Adopted: true}, {ID: idA, Group: "web", Name: "web-1"}} {
		if err := p.Delete(ctx, r); err != nil {
			t.Errorf("delete %+v: %v", r, err)
		}
	}
	if diff := cmp.Diff([]string{"base.qcow2"}, volumeNames(t, conn)); diff != "" {
		t.Errorf("volumes left (-want +got):\n%s", diff)
	}
}

func TestTwoOwnersOfTheSameGroupNeverHarmEachOther(t *testing.T) {
	conn := testHost(t)
	templates := map[string]Template{"web": testTemplate()}
	mine := testProvider(t, templates)
	cfg := DefaultConfig()
	cfg.URI = testURI
	theirs, err := New(cfg, "neighbour", templates, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := theirs.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx := testContext(t)
	const idOfTheirs = "0b3f6f9e-4bd5-4a7b-8a3b-1d4fbb0d2f10"
	if _, err := mine.Create(ctx, scaling.LaunchSpec{ID: idA, Group: "web", Name: "web-1", Number: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Create(ctx, scaling.LaunchSpec{ID: idOfTheirs, Group: "web", Name: "web-2", Number: 2}); err != nil {
		t.Fatal(err)
	}
	before, volumes := domains(t, conn), volumeNames(t, conn)
	if m, o := listed(t, mine), listed(t, theirs); m != "web-1" || o != "web-2" {
		t.Errorf("listed: mine %q, theirs %q", m, o)
	}
	if got := unmarked(t, mine); !strings.Contains(got, "web-2") || strings.Contains(got, "web-1") {
		t.Errorf("what is not mine: %q, want the neighbour's web-2 and not web-1", got)
	}

	// Whatever the neighbour asks for in the name of what is mine.
	ref := scaling.Ref{ID: idA, Group: "web", Name: "web-1", UUID: idA}
	const another = "1c7e3a52-9a0e-4d57-8f6e-2b6d0a1c4e55"
	for _, tt := range []struct {
		name string
		call func() error
		want scaling.Class
	}{
		{"get", func() error { _, err := theirs.Get(ctx, ref); return err }, scaling.NotFound},
		{"delete", func() error { return theirs.Delete(ctx, ref) }, scaling.Conflict},
		{"power off", func() error { return theirs.Shutdown(ctx, ref, true) }, scaling.Conflict},
		{"create under its id", func() error {
			_, err := theirs.Create(ctx, scaling.LaunchSpec{ID: idA, Group: "web", Name: "web-1", Number: 1})
			return err
		}, scaling.Conflict},
		{"create under its name", func() error {
			_, err := theirs.Create(ctx, scaling.LaunchSpec{ID: another, Group: "web", Name: "web-1", Number: 1})
			return err
		}, scaling.Conflict},
		{"adopt", func() error {
			_, err := theirs.Adopt(ctx, scaling.LaunchSpec{ID: another, Group: "web", Name: "web-1"})
			return err
		}, scaling.Conflict},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.call(); err == nil || scaling.ClassOf(err) != tt.want {
				t.Errorf("%v, want an error of class %s", err, tt.want)
			}
		})
	}
	for _, r := range []scaling.Ref{{ID: another, Group: "web", Name: "web-1"}, {ID: another, Group: "web", Name: "web-1", Adopted: true}} {
		if err := theirs.Delete(ctx, r); err != nil {
			t.Errorf("undoing what never was: %v", err)
		}
	}
	if err := theirs.Release(ctx, ref); err != nil {
		t.Errorf("release: %v", err)
	}
	if diff := cmp.Diff(before, domains(t, conn)); diff != "" {
		t.Errorf("domains (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(volumes, volumeNames(t, conn)); diff != "" {
		t.Errorf("volumes (-before +after):\n%s", diff)
	}
	if got := listed(t, mine); got != "web-1" {
		t.Errorf("mine are %q", got)
	}

	// A definition that was cloned, mark and all, is neither's.
	dom, err := conn.LookupDomainByName("web-1")
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Free()
	xml, err := dom.GetXMLDesc(libvirt.DOMAIN_XML_INACTIVE)
	if err != nil {
		t.Fatal(err)
	}
	xml = strings.Replace(xml, "<name>web-1</name>", "<name>copy</name>", 1)
	xml = strings.Replace(xml, "<uuid>"+idA+"</uuid>", "<uuid>"+another+"</uuid>", 1)
	copied, err := conn.DomainDefineXML(xml)
	if err != nil {
		t.Fatal(err)
	}
	defer copied.Free()
	if err := copied.Create(); err != nil {
		t.Fatal(err)
	}
	if m, o := listed(t, mine), listed(t, theirs); m != "web-1" || o != "web-2" {
		t.Errorf("listed beside the copy: mine %q, theirs %q", m, o)
	}
	if err := mine.Delete(ctx, ref); err != nil {
		t.Errorf("delete the original: %v", err)
	}
	if err := theirs.Delete(ctx, scaling.Ref{ID: idOfTheirs, Group: "web", Name: "web-2"}); err != nil {
		t.Error(err)
	}
	delete(before, "web-1")
	delete(before, "web-2")
	before["copy"] = true
	if diff := cmp.Diff(before, domains(t, conn)); diff != "" {
		t.Errorf("domains at last (-want +got):\n%s", diff)
	}
	if err := copied.Destroy(); err != nil {
		t.Error(err)
	}
	if err := copied.Undefine(); err != nil {
		t.Error(err)
	}
}

// TestTheAddressOfAVMThatWasLetGoStaysTaken: it goes on using the address of the range
// that it was made with, and it does after it was adopted again.
func TestTheAddressOfAVMThatWasLetGoStaysTaken(t *testing.T) {
	conn := testHost(t)
	template := testTemplate()
	template.CloudInit = &CloudInit{}
	template.Address = Address{Source: AddressRange, Range: "10.0.0.1-10.0.0.3", Prefix: 24}
	p := testProvider(t, map[string]Template{"web": template})
	ctx := testContext(t)
	address := func(id, name string) string {
		t.Helper()
		_, err := p.Create(ctx, scaling.LaunchSpec{ID: id, Group: "web", Name: name, Number: 1})
		if err != nil {
			t.Logf("create %s: %v", name, err) // libvirt's test driver takes no seed; the definition is there
		}
		dom, err := conn.LookupDomainByName(name)
		if err != nil {
			t.Fatal(err)
		}
		defer dom.Free()
		d, err := readMachine(dom)
		if err != nil || d.mark == nil || d.mark.Address == nil {
			t.Fatalf("%s has no address: %+v, %v", name, d, err)
		}
		return d.mark.Address.IP
	}
	got := []string{address(idA, "web-1")}
	if err := p.LetGo(ctx, scaling.Ref{ID: idA, Group: "web", Name: "web-1"}); err != nil {
		t.Fatal(err)
	}
	got = append(got, address(idB, "web-2"))
	if _, err := p.Adopt(ctx, scaling.LaunchSpec{ID: idA, Group: "web", Name: "web-1"}); err != nil {
		t.Fatal(err)
	}
	got = append(got, address("11111111-2222-4333-8444-555555555555", "web-3"))
	if diff := cmp.Diff([]string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}, got); diff != "" {
		t.Errorf("addresses (-want +got):\n%s", diff)
	}
}
