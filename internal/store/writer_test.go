package store_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
)

// held begins a change that holds the writer until release is called.
func held(t *testing.T, s *store.Store) (release func()) {
	t.Helper()
	inside, free := make(chan struct{}), make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := s.Change(t.Context(), "holder", func(state *scaling.State) error {
			state.NextNumber++
			close(inside)
			<-free
			return nil
		}); err != nil {
			t.Errorf("the holder: %v", err)
		}
	})
	<-inside
	return sync.OnceFunc(func() {
		close(free)
		wait.Wait()
	})
}

func TestACallerWhoseContextEndsWhileItWaitsIsNotRun(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"))
	release := held(t, s)
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.Change(ctx, "web", func(*scaling.State) error {
			t.Error("the function was run")
			return nil
		})
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) { // while the writer is still held
		t.Errorf("Change() = %v, want the context's error", err)
	}
	if _, err := s.View(t.Context(), "web"); err != nil { // a view waits for nobody
		t.Error(err)
	}
	release()
}

func TestAContextThatEndsAfterTheFunctionRanDoesNotHideTheOutcome(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"))
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Change(ctx, "web", func(state *scaling.State) error {
		state.Desired = 3
		cancel()
		return nil
	})
	if state, viewErr := s.View(t.Context(), "web"); err != nil || viewErr != nil || state.Desired != 3 {
		t.Errorf("Change() = %v, and the state has %d (%v)", err, state.Desired, viewErr)
	}
}

func TestChangesThatWaitAreFlushedTogetherAndClosedOnesAreTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path)
	release := held(t, s)
	const callers = 100
	var wait sync.WaitGroup
	var begun, done, refused atomic.Int64
	for range callers {
		wait.Go(func() {
			begun.Add(1)
			switch err := set(t.Context(), s, 1); {
			case err == nil:
				done.Add(1)
			case errors.Is(err, store.ErrClosed):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	for begun.Load() < callers {
		runtime.Gosched()
	}
	var before int
	db := shell(t, path)
	if err := db.QueryRow("SELECT commits FROM fence").Scan(&before); err != nil {
		t.Fatal(err)
	}
	release()
	wait.Wait()
	var after int
	if err := db.QueryRow("SELECT commits FROM fence").Scan(&after); err != nil {
		t.Fatal(err)
	}
	if done.Load() != callers || after-before > callers/2 {
		t.Errorf("%d changes in %d commits", done.Load(), after-before)
	}

	release = held(t, s)
	for range callers {
		wait.Go(func() {
			if err := set(t.Context(), s, 2); err == nil {
				done.Add(1)
			} else if errors.Is(err, store.ErrClosed) {
				refused.Add(1)
			} else {
				t.Error(err)
			}
		})
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	wait.Wait()
	if n := done.Load() + refused.Load(); n != 2*callers {
		t.Errorf("%d of %d callers were answered", n, 2*callers)
	}
}

func TestAFunctionThatEndsItsGoroutineLeavesTheStoreUsable(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "s.db"))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Change(t.Context(), "web", func(state *scaling.State) error {
			state.Desired = 9
			runtime.Goexit()
			return nil
		})
	}()
	<-ended
	if err := s.Change(t.Context(), "web", func(state *scaling.State) error {
		if state.Desired != 0 {
			t.Errorf("desired %d was kept", state.Desired)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestAFlushThatFailsIsAnUnknownOutcomeAndTheLogBeginsAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path)
	if err := set(t.Context(), s, 1); err != nil {
		t.Fatal(err)
	}
	s.FailFlush(2)
	for desired := 2; desired < 4; desired++ {
		err := set(t.Context(), s, desired)
		if err == nil || !errors.Is(err, syscall.EIO) || scaling.ClassOf(err) != scaling.Unknown {
			t.Errorf("Change() = %v of class %s, want EIO and unknown", err, scaling.ClassOf(err))
		}
	}
	// What the outcome was is seen by the next change, before which the log that
	// could not be flushed was emptied.
	if err := s.Change(t.Context(), "web", func(state *scaling.State) error {
		if info, err := os.Stat(path + "-wal"); err != nil || info.Size() != 0 {
			t.Errorf("the log has %d bytes, %v; want none", info.Size(), err)
		}
		if state.Desired != 3 {
			t.Errorf("desired is %d, want what the database has, 3", state.Desired)
		}
		state.Desired = 4
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if state, err := s.View(t.Context(), "web"); err != nil || state.Desired != 4 {
		t.Errorf("desired %d, %v", state.Desired, err)
	}
	s.Close()
	s = open(t, path)
	if state, err := s.View(t.Context(), "web"); err != nil || state.Desired != 4 || s.Origin() != store.OriginKept {
		t.Errorf("after a restart: desired %d, %v, origin %s (%s)", state.Desired, err, s.Origin(), s.Why())
	}
}
