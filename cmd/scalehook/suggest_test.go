package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/scalehook/scalehook/internal/suggest"
	"github.com/scalehook/scalehook/internal/testenv"
)

const suggestConfig = `
owner: test
providers: {sim: {simulated: {}}}
balancers: {pool: {simulated: {provider: sim}}}
prometheus: {url: "http://%s"}
groups:
  web: {mode: observe, min: 1, max: 4, high: 70%%, low: 30%%, provider: sim, balancer: pool, port: 80}
  db: {mode: observe, min: 1, max: 4, high: 70%%, low: 34%%, provider: sim, balancer: pool, port: 80}
  young: {mode: observe, min: 1, max: 4, provider: sim, balancer: pool, port: 80}
  unknown: {mode: observe, min: 1, max: 4, provider: sim, balancer: pool, port: 80}
`

// recorded writes what the rules record of groups of two instances, one sample a
// minute, in Prometheus's own format.
type recorded struct{ bytes.Buffer }

func (r *recorded) at(group string, at time.Time, average float64, readings int) {
	high, low := average*float64(readings)/2, average*float64(readings)/2+float64(2-readings)/2
	fmt.Fprintf(r, "group:scalehook_cpu_utilization_missing_as_0:avg_ratio{scaling_group=%q} %f %d\n", group, high, at.Unix())
	fmt.Fprintf(r, "group:scalehook_cpu_utilization_missing_as_1:avg_ratio{scaling_group=%q} %f %d\n", group, low, at.Unix())
	for k := range 2 {
		fmt.Fprintf(r, "group_uuid:scalehook_instance_in_service:max{scaling_group=%q,uuid=\"%s-%d\"} 1 %d\n", group, group, k, at.Unix())
		if k < readings {
			fmt.Fprintf(r, "uuid:libvirt_domain_cpu_utilization:ratio{uuid=\"%s-%d\"} %f %d\n", group, k, average, at.Unix())
		}
	}
}

// serve starts a Prometheus that has it, and returns its address.
func (r *recorded) serve(t *testing.T) string {
	t.Helper()
	r.WriteString("# EOF\n")
	dir := t.TempDir()
	for name, content := range map[string]string{"recorded.om": r.String(), "prometheus.yml": "global: {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	out, err := exec.CommandContext(t.Context(), testenv.Path(t, "promtool"), "tsdb", "create-blocks-from", "openmetrics", filepath.Join(dir, "recorded.om"), data).CombinedOutput()
	if err != nil {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	address := testenv.FreeAddress(t)
	testenv.Start(t, exec.Command(testenv.Path(t, "prometheus"), "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+data, "--storage.tsdb.retention.time=100y", "--web.listen-address="+address, "--log.level=warn"),
		testenv.OK("http://"+address+"/-/ready"))
	return address
}

func TestSuggestAsksARealPrometheus(t *testing.T) {
	t.Parallel()
	testenv.Need(t, testenv.Program("prometheus"), testenv.Program("promtool"))
	begin := time.Date(2026, 10, 5, 0, 0, 0, 0, time.UTC)
	var text recorded
	for minute := range 7 * 24 * 60 {
		at := begin.Add(time.Duration(minute) * time.Minute)
		// web: 0.4 of a VM to do by night, 1.8 by day.
		average := 0.2
		if at.Hour() >= 12 {
			average = 0.9
		}
		text.at("web", at, average, 2)
		// db: recorded for the last two days but three hours, and lacking a reading for
		// ten minutes.
		if day, hour := at.Day()-begin.Day(), at.Hour(); day >= 5 && (day != 5 || hour < 6 || hour >= 9) {
			n := 2
			if day == 6 && hour == 0 && at.Minute() < 10 {
				n = 1
			}
			text.at("db", at, 0.5, n)
		}
		if minute >= 7*24*60-30 {
			text.at("young", at, 0.5, 2)
		}
	}
	address := text.serve(t)
	file := filepath.Join(t.TempDir(), "scalehook.yml")
	if err := os.WriteFile(file, fmt.Appendf(nil, suggestConfig, address), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		var o, e bytes.Buffer
		args = append([]string{"suggest", "--config.file", file, "--until", "2026-10-11T23:59:00Z"}, args...)
		if code := execute(t.Context(), args, func(string) string { return "" }, &o, &e); code != want {
			t.Errorf("%q: exit code %d, want %d: %s", args, code, want, e.String())
		}
		return o.String(), e.String()
	}
	ask := func(want int, args ...string) (r suggest.Report) {
		t.Helper()
		o, _ := run(want, append(args, "-o", "json")...)
		if err := json.Unmarshal([]byte(o), &r); err != nil {
			t.Fatalf("%v in %q", err, o)
		}
		return r
	}

	t.Run("a week, in six pieces", func(t *testing.T) {
		got := ask(0, "web")
		if got.Samples != 10080 || got.Expected != 10080 || len(got.Gaps) != 0 || got.Incomplete != 0 || !got.From.Equal(begin) {
			t.Errorf("%d of %d samples from %s, %d gaps, %d incomplete", got.Samples, got.Expected, got.From, len(got.Gaps), got.Incomplete)
		}
		// Half of the samples are 20 %, the others 90 %; always two instances.
		if diff := cmp.Diff(&suggest.Spread{P50: 0.2, P95: 0.9, Max: 0.9}, got.CPU, cmpopts.EquateApprox(0, 1e-6)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(&suggest.Spread{P50: 2, P95: 2, Max: 2}, got.Instances); diff != "" {
			t.Error(diff)
		}
		// At noon one grows to three. The night takes two away, the first night one, since
		// there were two: 14 out and 13 in, over seven days.
		c := got.Configured
		if c == nil || c.ScaleOuts != 14 || c.ScaleIns != 13 || c.ScaleOutsPerDay != 2 || c.ScaleInsPerDay < 1.857 || c.ScaleInsPerDay > 1.858 {
			t.Errorf("replayed: %+v", c)
		}
		// One is saturated by 1.8 of a VM, for two minutes of each day.
		if s := got.Suggested; s == nil || s.High != 0.7 || s.Low != 0.3 || s.Short < 0.0006 || s.Short > 0.0015 {
			t.Errorf("suggested: %+v", s)
		}
	})
	t.Run("for people", func(t *testing.T) {
		o, _ := run(0, "web", "--low", "40%")
		for _, want := range []string{
			"group web from ", "10080 of 10080 samples, one per 1m0s", "average CPU           20 %  90 %  90 %", "instances in service  2     2     2",
			"these thresholds  70 %  40 %  ", "suggested         70 %  31 %  2.0      1.9",
			"2     1   80 %              35 %               31.5 %  would flap",
			"low 40 % at 2 instances: one fewer would have 80 %, which is not under high 70 %",
			"- assumed: a launch takes 1m0s",
		} {
			if !strings.Contains(o, want) {
				t.Errorf("no %q in:\n%s", want, o)
			}
		}
		page, err := os.ReadFile(cliPage)
		if err != nil {
			t.Fatal(err)
		}
		_, screen, _ := strings.Cut(string(page), "```text\ngroup web ")
		screen, _, _ = strings.Cut(screen, "\n```")
		_, screen, found := strings.Cut(screen, ": ") // after the times, which are local ones
		if !found || !strings.Contains(strings.ReplaceAll(o, "  \n", "\n"), ": "+screen+"\n") {
			t.Errorf("%s shows\n%s\nand the command prints\n%s", cliPage, screen, o)
		}
	})
	t.Run("gaps and missing readings are said", func(t *testing.T) {
		got := ask(0, "db")
		if got.Samples != 2880-180 || got.Incomplete != 10 || got.Suggested == nil || got.Suggested.Low != 0.31 {
			t.Errorf("%+v", got)
		}
		want := []suggest.Gap{{From: begin, To: begin.Add(5 * 24 * time.Hour)}, {From: begin.Add((5*24 + 6) * time.Hour), To: begin.Add((5*24 + 9) * time.Hour)}}
		if diff := cmp.Diff(want, got.Gaps); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(&suggest.Spread{P50: 0.5, P95: 0.5, Max: 0.5}, got.CPU); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("too little is said and nothing is concluded", func(t *testing.T) {
		got := ask(1, "young")
		if got.Enough || got.Configured != nil || got.Suggested != nil || got.Samples != 30 || got.CPU == nil {
			t.Errorf("%+v", got)
		}
		o, e := run(1, "unknown")
		if !strings.Contains(e, "nothing was recorded of group unknown: does Prometheus load the rules") || !strings.Contains(o, "0 of 10080 samples") {
			t.Errorf("%q, %q", o, e)
		}
	})
	t.Run("what is asked for wrongly", func(t *testing.T) {
		for _, test := range []struct {
			code int
			args []string
			want string
		}{
			{2, []string{"web", "--step", "30s"}, "no shorter than the rate window 1m"},
			{2, []string{"web", "--for", "week"}, "not a valid duration"},
			{2, []string{"web", "--for", "30s"}, "use 1 to"},
			{2, []string{"web", "--low", "80%"}, "low 80 % is not below high 70 %"},
			{2, []string{"web", "--high", "170"}, "not a share"},
			{2, []string{"web", "--until", "yesterday"}, "--until"},
			{1, []string{"wbe"}, `no group is called "wbe"`},
			{1, []string{"web", "--prometheus.url", "http://127.0.0.1:1"}, "ask Prometheus at http://127.0.0.1:1: "},
		} {
			if _, e := run(test.code, test.args...); !strings.Contains(e, test.want) {
				t.Errorf("%q: no %q in %q", test.args, test.want, e)
			}
		}
	})
}
