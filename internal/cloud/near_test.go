package cloud

import (
	"strings"
	"testing"

	"github.com/scalehook/scalehook/internal/scaling"
)

func TestAMissingNameIsToldWithThoseThatComeNear(t *testing.T) {
	for _, c := range []struct {
		name   string
		asked  string
		others []string
		want   string
	}{
		{"two letters are swapped", "cirors", []string{"ubuntu", "cirros", "debian-12"}, `did you mean "cirros"?`},
		{"another case", "CirrOS", []string{"cirros", "ubuntu"}, `did you mean "cirros"?`},
		{"a part of the name", "debian", []string{"debian-12-amd64", "cirros"}, `did you mean "debian-12-amd64"?`},
		{"two that are as near", "m1.tinny", []string{"m1.tiny", "m2.tiny", "huge"}, `did you mean "m1.tiny" or "m2.tiny"?`},
		{"none is near", "windows", []string{"cirros", "debian"}, `there is "cirros", "debian"`},
		{"none is near among many", "windows", []string{"a", "b", "c", "d", "e", "f", "g"}, `and 2 more`},
		{"there is none", "cirros", nil, `there is none at all`},
		{"one twice", "x-net", []string{"lab", "lab", ""}, `there is "lab"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := NotThere("image", c.asked, c.others)
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `image "`+c.asked+`" does not exist`) {
				t.Errorf("%q does not say %q", err, c.want)
			}
			if scaling.ClassOf(err) != scaling.Permanent {
				t.Errorf("class %s", scaling.ClassOf(err))
			}
		})
	}
	if err := Ambiguous("network", "lab", []string{"b", "a"}); !strings.HasSuffix(err.Error(), "a, b") {
		t.Error(err)
	}
}
