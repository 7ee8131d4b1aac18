package words_test

import (
	"testing"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/words"
)

func TestAVerdictThatIsOnlyObservedReadsAsLeftUndone(t *testing.T) {
	for reasonGiven, want := range map[string]string{
		"would launch 1: high stands, confirmed by prometheus": "would have launched 1: high stands, confirmed by prometheus",
		"would remove web-2 (newest): low stands":              "would have removed web-2 (newest): low stands",
		"would hand vm-test over to web-1 (oldest)":            "would have handed vm-test over to web-1 (oldest)",
		"would adopt vm-test":                                  "would have adopted vm-test",
		"would put web-2 back into service: high is confirmed": "would have put web-2 back into service: high is confirmed",
		"would do what this program does not know":             "would do what this program does not know",
		"would have launched 1":                                "would have launched 1",
		"nothing to do: no condition stands":                   "nothing to do: no condition stands",
		"would":                                                "would",
	} {
		v := api.Verdict{Action: "scale_out", Would: true, Reason: reasonGiven}
		if got := words.Reason(v); got != want {
			t.Errorf("%q reads %q, want %q", reasonGiven, got, want)
		}
		v.Would = false
		if got := words.Reason(v); got != reasonGiven {
			t.Errorf("%q, which was followed, reads %q", reasonGiven, got)
		}
	}
}
