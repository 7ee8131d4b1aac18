package webpage

import (
	"fmt"
	"io/fs"
	"math"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// group is one of a CPU (none if it is not a number) and numbers.
func group(name string, cpu float64, inService, desired, low, high int) scaling.GroupView {
	v := scaling.GroupView{Group: scaling.Group{Name: name, Min: low, Max: high}, State: scaling.State{Desired: desired}}
	for range inService {
		i := scaling.InstanceView{Instance: scaling.Instance{State: scaling.StateInService}}
		if !math.IsNaN(cpu) {
			i.Reading = &scaling.Reading{Utilization: cpu}
		}
		v.Instances = append(v.Instances, i)
	}
	return v
}

func TestHistoryKeepsTheLastHour(t *testing.T) {
	// Against a list that keeps everything.
	rapid.Check(t, func(t *rapid.T) {
		h, want := newHistory(), []sample(nil)
		for tick := range rapid.IntRange(1, 3*points).Draw(t, "ticks") {
			at := noon.Add(time.Duration(tick) * every)
			number := rapid.IntRange(0, 3)
			cpu := rapid.SampledFrom([]float64{math.NaN(), 0, 0.005, 0.5, 1, 1.7}).Draw(t, "cpu")
			switch rapid.IntRange(0, 9).Draw(t, "what") {
			case 0: // no answer
				h.gap(at)
				if n := len(want); n > 0 {
					again := want[n-1]
					again.at, again.cpu = at, math.NaN()
					want = append(want, again)
				}
				continue
			case 1: // the group is not configured for a while
				if rapid.Bool().Draw(t, "gone") {
					h.add(at, nil)
					want = nil
					continue
				}
			}
			v := group("web", cpu, number.Draw(t, "in service"), number.Draw(t, "desired"), number.Draw(t, "min"), number.Draw(t, "max"))
			s := sampleOf(at, &v)
			s.cpu = min(s.cpu, 1)
			h.add(at, []scaling.GroupView{v})
			want = append(want, s)
		}
		want = want[max(0, len(want)-points):]
		if diff := cmp.Diff(want, h.of("web"), cmp.AllowUnexported(sample{}), cmpopts.EquateNaNs(), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("samples (-want +got):\n%s", diff)
		}
		if s := h.groups["web"]; s != nil && len(s.steps) > points+1 {
			t.Fatalf("%d steps are kept", len(s.steps))
		}
	})
}

var number = regexp.MustCompile(`-?[0-9]+\.[0-9]+|NaN|Inf`)

func TestChartsStayWithinTheirFrame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var samples []sample
		at := noon.Add(-2 * time.Hour)
		for range rapid.IntRange(0, 300).Draw(t, "samples") {
			at = at.Add(time.Duration(rapid.IntRange(0, 24).Draw(t, "seconds")) * time.Second) // 300 of them end at noon at the latest
			samples = append(samples, sample{
				at, rapid.SampledFrom([]float64{math.NaN(), 0, 0.3, 1, 9}).Draw(t, "cpu"),
				rapid.IntRange(0, 9).Draw(t, "desired"), rapid.IntRange(0, 9).Draw(t, "in service"), rapid.IntRange(0, 9).Draw(t, "min"), rapid.IntRange(0, 9).Draw(t, "max"),
			})
		}
		var g api.Group
		g.Settings.High, g.Settings.Low = rapid.Float64Range(0, 1).Draw(t, "high"), rapid.Float64Range(0, 1).Draw(t, "low")
		small := sparkOf(g.Settings, samples, noon)
		paths := []struct {
			d             string
			width, height float64
		}{{small.D, sparkWidth, sparkHeight}, {small.Area, sparkWidth, sparkHeight}}
		for _, c := range []chart{cpuChart(g, samples, noon), sizeChart(g, samples, noon)} {
			for _, l := range append(c.Areas, c.Lines...) {
				paths = append(paths, struct {
					d             string
					width, height float64
				}{l.D, chartWidth, chartHeight})
			}
			if c.Desc == "" || c.Title == "" || len(c.Rows) == 0 != (len(samples) == 0) {
				t.Fatalf("a chart without words: %+v", c)
			}
		}
		for _, p := range paths {
			for k, text := range number.FindAllString(p.d, -1) {
				v, err := strconv.ParseFloat(text, 64)
				if limit := []float64{p.width, p.height}[k%2]; err != nil || math.IsNaN(v) || v < 0 || v > limit {
					t.Fatalf("%s is outside of %v in %s", text, limit, p.d)
				}
			}
		}
	})
}

func TestALineIsBrokenWhereThereIsNoReading(t *testing.T) {
	var samples []sample
	for k, cpu := range []float64{0.5, 0.5, math.NaN(), 0.5} {
		samples = append(samples, sample{at: noon.Add(time.Duration(k-3) * time.Minute), cpu: cpu})
	}
	over, area := curve(samples, noon, 600, 100)
	if over != "M570.0 50.0L570.0 50.0L580.0 50.0M600.0 50.0L600.0 50.0" {
		t.Errorf("line %s", over)
	}
	if strings.Count(area, "Z") != 2 {
		t.Errorf("area %s", area)
	}
}

func TestAChartIsDescribed(t *testing.T) {
	g := api.Group{Settings: api.Settings{High: 0.7, Low: 0.2, Min: 1, Max: 4}, InService: 2, Desired: 3}
	samples := []sample{{noon.Add(-10 * time.Minute), 0.4, 1, 1, 1, 4}, {noon.Add(-5 * time.Minute), 0.9, 1, 1, 1, 4}, {noon, 0.6, 3, 2, 1, 4}}
	if got, want := cpuChart(g, samples, noon).Desc, "Average CPU since 11:50:00: from 40% to 60%, lowest 40%, highest 90%. Thresholds: high 70%, low 20%."; got != want {
		t.Errorf("CPU: %q, want %q", got, want)
	}
	if got, want := sizeChart(g, samples, noon).Desc, "2 in service, 3 desired, within 1 and 4. At 11:50:00 it was 1 in service, 1 desired."; got != want {
		t.Errorf("instances: %q, want %q", got, want)
	}
	if got := cpuChart(g, nil, noon).Desc; got != "No reading of the CPU yet." {
		t.Errorf("without samples: %q", got)
	}
}

// colours reads the custom properties of both schemes.
func colours(t *testing.T) (light, dark map[string]string) {
	t.Helper()
	css, err := fs.ReadFile(static, "static/style.css")
	if err != nil {
		t.Fatal(err)
	}
	read := func(block string) map[string]string {
		out := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(block, -1) {
			out[m[1]] = m[2]
		}
		return out
	}
	blocks := regexp.MustCompile(`(?s):root \{(.*?)\}`).FindAllStringSubmatch(string(css), 2)
	if len(blocks) != 2 {
		t.Fatal("the style has no colours for light and dark")
	}
	return read(blocks[0][1]), read(blocks[1][1])
}

// contrast is WCAG's ratio of two colours.
func contrast(t *testing.T, a, b string) float64 {
	t.Helper()
	luminance := func(c string) float64 {
		sum := 0.0
		for k, weight := range []float64{0.2126, 0.7152, 0.0722} {
			n, err := strconv.ParseUint(c[1+2*k:3+2*k], 16, 8)
			if err != nil {
				t.Fatalf("colour %q: %v", c, err)
			}
			v := float64(n) / 255
			if v <= 0.04045 {
				v /= 12.92
			} else {
				v = math.Pow((v+0.055)/1.055, 2.4)
			}
			sum += weight * v
		}
		return sum
	}
	x, y := luminance(a), luminance(b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestColoursHaveTheContrastOfWCAG(t *testing.T) {
	light, dark := colours(t)
	const text, graphics = 4.5, 3
	for scheme, c := range map[string]map[string]string{"light": light, "dark": dark} {
		pairs := []struct {
			front, back string
			least       float64
		}{
			{"on-strong", "strong", text},
			{"card", "red", text},
			{"page", "text", text},
			{"red", "red-back", text},
			{"yellow", "yellow-back", text},
			{"green", "green-back", text},
			{"text", "plain-back", text},
			{"text", "button", text},
			{"edge", "card", graphics},
			{"edge", "page", graphics},
			{"blue", "card", graphics},
			{"brand", "card", graphics},
			{"blue", "track", 2},
		}
		for _, front := range []string{"text", "quiet", "link", "red", "yellow", "green"} {
			pairs = append(pairs, struct {
				front, back string
				least       float64
			}{front, "page", text}, struct {
				front, back string
				least       float64
			}{front, "card", text})
		}
		for _, p := range pairs {
			if c[p.front] == "" || c[p.back] == "" {
				t.Fatalf("%s: no colour %s or %s", scheme, p.front, p.back)
			}
			if got := contrast(t, c[p.front], c[p.back]); got < p.least {
				t.Errorf("%s: %s on %s has %.2f, want %v", scheme, p.front, p.back, got, p.least)
			}
		}
	}
}

// BenchmarkHistory is what an hour of so many groups costs.
func BenchmarkHistory(b *testing.B) {
	const groups = 10_000
	var views []scaling.GroupView
	for k := range groups {
		views = append(views, group(fmt.Sprint("group-", k), 0.5, 3, 3, 1, 5))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	h := newHistory()
	for tick := range points {
		if tick%24 == 0 { // each group changes ten times an hour
			for k := range views {
				views[k].State.Desired = tick
			}
		}
		h.add(noon.Add(time.Duration(tick)*every), views)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for b.Loop() {
		h.add(noon, views)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/groups, "bytes/group")
	runtime.KeepAlive(h)
}
