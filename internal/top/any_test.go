package top

import (
	"flag"
	"math"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"pgregory.net/rapid"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
)

// strange are texts that a terminal would obey, measure otherwise, or choke on.
var strange = []string{
	"", "web-1", "\x1b[2J\x1b[31mred", "\x9b31m", "two\nlines\r", "tab\there", "商店网页服务器", "👩‍👩‍👧‍👦", "🇩🇪🇫🇷", "e\u0301\u0302", "\u202egnp.txt",
	"❤\ufe0f", "각", "नमस्ते", "\xff\xfe", strings.Repeat("long ", 300), strings.Repeat("宽", 90), "\u00ad\u200b\u2028", "👍🏽", "﷽",
}

func anyText() *rapid.Generator[string] {
	return rapid.OneOf(rapid.SampledFrom(strange), rapid.String())
}

func anyTime() *rapid.Generator[time.Time] {
	return rapid.OneOf(
		rapid.Just(time.Time{}),
		rapid.Map(rapid.Int64Range(-1<<35, 1<<35), func(n int64) time.Time { return noon.Add(time.Duration(n) * time.Millisecond) }),
	)
}

var anyNumber = rapid.OneOf(rapid.Float64Range(0, 1), rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}))

func anyInstance(t *rapid.T) api.Instance {
	states := rapid.SampledFrom([]string{"requested", "booting", "joining", "in_service", "standby", "draining", "removing", "failed", "\x1b]0;x\a"})
	i := api.Instance{
		ID: anyText().Draw(t, "id"), Name: anyText().Draw(t, "vm"), State: states.Draw(t, "state"), Since: anyTime().Draw(t, "since"),
		Address: anyText().Draw(t, "address"), Primary: rapid.Bool().Draw(t, "primary"), Warm: rapid.Bool().Draw(t, "warm"),
		Suspect: anyText().Draw(t, "suspect"), SuspectSince: anyTime().Draw(t, "suspect since"), Deadline: anyTime().Draw(t, "deadline"),
		Failure: anyText().Draw(t, "failure"), InServiceAt: anyTime().Draw(t, "in service at"),
	}
	if rapid.Bool().Draw(t, "has a reading") {
		i.Reading = &api.Reading{Utilization: anyNumber.Draw(t, "cpu")}
	}
	if rapid.Bool().Draw(t, "has a member") {
		i.Member = &api.Member{State: anyText().Draw(t, "member"), Health: anyText().Draw(t, "health"), Sessions: rapid.Int().Draw(t, "sessions")}
	}
	return i
}

func anyActivity(t *rapid.T) api.Activity {
	a := api.Activity{
		Kind:   rapid.SampledFrom([]string{"scale_out", "scale_in", "handover", "adopt", "replace", "standby", "cleanup", "\x07"}).Draw(t, "kind"),
		Launch: anyText().Draw(t, "launch"), Remove: anyText().Draw(t, "remove"), Created: anyTime().Draw(t, "created"), Ended: anyTime().Draw(t, "ended"),
		Outcome: anyText().Draw(t, "outcome"), Cause: api.Cause{Kind: anyText().Draw(t, "cause"), Detail: anyText().Draw(t, "detail")},
	}
	for range rapid.IntRange(0, 8).Draw(t, "steps") {
		a.Steps = append(a.Steps, api.Step{
			Name: anyText().Draw(t, "step"), Started: anyTime().Draw(t, "started"), Ended: anyTime().Draw(t, "step ended"),
			Tries: rapid.IntRange(0, 9).Draw(t, "tries"), Error: anyText().Draw(t, "error"),
		})
	}
	return a
}

func anyGroup(t *rapid.T) api.Group {
	g := api.Group{
		Name: anyText().Draw(t, "group"), Mode: anyText().Draw(t, "mode"), Desired: rapid.Int().Draw(t, "desired"),
		Settings: api.Settings{
			Min: rapid.Int().Draw(t, "min"), High: anyNumber.Draw(t, "high"), Low: anyNumber.Draw(t, "low"),
			Settle: api.Duration(rapid.Int64().Draw(t, "settle")), HighHold: api.Duration(rapid.Int64().Draw(t, "hold")), Grace: api.Duration(rapid.Int64().Draw(t, "grace")),
		},
		Statuses:  rapid.SliceOfN(anyText(), 0, 3).Draw(t, "statuses"),
		Problems:  rapid.SliceOfN(anyText(), 0, 4).Draw(t, "problems"),
		HoldUntil: anyTime().Draw(t, "hold until"), CooldownUntil: anyTime().Draw(t, "cooldown"), LastActionEnd: anyTime().Draw(t, "end"),
		Verdict: api.Verdict{Action: anyText().Draw(t, "action"), Would: rapid.Bool().Draw(t, "would"), Reason: anyText().Draw(t, "reason")},
		Orders:  make([]api.Order, rapid.IntRange(0, 2).Draw(t, "orders")),
		Conditions: []api.Condition{{
			Signal: anyText().Draw(t, "signal"), Standing: rapid.Bool().Draw(t, "standing"), Since: anyTime().Draw(t, "cond since"), Expires: anyTime().Draw(t, "expires"),
		}},
	}
	if rapid.Bool().Draw(t, "paused") {
		g.Pause = &api.Pause{Until: anyTime().Draw(t, "pause until"), By: anyText().Draw(t, "by"), Reason: anyText().Draw(t, "pause reason")}
	}
	for range rapid.IntRange(0, 6).Draw(t, "instances") {
		g.Instances = append(g.Instances, anyInstance(t))
	}
	for range rapid.IntRange(0, 3).Draw(t, "activities") {
		g.Activities = append(g.Activities, anyActivity(t))
	}
	return g
}

// TestAnythingIsDrawnWithinTheTerminal draws whatever the server may say, at any
// size, with any keys pressed: no panic, no line too long, none too many, and
// nothing that steers the terminal but colours.
func TestAnythingIsDrawnWithinTheTerminal(t *testing.T) {
	keys := []string{"j", "k", "tab", "+", "-", "h", "p", "y", "n", "/", "?", "esc", "enter", "pgdown", "home", "end", "w", "商", "backspace", "q"}
	checks := false
	flag.Visit(func(f *flag.Flag) { checks = checks || f.Name == "rapid.checks" })
	if !checks && os.Getenv("RAPID_CHECKS") == "" {
		if err := flag.Set("rapid.checks", "1000"); err != nil {
			t.Fatal(err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		m := clocked(nil, func(o *Options) { o.ASCII, o.Color = rapid.Bool().Draw(t, "ascii"), rapid.Bool().Draw(t, "colour") })
		at := noon
		for range rapid.IntRange(1, 12).Draw(t, "events") {
			switch rapid.IntRange(0, 4).Draw(t, "event") {
			case 0:
				size(m, rapid.IntRange(-1, 220).Draw(t, "width"), rapid.IntRange(-1, 70).Draw(t, "height"))
			case 1:
				at = anyTime().Draw(t, "now")
				m.Update(tickMsg{at})
			case 2:
				msg := answerMsg{at: at, groups: make([]api.Group, rapid.IntRange(0, 3).Draw(t, "groups")), clock: anyTime().Draw(t, "clock")}
				for i := range msg.groups {
					msg.groups[i] = anyGroup(t)
					msg.of, msg.recent = msg.groups[i].Name, []api.Activity{anyActivity(t)}
				}
				m.Update(msg)
			case 3:
				m.Update(answerMsg{at: at, err: &client.Error{Code: 500, Reason: anyText().Draw(t, "failure")}})
			case 4:
				press(m, rapid.SliceOfN(rapid.SampledFrom(keys), 1, 5).Draw(t, "keys")...)
				m.Update(tea.PasteMsg{Content: anyText().Draw(t, "paste")})
			}
			checkSize(t, m)
			checkHarmless(t, m)
		}
	})
}

// checkHarmless fails if anything in a frame but its own colours steers the terminal.
func checkHarmless(t interface {
	Helper()
	Errorf(format string, args ...any)
}, m *Model,
) {
	t.Helper()
	for line := range strings.SplitSeq(text(m), "\n") {
		for _, r := range line {
			if unicode.In(r, unicode.Cc, unicode.Cf) {
				t.Errorf("a line holds %U: %q", r, line)
			}
		}
	}
}

// TestNothingThatTheServerSaysSteersTheTerminal has every text of the API hostile,
// and every question and answer drawn.
func TestNothingThatTheServerSaysSteersTheTerminal(t *testing.T) {
	const evil = "a\x1b]0;title\x07\x9b2J\u202eb\r\n"
	g := web(0.5)
	g.Name, g.Mode, g.Settings.Victim, g.Verdict.Reason = evil, evil, evil, evil
	g.Statuses, g.Problems = []string{evil}, []string{evil}
	g.Pause = &api.Pause{By: evil, Reason: evil, Until: in(time.Hour)}
	g.Conditions[0].Signal = evil
	for i := range g.Instances {
		x := &g.Instances[i]
		x.Name, x.Address, x.Suspect, x.Failure, x.Member = evil, evil, evil, evil, &api.Member{State: evil, Health: evil}
	}
	for i := range g.Activities {
		a := &g.Activities[i]
		a.Kind, a.Cause = evil, api.Cause{Kind: evil, By: evil, Detail: evil}
		a.Steps = append(a.Steps, api.Step{Name: evil, Error: evil})
	}
	old := g.Activities[0]
	old.Ended, old.Outcome, old.Status, old.Launch = noon, evil, evil, evil
	for _, err := range []error{nil, &client.Error{Code: 409, Type: api.ErrorRefused, Reason: evil}, &client.Error{Code: 500, Reason: evil}} {
		m := clocked(&fake{err: err}, func(o *Options) { o.URL = evil })
		size(m, 200, 80)
		m.Update(answerMsg{at: noon, groups: []api.Group{g, quiet(evil+"2", 0.1)}, of: evil, recent: []api.Activity{old}})
		if !strings.Contains(text(m), "ab") {
			t.Errorf("the names are not there:\n%s", text(m))
		}
		for range 2 {
			for _, key := range []string{"+", "-", "h", "p"} {
				press(m, key)
				checkHarmless(t, m)
				checkSize(t, m)
				settled(t, m, press(m, "y"))
				checkHarmless(t, m)
			}
			press(m, "tab")
		}
		m.Update(answerMsg{at: noon, err: &client.Error{Code: 500, Reason: evil}})
		checkHarmless(t, m)
	}
}
