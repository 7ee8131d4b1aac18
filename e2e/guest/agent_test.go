package guest

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAgentsLibrariesAreReadFromLdd(t *testing.T) {
	got, err := librariesOf("\tlinux-vdso.so.1 (0x00007ffd)\n\tlibglib-2.0.so.0 => /lib/x86_64-linux-gnu/libglib-2.0.so.0 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"lib/libglib-2.0.so.0":       "/lib/x86_64-linux-gnu/libglib-2.0.so.0",
		"lib64/ld-linux-x86-64.so.2": "/lib64/ld-linux-x86-64.so.2",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, listed := range []string{"\tlibnuma.so.1 => not found\n", "\tnot a dynamic executable\n"} {
		if _, err := librariesOf(listed); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", listed, err)
		}
	}
}
