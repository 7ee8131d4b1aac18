package webhook_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/testenv"
	"github.com/scalehook/scalehook/internal/testenv/browser"
)

// TestScreenshots takes the pictures of the documentation; -update writes them.
func TestScreenshots(t *testing.T) {
	testenv.Need(t, testenv.Program(browser.Program))
	if !*update { // what a letter looks like depends on the fonts of the machine
		checkPictures(t)
		return
	}
	address := "http://" + serve(t, worldServer(t, newWorld(), nil), "")
	tab := browser.Open(t)
	for _, picture := range []struct {
		name, path, scheme string
		width, height      int64
		all                bool
	}{
		{"page-overview-light", "/", "light", 1200, 820, false},
		{"page-group-dark", "/groups/web", "dark", 1200, 1000, false},
		{"page-phone", "/groups/web", "light", 360, 1500, false},
	} {
		tab.Size(picture.width, picture.height)
		tab.Prefer(map[string]string{"prefers-color-scheme": picture.scheme, "prefers-reduced-motion": "reduce"})
		tab.Go(address + picture.path)
		tab.Await("a live page", `document.getElementById("live").dataset.state === "on"`)
		if err := os.WriteFile(filepath.Join("../docs/images", picture.name+".png"), smaller(t, tab.Picture(picture.all)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if strange := tab.Strange(); len(strange) > 0 {
		t.Error(strange)
	}
}

// checkPictures holds the pictures in the documentation to what they may be.
func checkPictures(t *testing.T) {
	t.Helper()
	for _, name := range []string{"page-overview-light", "page-group-dark", "page-phone"} {
		info, err := os.Stat(filepath.Join("../docs/images", name+".png"))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > 150<<10 {
			t.Errorf("%s has %d bytes, want at most 150 kB", name, info.Size())
		}
	}
}

// smaller packs a picture as well as it can be.
func smaller(t *testing.T, data []byte) []byte {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&out, picture); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// axe returns the script that looks for what keeps people from using a page.
func axe(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	modules := testenv.Modules(ctx, t, "../internal/testenv/browser/axe", "../.cache")
	script, err := os.ReadFile(filepath.Join(modules, "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(script)
}

// violations is what axe finds, and tooWide what reaches over the right edge.
const (
	violations = `axe.run(document, {%s resultTypes: ["violations"]}).then(r => r.violations.map(v => v.id + ": " + v.help + ": " + v.nodes.map(n => n.html.slice(0, 200)).join(" | ")))`
	tooWide    = `[...document.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + "." + e.className + "#" + e.id).join(" ")`
)

// TestPagesInABrowser opens every page in light and dark, wide and on a phone, with
// texts of every kind in it: everybody can use it, nothing scrolls sideways, and the
// page's policy is never violated.
func TestPagesInABrowser(t *testing.T) {
	testenv.Need(t, testenv.Program(browser.Program), testenv.Program("npm"))
	script := axe(t)
	fine, bad := newWorld(), hostileWorld()
	good := "http://" + serve(t, worldServer(t, fine, nil), "")
	hostileServer := worldServer(t, bad, nil)
	hostileServer.Page().Note(noon, bad.views)
	evil := "http://" + serve(t, hostileServer, "")
	tab := browser.Open(t)
	for _, page := range []struct {
		name, address string
		opens         string // a script that opens what is not seen at first
	}{
		{"the overview", good + "/", ""},
		{"a group", good + "/groups/web", `for (const d of document.querySelectorAll("details")) d.open = true`},
		{"an order", good + "/groups/web", `document.querySelector('[data-order="scale-in"]').click()`},
		{"no such group", good + "/groups/ghost", ""},
		{"an overview of hostile names", evil + "/", ""},
		{"a hostile group", evil + "/groups/" + escape(hostile[1]), `for (const d of document.querySelectorAll("details")) d.open = true`},
		{"a group with a long name", evil + "/groups/" + escape(hostile[6]), ""},
	} {
		tab.Prefer(map[string]string{"prefers-color-scheme": "light", "prefers-reduced-motion": "reduce"})
		tab.Size(1280, 800)
		tab.Go(page.address)
		if page.name != "no such group" {
			tab.Await("a live page", `document.getElementById("live").dataset.state === "on"`)
		}
		if page.opens != "" {
			tab.Run(page.opens)
		}
		check := func(where, rules string) {
			t.Helper()
			for _, wrong := range browser.Look[[]string](tab, fmt.Sprintf(violations, rules)) {
				t.Errorf("%s, %s: %s", page.name, where, wrong)
			}
		}
		narrow := func(width int64) {
			t.Helper()
			tab.Size(width, 800)
			if n := browser.Look[int64](tab, "document.documentElement.scrollWidth"); n > width {
				t.Errorf("%s, %d wide: it scrolls sideways, to %d: %s", page.name, width, n, browser.Look[string](tab, tooWide))
			}
		}
		tab.Run(script)
		check("light", "")
		narrow(1280)
		tab.Prefer(map[string]string{"prefers-color-scheme": "dark", "prefers-reduced-motion": "reduce"})
		check("dark", `runOnly: ["color-contrast"],`)
		narrow(360)
		check("on a phone", `runOnly: ["color-contrast", "target-size", "table-fake-caption", "th-has-data-cells", "empty-table-header"],`)
		if browser.Look[bool](tab, "window.pwned !== undefined") {
			t.Errorf("%s: a text was run", page.name)
		}
	}
	if strange := tab.Strange(); len(strange) > 0 {
		t.Errorf("strange: %q", strange)
	}

	// What is planted against the policy must be seen, or none of this proves a thing.
	tab.Go(good + "/")
	tab.Run(`document.body.insertAdjacentHTML("beforeend", "<p style='color: red'>x</p>")`)
	testenv.Eventually(t, 20*time.Second, "the violation of the policy", func() error {
		if strange := tab.Strange(); len(strange) == 0 {
			return errors.New("nothing strange")
		}
		return nil
	})
}

// TestThePageIsReadWithoutScripts has scripts switched off.
func TestThePageIsReadWithoutScripts(t *testing.T) {
	testenv.Need(t, testenv.Program(browser.Program))
	address := "http://" + serve(t, worldServer(t, newWorld(), nil), "")
	tab := browser.Open(t)
	tab.NoScripts()
	tab.Go(address + "/groups/web")
	for selector, want := range map[string]string{"noscript": "Not live", "#instances": "web-3", "#explain": "settled", "#state": "Scaling up"} {
		tab.AwaitText(selector, want)
	}
	if browser.Look[bool](tab, `document.getElementById("orders").checkVisibility()`) {
		t.Error("orders are offered that nothing sends")
	}
	tab.Go(address + "/?q=check")
	if text := tab.Text("#groups"); !strings.Contains(text, "checkout") || strings.Contains(text, "search") || !strings.Contains(tab.Text("#filter"), "Apply") {
		t.Errorf("the filter without scripts: %s", text)
	}
}
