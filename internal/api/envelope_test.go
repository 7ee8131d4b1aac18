package api_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/api"
)

func TestDuration(t *testing.T) {
	b, err := json.Marshal(api.OrderRequest{Hold: api.Duration(90 * time.Second)})
	if err != nil || string(b) != `{"hold":"1m30s"}` {
		t.Errorf("written as %s, %v", b, err)
	}
	for text, want := range map[string]time.Duration{`"90s"`: 90 * time.Second, `"1h30m"`: 90 * time.Minute, `"0s"`: 0} {
		var d api.Duration
		if err := json.Unmarshal([]byte(text), &d); err != nil || time.Duration(d) != want {
			t.Errorf("%s is read as %v, %v", text, d, err)
		}
	}
	for _, text := range []string{`90`, `"90"`, `"soon"`, `true`, `{}`} {
		var d api.Duration
		if err := json.Unmarshal([]byte(text), &d); err == nil || !strings.Contains(err.Error(), "unit") {
			t.Errorf("%s: error %v, want it to ask for a unit", text, err)
		}
	}
}

func TestTimesThatAreNotKnownAreLeftOut(t *testing.T) {
	b, err := json.Marshal(api.Group{Name: "web"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), "0001-01-01") {
		t.Errorf("a zero time is written: %s", b)
	}
}
