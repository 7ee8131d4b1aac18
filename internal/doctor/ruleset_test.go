package doctor

import (
	"errors"
	"testing"
)

func TestExpressionsAreComparedAsPrometheusPrintsThem(t *testing.T) {
	for _, test := range []struct {
		name, file, loaded string
		same               bool
	}{
		{"space does not count", "sum by (a) (\n  b\n)", "sum by (a) (b)", true},
		{"nor does the order of matchers", `up{job="b", instance!="a"}`, `up{instance!="a",job="b"}`, true},
		{"nor a comma at their end", `up{job="b",}`, `up{job="b"}`, true},
		{"a matcher's value does", `up{job="b"}`, `up{job="c"}`, false},
		{"a matcher more does", `up{job="b"}`, `up{instance="a",job="b"}`, false},
		{"quotes and commas in values are kept apart", `up{a="x,b=\"y\"", c="z"}`, `up{c="z",a="x,b=\"y\""}`, true},
		{"a window does", "rate(a[1m])", "rate(a[2m])", false},
		{"a brace in a value is compared as it is", `up{a="{}", b="c"}`, `up{a="{}",b="c"}`, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := normal(test.file) == normal(test.loaded); got != test.same {
				t.Errorf("%q and %q", normal(test.file), normal(test.loaded))
			}
		})
	}
}

func TestWhatIsWrongIsSaidInOneLine(t *testing.T) {
	r := &report{part: PartPrometheus}
	r.bad(0, "answers", "%v", errors.Join(errors.New("no route"), errors.New("no answer")))
	if want := "no route; no answer"; r.checks[0].Detail != want {
		t.Errorf("detail %q, want %q", r.checks[0].Detail, want)
	}
}
