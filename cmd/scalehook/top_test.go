package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
	"github.com/scalehook/scalehook/internal/testenv"
)

// patience is how long something on a screen may take to come, on a busy machine.
const patience = 40 * time.Second

// pane is a terminal of tmux with a shell in it.
type pane struct {
	t      *testing.T
	socket string
}

// newPane starts a tmux of its own with a terminal of 80×24 and a shell that has
// the environment.
func newPane(t *testing.T, env ...string) *pane {
	t.Helper()
	dir, err := os.MkdirTemp("", "pane") //nolint:usetesting // the path of a socket must fit into 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &pane{t: t, socket: filepath.Join(dir, "s")}
	shell := ""
	t.Cleanup(func() { ended(t, shell) }) // it writes its history then
	server := exec.Command(testenv.Path(t, "tmux"), "-u", "-S", p.socket, "-f", "/dev/null", "-D")
	server.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TMUX=", "NO_COLOR=", "COLUMNS=", "LINES=")
	server.Env = append(server.Env, env...)
	testenv.Start(t, server, func() error {
		conn, err := net.Dial("unix", p.socket)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	p.tmux("new-session", "-d", "-x", "80", "-y", "24", "env", "PS1=shell> ", "ENV=", "sh")
	shell = strings.TrimSpace(p.tmux("display-message", "-p", "#{pane_pid}"))
	p.await("a shell", `^shell>`)
	return p
}

// ended waits for the end of a process that is no child of ours.
func ended(t *testing.T, pid string) {
	t.Helper()
	if pid == "" {
		return
	}
	testenv.Eventually(t, patience, "the end of process "+pid, func() error {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err == nil && !strings.Contains(string(stat), ") Z ") {
			return fmt.Errorf("it is there: %s", stat)
		}
		return nil
	})
}

func (p *pane) tmux(args ...string) string {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), testenv.Path(p.t, "tmux"), append([]string{"-u", "-S", p.socket}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// keys presses keys by their names at tmux.
func (p *pane) keys(names ...string) {
	p.t.Helper()
	for _, name := range names {
		p.tmux("send-keys", name)
	}
}

// run types a command line.
func (p *pane) run(line string) {
	p.t.Helper()
	p.tmux("send-keys", "-l", line)
	p.keys("Enter")
}

// screen is what is shown; with colours as escape sequences.
func (p *pane) screen(colours bool) string {
	p.t.Helper()
	args := []string{"capture-pane", "-p"}
	if colours {
		args = append(args, "-e")
	}
	return p.tmux(args...)
}

// await waits until the screen has a match of each pattern.
func (p *pane) await(what string, patterns ...string) {
	p.t.Helper()
	testenv.Eventually(p.t, patience, what, func() error {
		screen := p.screen(false)
		for _, pattern := range patterns {
			if !regexp.MustCompile("(?m)" + pattern).MatchString(screen) {
				return fmt.Errorf("no match of %q:\n%s", pattern, screen)
			}
		}
		return nil
	})
}

// The foreground colours, by their numbers in escape sequences.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

var sequence = regexp.MustCompile("\x1b\\[([0-9;]*)m")

// foregrounds takes the escape sequences out of a screen and returns the rest with
// the colour of each byte. A line goes on in the colour of the one before.
func foregrounds(screen string) (plain string, colours []string) {
	colour := ""
	paint := func(text string) {
		plain += text
		for range len(text) {
			colours = append(colours, colour)
		}
	}
	at := 0
	for _, m := range sequence.FindAllStringSubmatchIndex(screen, -1) {
		paint(screen[at:m[0]])
		at = m[1]
		for code := range strings.SplitSeq(screen[m[2]:m[3]], ";") {
			switch {
			case code == "", code == "0", code == "39":
				colour = ""
			case len(code) == 2 && code[0] == '3':
				colour = code
			}
		}
	}
	paint(screen[at:])
	return plain, colours
}

// painted waits until what a pattern finds, its group, has the colour.
func (p *pane) painted(colour, pattern string) {
	p.t.Helper()
	testenv.Eventually(p.t, patience, "the colour "+colour, func() error {
		screen := p.screen(true)
		plain, colours := foregrounds(screen)
		m := regexp.MustCompile("(?m)" + pattern).FindStringSubmatchIndex(plain)
		if m == nil {
			return fmt.Errorf("no match of %q:\n%s", pattern, screen)
		}
		for at := m[2]; at < m[3]; at++ {
			if colours[at] != colour {
				return fmt.Errorf("%q has the colour %q:\n%s", plain[m[2]:m[3]], colours[at], screen)
			}
		}
		return nil
	})
}

// gone waits until nothing on the screen matches.
func (p *pane) gone(what, pattern string) {
	p.t.Helper()
	testenv.Eventually(p.t, patience, what, func() error {
		if screen := p.screen(false); regexp.MustCompile("(?m)" + pattern).MatchString(screen) {
			return fmt.Errorf("a match of %q:\n%s", pattern, screen)
		}
		return nil
	})
}

// clean waits until the terminal is as a shell wants it.
func (p *pane) clean() {
	p.t.Helper()
	testenv.Eventually(p.t, 20*time.Second, "a terminal put back as it was", func() error {
		modes := strings.TrimSpace(p.tmux("display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{keypad_cursor_flag}"))
		if modes != "0 1 0 0" {
			return fmt.Errorf("alternate screen, cursor, mouse, keypad: %s\n%s", modes, p.screen(false))
		}
		return nil
	})
}

const topConfig = `owner: test
tokens:
  - {name: ops, role: operator, file: ops.token}
monitoring: {scrape_interval: 1s, evaluation_interval: 1s, rate_window: 30s}
prometheus: {url: "%s"}
providers:
  sim:
    simulated: {boot_time: 2s, shutdown_time: 100ms, drain_time: 4s, directory: world}
balancers:
  pool: {simulated: {provider: sim}}
groups:
  api: {mode: scale_out_only, min: 1, max: 3, port: 80, name: "api-{n}"}
  web: {mode: scale_out_only, min: 1, max: 3, high: 70%%, low: 20%%, warm_up: 1s, port: 80, name: "web-{n}"}
`

// readings answers as Prometheus does, with what a load of 1.6 vCPUs makes of the VMs
// of the group web, and next to nothing for others. A real one, scraped once a second,
// has no readings at all while the machine is busy with other tests.
type readings struct {
	server string // the address of scalehook
	mu     sync.Mutex
	known  []api.Group
}

func (r *readings) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := float64(time.Now().UnixMilli()) / 1000
	type sample struct {
		Metric map[string]string `json:"metric"`
		Value  [2]any            `json:"value"`
	}
	all := []sample{{map[string]string{}, [2]any{now, strconv.FormatFloat(now, 'f', 3, 64)}}}
	if strings.Contains(req.FormValue("query"), "utilization") {
		c, err := client.New(client.Options{URL: "http://" + r.server, HTTP: &http.Client{Timeout: time.Second}})
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		if groups, err := c.Groups(req.Context()); err == nil {
			r.known = groups
		}
		for _, g := range r.known {
			cpu := 0.02
			if g.Name == "web" {
				cpu = min(1, 1.6/float64(max(1, g.InService)))
			}
			for _, i := range g.Instances {
				for record, v := range map[string]float64{"uuid:libvirt_domain_cpu_utilization:ratio": cpu, "uuid:libvirt_domain_cpu_sample_timestamp_seconds:max": now} {
					all = append(all, sample{map[string]string{"__name__": record, "uuid": i.UUID}, [2]any{now, strconv.FormatFloat(v, 'f', 3, 64)}})
				}
			}
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": "vector", "result": all}})
}

// watched is a server with simulated VMs for somebody to look at.
type watched struct {
	dir, address string
}

// newWatched prepares the server; serve starts it.
func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{dir: t.TempDir(), address: testenv.FreeAddress(t)}
	prometheus := httptest.NewServer(&readings{server: w.address})
	t.Cleanup(prometheus.Close)
	for name, text := range map[string]string{"ops.token": "operator-token-0123456789\n", "scalehook.yml": fmt.Sprintf(topConfig, prometheus.URL)} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func (w *watched) serve(t *testing.T) *testenv.Process {
	t.Helper()
	cmd := exec.Command(testenv.Path(t, "scalehook"), "serve", "--config.file=scalehook.yml", "--storage.path=data", "--web.listen-address="+w.address)
	cmd.Dir = w.dir
	return testenv.Start(t, cmd, testenv.OK("http://"+w.address+"/-/ready"))
}

// env leads to the server, as its operator.
func (w *watched) env() []string {
	return []string{"SCALEHOOK_URL=http://" + w.address, "SCALEHOOK_TOKEN_FILE=" + filepath.Join(w.dir, "ops.token")}
}

// TestTopInATerminal drives the dashboard of a real server in a real terminal.
func TestTopInATerminal(t *testing.T) {
	t.Parallel()
	testenv.Need(t, testenv.Program("tmux"))
	w := newWatched(t)
	server := w.serve(t)

	p := newPane(t, w.env()...)
	p.run("echo before; scalehook top; echo code-$?")
	p.await("both groups with their VMs' CPU in colours", `^▸ api +1 +1 1-3 .*Stable`, `^  web +1 +1 1-3 `, `^  api-1 +in_service .*ready up`, `q quit`,
		`^Stable: .`)
	p.painted(green, `^  api-1 .* ([0-9]% ▼)`)
	p.painted(red, `^  web .* (100% ▲)`)
	if strings.Contains(p.screen(false), "before") {
		t.Error("it does not draw on the alternate screen")
	}

	// An order: selected, refused by oneself, confirmed, carried out.
	p.keys("j")
	p.await("the group web, and its chart", `^── web `, `^  web-1 +in_service`, `high 70% ╌`, `low 20% ╌`, `█$`)
	p.painted(red, `(high 70% ╌)`)
	p.painted(green, `(low 20% ╌)`)
	p.painted(red, `low 20% ╌*(█+)`)
	p.painted(red, `^  web-1 .* (100% ▲)`)
	p.keys("+")
	p.await("the question", `Scale out web: launch 1 more VM \(desired 1 to 2, max 3\)\? y/n`)
	p.keys("n")
	p.await("no order", `nothing was ordered`, `desired 1`)
	p.keys("+", "y")
	p.painted(red, `^(Scaling up): scale_out`)
	p.await("what it does and why, and the activity as it runs", `^Scaling up: scale_out for an order by ops`,
		`scale_out web-2 .*▸(booting|joining)`)
	p.await("the new VM, its activity and its end, and the timers", `will launch 1 \(order o-`, `^  web-2 +in_service`, `scale_out web-2 +done`, `desired 2`, `cooldown \d+s`)
	p.keys("+", "y")
	p.await("a third VM", `^  web-3 +in_service`)
	p.painted(yellow, `^  web-3 .* (5[0-9]%)`)
	p.painted(yellow, `Running VMs: 3, .* average CPU (5[0-9]%)`)
	p.keys("p", "y")
	p.await("the pause", `Stable, paused`, `paused until resumed by ops`)
	p.keys("p", "y")
	p.await("its end", `Stable:`)
	// Without room: what the server refuses is shown.
	p.keys("+", "y")
	p.await("the refusal", `refused: .*over max 3`)

	// A smaller terminal, and the old one again.
	p.tmux("resize-window", "-x", "60", "-y", "20")
	p.await("a frame of 60×20", `^  web-1 +in_service 5[0-9]% +ready +\d`, `h hand over  Tab / filter`)
	if lines := strings.Split(strings.TrimRight(p.screen(false), "\n"), "\n"); len(lines) > 20 {
		t.Errorf("%d lines", len(lines))
	}
	p.tmux("resize-window", "-x", "80", "-y", "24")
	p.await("a frame of 80×24", `q quit`)
	p.keys("?")
	p.await("help", `scale out by one`, `\? or Esc back`)
	p.keys("?")

	// The server goes away and comes back.
	server.Kill(t)
	p.await("how old it is", `^no answer since \d\d:\d\d:\d\d \(([3-9]|[1-9]\d)s\), (next try in|asking again)`, `data ([3-9]|[1-9]\d)s old`, `^  web-1 `)
	p.keys("+", "y")
	p.await("an order without an answer", `whether it was taken is not known`)
	p.keys("n")
	w.serve(t)
	testenv.Eventually(t, patience, "fresh data", func() error {
		if screen := p.screen(false); strings.Contains(screen, "no answer since") || !regexp.MustCompile(`data [01]s old`).MatchString(screen) {
			return errors.New(screen)
		}
		return nil
	})
	p.await("the VMs that stayed", `^  web-1 +in_service`, `^  web-3 +in_service`)

	// The list of groups is filtered, the filter kept and taken off.
	p.keys("/", "w", "e")
	p.await("what is typed", `^/we_`, `Enter keep the filter`, `GROUP .*/we`, `^▸ web `)
	p.gone("the other group", `^  api `)
	p.keys("Enter")
	p.await("a filter that is kept", `GROUP .*/we`, `q quit`)
	p.keys("Escape")
	p.await("all groups", `^  api `)

	// Tab leads to the VMs. The selected one goes, and not the newest, as the policy
	// would have it; once it is confirmed.
	p.keys("Tab")
	p.await("the selection among the VMs", `^▸ web-1 .* primary`, `^  web-2 `)
	p.keys("j", "-")
	p.await("the question", `^Scale in web: drain and remove web-2 \(desired 3 to 2, min 1\)\? y/n`, `y yes  n no`)
	p.keys("n")
	p.await("no order", `nothing was ordered`, `^▸ web-2 +in_service`)
	p.keys("-", "y")
	p.painted(green, `^(Scaling down): scale_in`)
	p.await("the scale-in under way", `^Scaling down: scale_in for an order by ops`, `will drain and remove 1 \(order o-`, `scale_in web-2 .*▸`)
	p.await("its end", `scale_in web-2 +done in `, `desired 2 `, `^Stable: `, `^. web-1 +in_service`, `^. web-3 +in_service`)
	p.gone("the VM that was scaled in", `^. web-2 `)

	// A handover of the selected VM, which is not the primary.
	p.keys("End")
	p.await("the last VM", `^▸ web-3 `)
	p.keys("h")
	p.await("the question", `^Hand over in web: put a successor in the place of web-3 then drain and remove`, `y yes  n no`)
	p.keys("n")
	p.await("no order", `nothing was ordered`, `^▸ web-3 +in_service`)
	p.keys("h", "y")
	// One VM alone could not carry the load, so the successor is a new one.
	p.await("the handover under way", `^Handing over: handover for an order by ops`, `handover web-3 to web-4 .*▸`, `will make sure of a successor`)
	p.await("the old one's drain", `^. web-3 +draining`, `drain of web-3 `, `^. web-4 +in_service`)
	p.await("its end", `handover web-3 to web-4 +done in `, `^Stable: `, `^. web-1 +in_service`, `^. web-4 +in_service`)
	p.gone("the VM that was handed over", `^. web-3 `)
	p.painted(red, `^. web-1 .* ([0-9]+% ▲)`)

	p.keys("q")
	p.clean()
	p.await("the shell and what it showed", `before`, `^code-0$`, `^shell> *$`)
	p.run("echo still-$((40+2))")
	p.await("a terminal that echoes", `^shell> echo still`, `^still-42`)

	// Without an operator's token an order is refused, and it says what helps. A
	// signal to end leaves the terminal clean, too.
	p.run("clear; SCALEHOOK_TOKEN_FILE= timeout --foreground -s TERM 60 scalehook top web --no-color; echo code-$?")
	p.await("the group", `^▸ web-1 +in_service`)
	if screen := p.screen(true); regexp.MustCompile("\x1b\\[[0-9;]*3[0-7]m").MatchString(screen) {
		t.Errorf("--no-color paints: %q", screen)
	}
	p.keys("-", "y")
	p.await("the refusal", `refused: `, `--token-file`)
	pid := regexp.MustCompile(`\d+`).FindString(p.tmux("display-message", "-p", "#{pane_pid}"))
	terminate(t, pid)
	p.clean()
	p.await("its end", `^code-\d+`)
}

// terminate sends SIGTERM to the program that runs in a shell, through the timeout
// that began it.
func terminate(t *testing.T, shell string) {
	t.Helper()
	children, err := os.ReadFile("/proc/" + shell + "/task/" + shell + "/children")
	if err != nil {
		t.Fatal(err)
	}
	for pid := range strings.FieldsSeq(string(children)) {
		if out, err := exec.CommandContext(t.Context(), "kill", "-TERM", pid).CombinedOutput(); err != nil {
			t.Fatalf("kill %s: %v\n%s", pid, err, out)
		}
	}
}
