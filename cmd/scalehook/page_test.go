package main

import (
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/internal/testenv/browser"
)

// TestThePageInABrowser drives the web page of a real server in a real browser, by
// the keyboard alone.
func TestThePageInABrowser(t *testing.T) {
	t.Parallel()
	testenv.Need(t, testenv.Program(browser.Program))
	dir := t.TempDir()
	address := testenv.FreeAddress(t)
	prometheus := httptest.NewServer(&readings{server: address})
	defer prometheus.Close()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("ops.token", "operator-token-0123456789\n")
	write("scalehook.yml", fmt.Sprintf(topConfig, prometheus.URL))
	serve := func() *testenv.Process {
		t.Helper()
		cmd := exec.Command(testenv.Path(t, "scalehook"), "serve", "--config.file=scalehook.yml", "--storage.path=data", "--web.listen-address="+address)
		cmd.Dir = dir
		return testenv.Start(t, cmd, testenv.OK("http://"+address+"/-/ready"))
	}
	server := serve()
	tab := browser.Open(t)
	focus := func(selector string) {
		t.Helper()
		for range 80 {
			if browser.Look[bool](tab, fmt.Sprintf("document.activeElement.matches(%q)", selector)) {
				return
			}
			tab.Press(kb.Tab)
		}
		t.Fatalf("no Tab leads to %s", selector)
	}
	focused := func(selector string) {
		t.Helper()
		tab.Await("the focus on "+selector, fmt.Sprintf("document.activeElement.matches(%q)", selector))
	}

	// What another client orders is seen, and the page was not loaded anew for it.
	tab.Go("http://" + address + "/")
	tab.AwaitText("#groups", "web")
	tab.Await("a live page", `document.getElementById("live").dataset.state === "on"`)
	tab.Run("window.sameNode = document.querySelector('#groups tbody tr:nth-child(2)')")
	order := exec.CommandContext(t.Context(), testenv.Path(t, "scalehook"), "scale-out", "web", "--url=http://"+address, "--token-file=ops.token")
	order.Dir = dir
	if out, err := order.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tab.AwaitText("#groups tr:nth-child(2) .count", "2")
	tab.AwaitText("#activities", "web-2")
	tab.Await("the same row", "window.sameNode?.isConnected && window.sameNode.innerText.includes('web')")
	tab.Press(kb.Tab)
	focused(".skip")
	tab.Press(kb.Enter)
	focused("#main")
	focus(`a[href="/groups/web"]`)
	tab.Press(kb.Enter)
	tab.AwaitText("#instances", "web-2")

	// An order needs a token, is asked about, and what it will do is said.
	tab.Await("a live page", `document.getElementById("live").dataset.state === "on"`)
	focus(`[data-order="scale-out"]`)
	tab.Press(kb.Enter)
	focused("#token-text")
	tab.Press("wrong-token-0123456789" + kb.Enter)
	tab.AwaitText("#token-wrong", "the bearer token is wrong")
	tab.Press("operator-token-0123456789" + kb.Enter)
	tab.AwaitText("#order-what", "Launch 1 more VM in web: desired 2 to 3, max 3.")
	tab.AwaitText("#who", "ops (operator)")
	focused("#order-count")
	tab.Press(kb.Escape)
	focused(`[data-order="scale-out"]`)
	focus("#table-cpu summary")
	tab.Press(kb.Enter)
	focusBack := func(selector string) {
		t.Helper()
		for range 80 {
			if browser.Look[bool](tab, fmt.Sprintf("document.activeElement.matches(%q)", selector)) {
				return
			}
			tab.Press(kb.Tab, chromedp.KeyModifiers(chromedp.ModifierShift))
		}
		t.Fatalf("no Shift-Tab leads to %s", selector)
	}
	focusBack(`[data-order="scale-out"]`)
	tab.Press(kb.Enter)
	focused("#order-count")
	tab.Press(kb.Enter)
	tab.AwaitText("#result", "web: will launch 1")
	focused(`[data-order="scale-out"]`)
	tab.AwaitText("#instances", "web-3")
	tab.AwaitText("#state", "3 of 3 desired")
	tab.Await("an open table, and the focus where it was", `document.getElementById("table-cpu").open && document.activeElement.matches('[data-order="scale-out"]')`)
	tab.AwaitText("#said", "web: ")

	// What the server refuses is said in its words.
	tab.Press(kb.Enter)
	tab.AwaitText("#order-what", "desired 3 to 4, max 3")
	tab.Press(kb.Enter)
	tab.AwaitText("#order-wrong", "over max 3")
	tab.Press(kb.Escape)

	// What comes of an order is not said in the dialog of the next one.
	for _, end := range []struct{ how, want string }{{"answer", "over max 3"}, {"fail", "Scale out, web: No answer"}} {
		focused(`[data-order="scale-out"]`)
		tab.Run(`{
			const real = fetch;
			window.fetch = (...asked) => new Promise((answer, fail) => {
				window.fetch = real;
				window.late = {answer: () => real(...asked).then(answer, fail), fail: () => fail(new TypeError("lost"))};
			});
		}`)
		tab.Press(kb.Enter)
		tab.AwaitText("#order-what", "desired 3 to 4, max 3")
		tab.Press(kb.Enter)
		tab.Await("an order under way", "window.late !== undefined")
		tab.Press(kb.Escape)
		tab.Run(`document.querySelector('[data-order="pause"]').click()`)
		tab.AwaitText("#order-title", "Pause")
		tab.Run("window.late." + end.how + "(); delete window.late")
		tab.Await("the end of the order", `!document.getElementById("order-go").hasAttribute("aria-busy")`)
		if wrong, button := tab.Text("#order-wrong"), tab.Text("#order-go"); wrong != "" || button != "Pause" {
			t.Errorf("the dialog of another order says %q, and %q on its button", wrong, button)
		}
		tab.AwaitText("#result", end.want)
		tab.Press(kb.Escape)
	}

	// One instance, and the group as a whole.
	focus(`[data-name="web-3"]`)
	tab.Press(kb.Enter)
	tab.AwaitText("#choose-title", "web-3")
	focus(`[data-choice="protect"]`)
	tab.Press(kb.Enter)
	tab.AwaitText("#order-what", "No scale-in chooses web-3 any more.")
	tab.Press(kb.Enter)
	tab.AwaitText("#instances", "protected")
	focusBack(`[data-order="pause"]`)
	tab.Press(kb.Enter)
	focus("#order-reason")
	tab.Press("<b>work</b> on the host" + kb.Enter)
	tab.AwaitText("#state", "Stable, paused")
	tab.AwaitText("#timers", "paused until resumed by ops@127.0.0.1: <b>work</b> on the host")

	// The server goes away, an order finds no answer, and both come back. A second tab
	// of the same browser knows no token.
	server.Kill(t)
	tab.AwaitText("#lost", "Connection lost since")
	tab.AwaitText("#instances", "web-3")
	focus(`[data-order="resume"]`)
	tab.Press(kb.Enter)
	tab.AwaitText("#order-what", "automatic steps begin again")
	tab.Press(kb.Enter)
	tab.AwaitText("#order-wrong", "No answer: whether it was taken is not known")
	serve()
	tab.Await("a live page again", `document.getElementById("live").dataset.state === "on" && document.getElementById("lost").hidden`)
	tab.AwaitText("#order-go", "Send it again")
	tab.Press(kb.Enter)
	tab.AwaitText("#result", "web is resumed")
	tab.Await("no pause", `!document.getElementById("state").innerText.includes("paused")`)
	if got := tab.Text("#instances"); got == "" {
		t.Error("the instances are gone")
	}
	other := tab.Another()
	other.Go("http://" + address + "/groups/web")
	other.AwaitText("#sign", "Sign in")
	if strange := append(tab.Strange(), other.Strange()...); len(strange) > 0 {
		t.Errorf("strange: %q", strange)
	}
	focusBack("#sign")
	tab.Press(kb.Enter)
	tab.AwaitText("#sign", "Sign in")
	if kept := browser.Look[string](tab, `JSON.stringify([sessionStorage, localStorage, document.cookie])`); kept != `[{},{},""]` {
		t.Errorf("after the sign-out the browser keeps %s", kept)
	}
}
