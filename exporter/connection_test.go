package exporter

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// rig is a connection to a libvirt whose calls block until they are answered.
type rig struct {
	*connection[int]

	mu            sync.Mutex
	opened, ended int
	calls         int
	openErr       error
	broken        map[int]bool // calls, by number from 1, that find their session broken
	answer        chan int
}

func newRig() *rig {
	r := &rig{answer: make(chan int), broken: map[int]bool{}}
	r.connection = newConnection[int]("test", r.openSession, 10*time.Second, discard())
	return r
}

func (r *rig) openSession() (session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.openErr != nil {
		return nil, r.openErr
	}
	r.opened++
	return &fakeSession{close: func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.ended++
	}}, nil
}

// call blocks until the rig is told the answer.
func (r *rig) call(session) (int, error) {
	r.mu.Lock()
	r.calls++
	broken := r.broken[r.calls]
	r.mu.Unlock()
	if broken {
		return 0, errBroken
	}
	return <-r.answer, nil
}

func (r *rig) want(t *testing.T, opened, closed, calls, hung int) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.opened != opened || r.ended != closed || r.calls != calls {
		t.Errorf("opened %d, closed %d, calls %d; want %d, %d, %d", r.opened, r.ended, r.calls, opened, closed, calls)
	}
	if got := r.hungCalls(); got != hung {
		t.Errorf("%d calls hang, want %d", got, hung)
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestScrapesAtOnceShareOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		var done sync.WaitGroup
		for range 3 {
			done.Go(func() {
				if got, err := r.do(within(t, time.Second), r.call); got != 7 || err != nil {
					t.Errorf("got %d, %v; want 7", got, err)
				}
			})
		}
		synctest.Wait()
		r.answer <- 7
		done.Wait()
		r.want(t, 1, 0, 1, 0)
		if err := r.close(within(t, time.Second)); err != nil {
			t.Error(err)
		}
		r.want(t, 1, 1, 1, 0)
	})
}

func TestScrapeJoinsCallThatAnEarlierOneGaveUpOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		if _, err := r.do(within(t, time.Second), r.call); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the deadline", err)
		}
		go func() {
			time.Sleep(time.Second)
			r.answer <- 7
		}()
		if got, err := r.do(within(t, 5*time.Second), r.call); got != 7 || err != nil {
			t.Errorf("got %d, %v; want 7", got, err)
		}
		r.want(t, 1, 0, 1, 0)
	})
}

func TestHungCallIsLeftBehindAndItsConnectionClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		_, _ = r.do(within(t, time.Second), r.call)
		time.Sleep(10 * time.Second)
		_, _ = r.do(within(t, time.Second), r.call)
		r.want(t, 2, 0, 2, 1)
		// Both calls wait for an answer; the order in which they get it does not
		// matter to what is left: one connection in use, one closed.
		r.answer <- 1
		r.answer <- 2
		r.want(t, 2, 1, 2, 0)
		go func() { r.answer <- 3 }()
		if got, err := r.do(within(t, time.Second), r.call); got != 3 || err != nil {
			t.Errorf("got %d, %v; want 3", got, err)
		}
		r.want(t, 2, 1, 3, 0)
	})
}

func TestHungCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		for range 20 {
			_, _ = r.do(within(t, time.Second), r.call)
			time.Sleep(15 * time.Second)
		}
		r.want(t, maxHung+1, 0, maxHung+1, maxHung)
		if err := r.close(within(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("closing while calls hang: got %v, want the deadline", err)
		}
		for range maxHung + 1 {
			r.answer <- 1
		}
		r.want(t, maxHung+1, maxHung+1, maxHung+1, 0)
		if _, err := r.do(t.Context(), r.call); !errors.Is(err, errClosed) {
			t.Errorf("after closing: got %v, want %v", err, errClosed)
		}
	})
}

func TestHungOpeningIsBoundedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opening atomic.Int32
		release := make(chan struct{})
		c := newConnection[int]("test", func() (session, error) {
			opening.Add(1)
			<-release
			return nil, errors.New("refused")
		}, 10*time.Second, discard())
		for range 20 {
			_, _ = c.do(within(t, time.Second), func(session) (int, error) { return 1, nil })
			time.Sleep(15 * time.Second)
		}
		synctest.Wait()
		if got := opening.Load(); got != maxHung+1 {
			t.Errorf("%d openings are under way, want %d", got, maxHung+1)
		}
		close(release)
		synctest.Wait()
		if got := c.hungCalls(); got != 0 {
			t.Errorf("%d calls hang, want none", got)
		}
	})
}

func TestRestartedDaemonCostsNoScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.broken[2] = true
		for want := range 3 {
			go func() { r.answer <- want }()
			if got, err := r.do(within(t, time.Second), r.call); got != want || err != nil {
				t.Errorf("got %d, %v; want %d", got, err, want)
			}
		}
		r.want(t, 2, 1, 4, 0)
	})
}

func TestSessionThatIsBrokenFromTheStartIsNotTriedTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.broken[1] = true
		if _, err := r.do(within(t, time.Second), r.call); !errors.Is(err, errBroken) {
			t.Errorf("got %v, want %v", err, errBroken)
		}
		r.want(t, 1, 1, 1, 0)
	})
}

func TestFailedOpeningIsTriedAgainByTheNextScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.openErr = errors.New("refused")
		if _, err := r.do(within(t, time.Second), r.call); !errors.Is(err, r.openErr) {
			t.Errorf("got %v, want %v", err, r.openErr)
		}
		r.openErr = nil
		go func() { r.answer <- 7 }()
		if got, err := r.do(within(t, time.Second), r.call); got != 7 || err != nil {
			t.Errorf("got %d, %v; want 7", got, err)
		}
		r.want(t, 1, 0, 1, 0)
	})
}

func TestSecondCallAnswersForTheFirstThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		first := make(chan struct{})
		var calls atomic.Int32
		call := func(session) (int, error) {
			if calls.Add(1) == 1 {
				<-first
				return 1, nil
			}
			return 2, nil
		}
		start := time.Now()
		if got, err := r.doAgain(within(t, 4*time.Second), call); got != 2 || err != nil {
			t.Errorf("got %d, %v; want 2", got, err)
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("the second call was made after %s, want half of the scrape's 4s", took)
		}
		r.want(t, 2, 0, 0, 1)
		close(first)
		r.want(t, 2, 1, 0, 0)
	})
}

func TestSlowCallStillAnswersBesideItsSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		call := func(session) (int, error) {
			time.Sleep(3 * time.Second)
			return 1, nil
		}
		start := time.Now()
		if got, err := r.doAgain(within(t, 4*time.Second), call); got != 1 || err != nil {
			t.Errorf("got %d, %v; want 1", got, err)
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("answered after %s, want the first call's 3s", took)
		}
		time.Sleep(5 * time.Second)
		r.want(t, 2, 1, 0, 0)
	})
}
