package libvirt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"go.uber.org/goleak"
	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/testenv"
)

func TestMain(m *testing.M) {
	// libvirt's event loop belongs to the process and cannot be ended.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/scalehook/scalehook/internal/provider/libvirt.runEventLoop"))
}

func testManager(t *testing.T, connections int) *manager {
	t.Helper()
	testHost(t)
	cfg := DefaultConfig()
	cfg.URI, cfg.MaxConnections = testURI, connections
	m := newManager(cfg, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		if err := m.close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// hang leaves a call behind that returns when the returned function is called.
func hang(t *testing.T, m *manager, key string, kind callKind) (end func()) {
	t.Helper()
	s, err := m.session(testContext(t), key, false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	err = change(ctx, s, kind, "hang", func(context.Context, *libvirt.Connect) error {
		cancel()
		<-ended
		return nil
	})
	if err == nil || scaling.ClassOf(err) != scaling.Unknown {
		t.Fatalf("%v, want unknown", err)
	}
	if _, err := query(testContext(t), s, "go on", func(context.Context, *libvirt.Connect) (int, error) { return 1, nil }); scaling.ClassOf(err) != scaling.Temporary {
		t.Fatalf("another call of the same session: %v", err)
	}
	return func() { close(ended) }
}

func (m *manager) try(ctx context.Context, key string, power bool) error {
	s, err := m.session(ctx, key, power)
	if err != nil {
		return err
	}
	s.release()
	return nil
}

func TestCallLeftBehindHoldsBackItsKeyAloneUntilItReturns(t *testing.T) {
	for name, c := range map[string]struct {
		kind  callKind
		power bool // whether a power cut may be tried beside it
	}{
		"a call that waits for libvirtd": {hostCall, false},
		"a call that waits for a guest":  {guestCall, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := testManager(t, 4)
			ctx := testContext(t)
			end := hang(t, m, "a", c.kind)
			if err := m.try(ctx, "a", false); err == nil || scaling.ClassOf(err) != scaling.Temporary {
				t.Errorf("the same key: %v", err)
			}
			if err := m.try(ctx, "a", true); (err == nil) != c.power {
				t.Errorf("a power cut: %v", err)
			}
			if err := m.try(ctx, "b", false); err != nil {
				t.Errorf("another key: %v", err)
			}
			end()
			testenv.Eventually(t, 10*time.Second, "the key to be free", func() error { return m.try(ctx, "a", false) })
		})
	}
}

func TestConnectionsAreBoundedAndWaitingForOneEnds(t *testing.T) {
	m := testManager(t, 2)
	ends := []func(){hang(t, m, "a", hostCall), hang(t, m, "b", hostCall)}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := m.try(ctx, "c", false); err == nil || scaling.ClassOf(err) != scaling.Temporary || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	for _, end := range ends {
		end()
	}
	if err := m.try(testContext(t), "c", false); err != nil {
		t.Error(err)
	}
}

func TestHostThatCannotBeReachedIsTemporaryAndNoFailedStart(t *testing.T) {
	testenv.Need(t, testenv.Library("libvirt.so.0"))
	cfg := DefaultConfig()
	cfg.URI = "qemu+unix:///system?socket=" + t.TempDir() + "/none"
	p, err := New(cfg, testOwner, map[string]Template{"web": testTemplate()}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.List(testContext(t))
	if err == nil || scaling.ClassOf(err) != scaling.Temporary {
		t.Errorf("%v (%s)", err, scaling.ClassOf(err))
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err = p.List(testContext(t)); scaling.ClassOf(err) != scaling.Temporary {
		t.Errorf("after Close: %v", err)
	}
}

func TestContextThatEndedIsTemporaryBeforeAChangeAndUnknownAfterOne(t *testing.T) {
	m := testManager(t, 2)
	s, err := m.session(testContext(t), "a", false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	nothing := func(context.Context, *libvirt.Connect) error { return nil }
	if err := change(ended, s, hostCall, "x", nothing); scaling.ClassOf(err) != scaling.Temporary {
		t.Errorf("before a change: %v", err)
	}
	if err := change(testContext(t), s, hostCall, "x", nothing); err != nil {
		t.Fatal(err)
	}
	if err := change(ended, s, hostCall, "x", nothing); scaling.ClassOf(err) != scaling.Unknown {
		t.Errorf("after a change: %v", err)
	}
}

func TestAnswerThatCannotBeReadIsPermanent(t *testing.T) {
	m := testManager(t, 2)
	s, err := m.session(testContext(t), "a", false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.release()
	for want, cause := range map[scaling.Class]error{
		scaling.Permanent: errors.New("no XML"),
		scaling.Conflict:  scaling.Errorf(scaling.Conflict, "refused"),
		scaling.NotFound:  fmt.Errorf("wrapped: %w", libvirt.Error{Code: libvirt.ERR_NO_DOMAIN}),
	} {
		err := change(testContext(t), s, hostCall, "x", func(context.Context, *libvirt.Connect) error { return cause })
		if scaling.ClassOf(err) != want || !errors.Is(err, cause) {
			t.Errorf("%v: %s, want %s", cause, scaling.ClassOf(err), want)
		}
	}
}
