package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/scaling"
)

func TestMaintenanceWindows(t *testing.T) {
	// A Saturday.
	at := func(clock string) time.Time {
		v, err := time.Parse("2006-01-02 15:04:05", "2026-03-07 "+clock)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	night := Maintenance{Name: "backup", Schedule: "0 2 * * 6", Duration: time.Hour}
	vienna := Maintenance{Schedule: "0 2 * * *", Duration: time.Hour, Timezone: "Europe/Vienna", Direction: "in"}
	noon := Maintenance{Name: "noon", Schedule: "30 2 * * *", Duration: time.Hour, Direction: "out"}
	tests := map[string]struct {
		windows Windows
		now     time.Time
		want    *scaling.Maintenance
	}{
		"no window is configured":                   {nil, at("02:30:00"), nil},
		"before it opens":                           {Windows{night}, at("01:59:59"), nil},
		"at the moment it opens":                    {Windows{night}, at("02:00:00"), &scaling.Maintenance{Name: "backup", Out: true, In: true, Until: at("03:00:00")}},
		"just before it closes":                     {Windows{night}, at("02:59:59"), &scaling.Maintenance{Name: "backup", Out: true, In: true, Until: at("03:00:00")}},
		"at the moment it closes":                   {Windows{night}, at("03:00:00"), nil},
		"on another day":                            {Windows{night}, at("02:30:00").AddDate(0, 0, 1), nil},
		"its time zone counts":                      {Windows{vienna}, at("01:30:00"), &scaling.Maintenance{Name: "0 2 * * *", In: true, Until: at("02:00:00")}},
		"two windows together hold both directions": {Windows{{Name: "a", Schedule: "0 2 * * *", Duration: time.Hour, Direction: "in"}, noon}, at("02:45:00"), &scaling.Maintenance{Name: "a and noon", Out: true, In: true, Until: at("03:00:00")}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for k := range tt.windows {
				if err := tt.windows[k].validate(); err != nil {
					t.Fatal(err)
				}
			}
			got := tt.windows.Open(tt.now)
			if got != nil {
				got.Until = got.Until.UTC()
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("window (-want +got):\n%s", diff)
			}
		})
	}
}
