package scaling

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Mode says how far a group is trusted to act by itself.
type Mode string

// The modes of a group.
const (
	// ModeObserve decides and explains, and changes nothing: no VM, no member, no
	// adoption.
	ModeObserve Mode = "observe"
	// ModeScaleOutOnly creates and joins, and never drains or removes by itself.
	ModeScaleOutOnly Mode = "scale_out_only"
	// ModeFull does all of it.
	ModeFull Mode = "full"
)

// VictimPolicy chooses the instance that a scale-in removes. Failed instances
// always go first and protected ones never.
type VictimPolicy string

// The victim policies.
const (
	VictimNewest    VictimPolicy = "newest"
	VictimOldest    VictimPolicy = "oldest"
	VictimLeastBusy VictimPolicy = "least_busy"
)

// OnRemove says what becomes of an adopted VM that leaves its group.
type OnRemove string

// What becomes of an adopted VM. VMs that scalehook made are always deleted.
const (
	// OnRemoveKeep drains it, shuts it down and keeps it with its disks.
	OnRemoveKeep OnRemove = "keep"
	// OnRemoveDelete removes its definition and its disks too.
	OnRemoveDelete OnRemove = "delete"
)

// Group is one scaling group as configured: all that the decision and the engine
// need to know, and nothing about a driver. It is a value; a reload replaces it.
type Group struct {
	Name string
	Mode Mode

	// Min and Max bound the instances; Surge is how many more may exist for a
	// moment during a handover or replacement. Max counts everything owned.
	Min, Max, Surge int

	// High and Low are the thresholds of the CPU utilisation, ratios 0..1 of the
	// instances' own vCPUs.
	High, Low float64
	// HighHold and LowHold are for how long a condition must have stood, beyond
	// what the alert rule itself waits, before it is acted on.
	HighHold, LowHold time.Duration
	// LeaseTTL is how long one notification keeps its condition standing.
	LeaseTTL time.Duration

	// Cooldown is the pause after an action before the next automatic one, WarmUp
	// the time in service before an instance's CPU counts for the high signal.
	Cooldown, WarmUp time.Duration
	Windows          Windows

	// LaunchDeadline bounds the way from requested to in_service, DrainDeadline
	// the wait for sessions to end, ShutdownDeadline the wait for a guest to stop
	// by itself, CallDeadline one call to a driver.
	LaunchDeadline, DrainDeadline, ShutdownDeadline, CallDeadline time.Duration

	// CreationsPerHour and RemovalsPerHour are budgets over a sliding hour.
	CreationsPerHour, RemovalsPerHour int
	// BackoffMin and BackoffMax bound the pause after failed launches; it doubles
	// with each failure in a row.
	BackoffMin, BackoffMax time.Duration

	// Grace is how long an instance may be unwell (its VM vanished, stopped or
	// paused, or its checks fail) before it is replaced; until then it counts as
	// unknown, since people shut down, migrate and redefine VMs by hand. 0: never.
	Grace time.Duration
	// MaxUnhealthy is the part, 0..1, of the instances in service that may be unwell
	// for one of them to be replaced; one always may. More at once look like a fault
	// of something else.
	MaxUnhealthy float64

	Victim   VictimPolicy
	OnRemove OnRemove
	// Snapshot asks for a snapshot before a removal where the provider can.
	// SnapshotsKeep is how many snapshots of the group's VMs are kept then; 0: all.
	Snapshot      bool
	SnapshotsKeep int

	// NamePattern names new VMs. "{n}" stands for the instance's number; without
	// it the first VM has the bare name and later ones get "-2", "-3" and so on.
	NamePattern string
	// Adopt lists existing VMs, by name, that belong to the group as baselines.
	Adopt []string

	// Provider and Balancer are the configured names of the drivers; Port is the
	// members' port.
	Provider, Balancer string
	Port               uint16

	// Template, Pool and Place stand for what only drivers understand: what new VMs
	// are like, the pool's own settings, and where the provider's configuration
	// leads. They tell that it changed, and nothing else. Empty: not known.
	Template, Pool, Place string

	// Confirm names the sources that confirm a condition before a step
	// ("prometheus", "alertmanager"), the one whose evidence time counts first.
	Confirm []string
}

// Windows states the intervals of the monitoring in front of scalehook. They are
// stated once, in the configuration, and used wherever freshness matters.
type Windows struct {
	Scrape, Evaluation, Rate time.Duration
}

// Settle is how far evidence must lie past the end of the last action before it
// can prove anything about the time after it: every sample inside the rate window
// was then taken with the action done and the newcomer warm.
func (g Group) Settle() time.Duration {
	return max(g.Cooldown, g.WarmUp+g.Windows.Rate+2*g.Windows.Scrape+g.Windows.Evaluation)
}

// VMName returns the name of the group's n-th VM; n counts from 1 and never falls.
func (g Group) VMName(n int) string {
	if strings.Contains(g.NamePattern, "{n}") {
		return strings.ReplaceAll(g.NamePattern, "{n}", strconv.Itoa(n))
	}
	if n == 1 {
		return g.NamePattern
	}
	return g.NamePattern + "-" + strconv.Itoa(n)
}

// Limit is the number of instances that may be owned in whatever state.
func (g Group) Limit() int { return g.Max + g.Surge }

// nameRE is what every configured name must match: it ends up in domain names,
// file names and HAProxy commands, where a space or ';' would be an injection.
var nameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// ValidName reports whether s may be the name of a group, provider, balancer or VM.
func ValidName(s string) error {
	if !nameRE.MatchString(s) {
		return fmt.Errorf("name %q: use letters, digits, '_', '.' and '-', at most 63, starting with a letter or digit", s)
	}
	return nil
}
