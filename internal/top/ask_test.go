package top

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/client"
)

func TestWhatIsAsked(t *testing.T) {
	f := &fake{groups: []api.Group{web(0.5), quiet("api", 0.1)}}
	m := clocked(f, nil)
	m.Update(m.ask()())
	press(m, "j")
	m.Update(m.ask()())
	one := clocked(f, func(o *Options) { o.Group = "web" })
	one.Update(one.ask()())
	want := []string{"groups", "activities web 20", "groups", "activities api 20", "group web", "activities web 20"}
	if diff := cmp.Diff(want, f.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

// TestAServerThatDoesNotAnswerIsAskedLessOften, never twice at a time, and as often
// as before once it answers.
func TestAServerThatDoesNotAnswerIsAskedLessOften(t *testing.T) {
	m := clocked(&fake{}, nil)
	m.life.end() // the commands themselves do nothing
	now := noon
	m.asking = false
	var waits []int
	ask := func(err error) {
		t.Helper()
		for s := 1; ; s++ {
			now = now.Add(time.Second)
			m.Update(tickMsg{now})
			if m.asking {
				waits = append(waits, s)
				if _, cmd := m.Update(tickMsg{now.Add(time.Minute)}); cmd() != nil {
					t.Error("it is asked again before it has answered")
				}
				m.Update(answerMsg{at: now, groups: []api.Group{}, err: err})
				return
			}
			if s > 60 {
				t.Fatal("it is not asked again")
			}
		}
	}
	for range 7 {
		ask(client.ErrUnreachable)
	}
	ask(nil)
	ask(nil)
	if diff := cmp.Diff([]int{1, 1, 2, 4, 8, 15, 15, 15, 1}, waits); diff != "" {
		t.Errorf("seconds between questions (-want +got):\n%s", diff)
	}
}

func TestASlowServerIsGivenTime(t *testing.T) {
	m := clocked(&fake{}, nil)
	m.Update(answerMsg{at: noon, took: 4 * time.Second})
	if got := m.next.Sub(noon); got != 4*time.Second {
		t.Errorf("asked again after %v", got)
	}
}

func TestTimersGoByTheServersClock(t *testing.T) {
	m := clocked(nil, func(o *Options) { o.Group = "web" })
	size(m, 100, 30)
	// The server is a minute ahead, so half a minute of the 90 s of cooldown are left.
	m.Update(answerMsg{at: noon, groups: []api.Group{web(0.5)}, clock: in(time.Minute)})
	for _, want := range []string{"its clock is 1m00s ahead", "cooldown 30s"} {
		if !strings.Contains(text(m), want) {
			t.Errorf("there is no %q:\n%s", want, text(m))
		}
	}
	m.Update(answerMsg{at: noon, groups: []api.Group{web(0.5)}, clock: in(-2 * time.Second)})
	if strings.Contains(text(m), "its clock") {
		t.Errorf("what the header's second accounts for is taken for a difference:\n%s", text(m))
	}
}

// hung answers nothing until it is told to stop.
type hung struct{ fake }

func (*hung) Groups(ctx context.Context) ([]api.Group, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestEveryQuestionHasADeadline(t *testing.T) {
	m := clocked(&hung{}, func(o *Options) { o.Timeout = 20 * time.Millisecond })
	msg, ok := m.ask()().(answerMsg)
	if !ok || !errors.Is(msg.err, context.DeadlineExceeded) {
		t.Errorf("answer %+v", msg)
	}
}

// terminal runs the dashboard over pipes and returns what it wrote once the keys
// were pressed or the context was done.
func terminal(ctx context.Context, t *testing.T, s Server, keys string) string {
	t.Helper()
	in, typed, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer typed.Close()
	if _, err := typed.WriteString(keys); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	opts := Options{Server: s, URL: "http://x", Interval: time.Hour, Timeout: time.Hour, Yellow: 0.3, Color: true}
	if err := Run(ctx, opts, in, &out, []string{"TERM=xterm-256color"}); err != nil {
		t.Error(err)
	}
	return out.String()
}

func TestRunLeavesNothingBehind(t *testing.T) {
	// Quit in the middle of a question that would last an hour.
	t.Run("q", func(t *testing.T) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		out := terminal(t.Context(), t, &hung{}, "q")
		if !strings.Contains(out, "\x1b[?1049l") || !strings.Contains(out, "\x1b[?25h") {
			t.Errorf("the terminal is not put back: %q", out)
		}
	})
	t.Run("the context's end", func(t *testing.T) {
		defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		terminal(ctx, t, &hung{}, "")
	})
}

func TestACommandThatWasNeverStartedIsNotWaitedFor(t *testing.T) {
	m := clocked(&fake{}, nil)
	cmd := m.ask()
	m.life.end()
	if msg := cmd(); msg != nil {
		t.Errorf("it brings %v after the end", msg)
	}
}

func TestOnce(t *testing.T) {
	f := &fake{groups: []api.Group{web(0.5), quiet("api", 0.1)}}
	var out bytes.Buffer
	opts := Options{Server: f, URL: "http://x", Interval: time.Second, Timeout: time.Second, Yellow: 0.3, Color: true, Now: func() time.Time { return in(time.Minute) }}
	if err := Once(t.Context(), opts, 80, &out); err != nil {
		t.Fatal(err)
	}
	golden(t, "testdata/once.txt", out.String())
	if strings.Contains(out.String(), "\x1b") {
		t.Error("it is not plain")
	}
	f.err = client.ErrUnreachable
	if err := Once(t.Context(), opts, 80, &out); !errors.Is(err, client.ErrUnreachable) {
		t.Errorf("error %v", err)
	}
}
