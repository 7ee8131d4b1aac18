package cloud

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestAMarkSurvivesItsTags(t *testing.T) {
	for _, m := range []Mark{
		{Owner: "lab", Group: "web", ID: "6a1e5bd0-6a3f-4f0e-9e5f-0d7c2c1a2b3c"},
		{Owner: "lab", Group: "web", ID: "6a1e5bd0-6a3f-4f0e-9e5f-0d7c2c1a2b3c", UUID: "15b28934-e428-4b00-882e-06c1e055643c", Adopted: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)},
		{Owner: Owner(strings.Repeat("o", 63)), Group: strings.Repeat("g", 63), ID: "6a1e5bd0-6a3f-4f0e-9e5f-0d7c2c1a2b3c"},
		{Owner: "lab", Group: "web"},
	} {
		tags := m.Tags()
		for _, tag := range tags {
			if len(tag) > longestTag || strings.ContainsAny(tag, ",/") {
				t.Errorf("Nova refuses %q", tag)
			}
		}
		slices.Reverse(tags)
		got, ok := ParseMark(append([]string{"theirs", "scalehook", "other=1"}, tags...))
		if diff := cmp.Diff(m, got); diff != "" || !ok {
			t.Errorf("-want +got (%t):\n%s", ok, diff)
		}
		if left := OtherTags(append([]string{"theirs", "scalehook-mine", "a=b"}, tags...)); !slices.Equal(left, []string{"theirs", "scalehook-mine", "a=b"}) {
			t.Errorf("others: %q", left)
		}
	}
	if _, ok := ParseMark([]string{"scalehook-id=x", "scalehook-group=web"}); ok {
		t.Error("a mark without an owner")
	}
	if m, _ := ParseMark([]string{"scalehook-owner=lab", "scalehook-adopted=yes"}); m.Adopted.IsZero() {
		t.Error("an adopted one is not told by a time that cannot be read")
	}
}
