package octavia

import "github.com/scalehook/scalehook/internal/fault"

// passPoint passes a fault point beside a change, such as
// "octavia.member.create.before". It does nothing but in a binary that is built to be
// killed.
func passPoint(name string) {
	if fault.Enabled {
		fault.Point("octavia." + name)
	}
}
