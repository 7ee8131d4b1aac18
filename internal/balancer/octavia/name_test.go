package octavia

import "testing"

func TestOnlyMembersOfOurOwnerAreOurs(t *testing.T) {
	us, others := newNamer("us"), newNamer("others")
	for name, want := range map[string]string{
		us.member("3f2a"):     "3f2a",
		us.member(""):         "",
		others.member("3f2a"): "",
		"theirs":              "",
		"":                    "",
		"sh-":                 "",
	} {
		if got := us.id(name); got != want {
			t.Errorf("%q is of instance %q, want %q", name, got, want)
		}
	}
}

func TestOnlyObjectsOfTheGroupAreOurs(t *testing.T) {
	n := newNamer("us")
	for _, c := range []struct {
		name string
		tags []string
		want bool
	}{
		{"the group's", n.tags("web", ""), true},
		{"with a tag of somebody", append([]string{"somebody"}, n.tags("web", "")...), true},
		{"another group's", n.tags("db", ""), false},
		{"an instance's", n.tags("web", "3f2a"), false},
		{"another owner's", newNamer("others").tags("web", ""), false},
		{"somebody's", []string{"somebody"}, false},
		{"without tags", nil, false},
	} {
		if got := n.made(c.tags, "web"); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
