// Package browser drives a real Chromium in tests: it opens pages, presses keys and
// looks at what is there, and notes every violation of a page's security policy,
// every error of its scripts, and every request that leaves the page's own origin.
package browser

import (
	"context"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// Program is what Open starts.
const Program = "chromium"

// patience is how long something may take until it is seen; the machine may be busy.
const patience = 40 * time.Second

// Tab is a page in a browser.
type Tab struct {
	t   testing.TB
	ctx context.Context //nolint:containedctx // a tab is its context

	mu      sync.Mutex
	origin  string
	strange []string
}

// Open starts a browser that ends with the test, with a profile of its own.
func Open(t testing.TB) *Tab {
	t.Helper()
	path, err := exec.LookPath(Program)
	if err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("no-proxy-server", true), chromedp.UserDataDir(t.TempDir()))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	return newTab(t, ctx, func() {
		end, done := context.WithTimeout(ctx, 10*time.Second)
		defer done()
		_ = chromedp.Cancel(end) // a browser that does not end by itself is killed
		cancel()
		stop()
	})
}

// Another opens a further tab in the same browser, with storage of its own for the
// session, as a person's second tab has.
func (tab *Tab) Another() *Tab {
	tab.t.Helper()
	ctx, cancel := chromedp.NewContext(tab.ctx)
	return newTab(tab.t, ctx, cancel)
}

func newTab(t testing.TB, ctx context.Context, end func()) *Tab { //nolint:revive // as testenv's own functions
	t.Helper()
	tab := &Tab{t: t, ctx: ctx}
	noted := make(chan struct{})
	t.Cleanup(func() {
		end()
		<-noted
	})
	if err := chromedp.Do(ctx); err != nil {
		close(noted)
		t.Fatalf("start the browser: %v", err)
	}
	console := chromedp.Console(ctx)
	go func() {
		defer close(noted)
		for m, err := range console {
			if err != nil {
				return
			}
			// What a request was answered is the test's own business.
			if (m.IsException() || m.Type == "error") && m.Source != "network" {
				tab.add("console: " + m.Text)
			}
		}
	}()
	if err := chromedp.Listen(ctx, tab.note); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, audits.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	return tab
}

func (tab *Tab) add(what string) {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.strange = append(tab.strange, what)
}

func (tab *Tab) note(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		tab.mu.Lock()
		foreign := err != nil || u.Scheme != "data" && u.Scheme+"://"+u.Host != tab.origin
		tab.mu.Unlock()
		if foreign {
			tab.add("request to " + e.Request.URL)
		}
	case *audits.EventIssueAdded:
		if d := e.Issue.Details.ContentSecurityPolicyIssueDetails; d != nil {
			tab.add(fmt.Sprintf("content security policy: %s %s", d.ViolatedDirective, d.BlockedURL))
		}
	}
}

// Strange returns what was noted since the tab was opened and should not be.
func (tab *Tab) Strange() []string {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return append([]string{}, tab.strange...)
}

func (tab *Tab) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		tab.t.Fatalf("%s: %v", what, err)
	}
}

// Go opens an address. Requests to any other origin are strange from now on.
func (tab *Tab) Go(address string) {
	tab.t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		tab.t.Fatal(err)
	}
	tab.mu.Lock()
	tab.origin = u.Scheme + "://" + u.Host
	tab.mu.Unlock()
	tab.do("open "+address, chromedp.Navigate(address))
}

// Size sets how large the tab is, in CSS pixels.
func (tab *Tab) Size(width, height int64) {
	tab.t.Helper()
	tab.do("resize", chromedp.EmulateViewport(width, height))
}

// Prefer says what the person prefers, as media features.
func (tab *Tab) Prefer(features map[string]string) {
	tab.t.Helper()
	var p emulation.SetEmulatedMediaParams
	for name, value := range features {
		p.Features = append(p.Features, &emulation.MediaFeature{Name: name, Value: value})
	}
	if _, err := chromedp.Call(tab.ctx, emulation.SetEmulatedMedia, p); err != nil {
		tab.t.Fatal(err)
	}
}

// NoScripts switches the pages' scripts off.
func (tab *Tab) NoScripts() {
	tab.t.Helper()
	if _, err := chromedp.Call(tab.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		tab.t.Fatal(err)
	}
}

// Press presses keys; see the package kb for those that are no letters.
func (tab *Tab) Press(keys string, how ...chromedp.KeyOption) {
	tab.t.Helper()
	tab.do("press a key", chromedp.KeyEvent(keys, how...))
}

// Run runs a script with whatever rights a person at the console has; the page's
// policy does not bind it.
func (tab *Tab) Run(script string) {
	tab.t.Helper()
	tab.do("run a script", chromedp.Evaluate[chromedp.Void](script))
}

// Look returns what an expression says; a promise is waited for.
func Look[T any](tab *Tab, expression string) T {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		tab.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// Text is what is shown of the first element of a selector; empty without one.
func (tab *Tab) Text(selector string) string {
	tab.t.Helper()
	return Look[string](tab, fmt.Sprintf("(document.querySelector(%q)?.innerText ?? '').replace(/\\s+/g, ' ').trim()", selector))
}

// Await waits until an expression holds.
func (tab *Tab) Await(what, expression string) {
	tab.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(tab.ctx, patience)
		// A page that is being loaded anew has no answer.
		holds, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("Boolean("+expression+")"))
		cancel()
		if err == nil && holds {
			return
		}
		if time.Now().After(end) {
			tab.t.Fatalf("%s is not seen (%v): %s\n%s", what, err, expression, strings.Join(tab.Strange(), "\n"))
		}
	}
}

// AwaitText waits until what is shown of an element has a text in it.
func (tab *Tab) AwaitText(selector, text string) {
	tab.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		shown := tab.Text(selector)
		if strings.Contains(shown, text) {
			return
		}
		if time.Now().After(end) {
			tab.t.Fatalf("%s shows no %q but %q", selector, text, shown)
		}
	}
}

// Picture returns what is seen as a PNG; all of a page or what fits.
func (tab *Tab) Picture(all bool) []byte {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	action := chromedp.CaptureScreenshot()
	if all {
		action = chromedp.FullScreenshot(100)
	}
	png, err := chromedp.Run(ctx, action)
	if err != nil {
		tab.t.Fatalf("take a picture: %v", err)
	}
	return png
}
