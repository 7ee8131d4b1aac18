package delivery

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/scalehook/scalehook/internal/api"
	"github.com/scalehook/scalehook/internal/scaling"
)

// Journal is what the store knows of activities that ended and of who was told.
type Journal interface {
	// Endings returns the activities that ended after the position, in the order of
	// their positions, at most limit.
	Endings(ctx context.Context, after int64, limit int) ([]scaling.Ending, error)
	// LastEnding returns the newest position; 0 for none.
	LastEnding(ctx context.Context) (int64, error)
	// Told returns the position up to which each receiver needs to hear of nothing.
	Told(ctx context.Context) (map[string]int64, error)
	// SetTold replaces what Told returns, durably.
	SetTold(ctx context.Context, told map[string]int64) error
}

// Options are what New needs.
type Options struct {
	Journal Journal
	// Convert makes an activity what the API shows of it.
	Convert func(scaling.Activity) api.Activity
	// Owner, Host and ExternalURL say in each delivery which server it is from.
	Owner, Host, ExternalURL string
	// Version is that of the program, for the User-Agent.
	Version string
	Logger  *slog.Logger
	// Registerer takes the metrics; nil for none.
	Registerer prometheus.Registerer
}

// Service delivers to all receivers. Use may be called at any time.
type Service struct {
	Options

	agent   string
	metrics *metrics
	changed chan struct{}
	last    atomic.Int64 // newest position that is known

	broken sync.Map // positions of activities that cannot be read, which was said

	mu       sync.Mutex
	want     []*receiver
	couriers map[string]*courier // those that run; changed by Run alone

	// Run's own.
	told   map[string]int64 // as the store has it; nil: not known yet
	silent bool             // that the store fails was said
}

const (
	// every is how often the store is asked for something new.
	every = time.Second
	// grace is how long tries under way may go on when the server stops.
	grace = 3 * time.Second
	// storeTime bounds one question to the store.
	storeTime = 5 * time.Second
)

// New makes a service without receivers.
func New(o Options) (*Service, error) {
	if o.Journal == nil || o.Convert == nil || o.Logger == nil {
		return nil, errors.New("delivery: Journal, Convert and Logger are needed")
	}
	s := &Service{
		Options: o, agent: "scalehook/" + o.Version, changed: make(chan struct{}, 1),
		couriers: map[string]*courier{},
	}
	s.metrics = newMetrics(s)
	if o.Registerer != nil {
		for _, c := range []prometheus.Collector{s.metrics.deliveries, s.metrics.tries, s.metrics} {
			if err := o.Registerer.Register(c); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// Use replaces the receivers. One that did not change goes on; one that changed is
// told of what it has not heard of yet under its new settings; one that is new is
// told of what ends from now on; one that is gone is forgotten.
func (s *Service) Use(p Prepared) {
	s.mu.Lock()
	s.want = p.receivers
	s.mu.Unlock()
	poke(s.changed)
}

// Run delivers until ctx ends. It then lets tries under way go on for a moment,
// and notes how far each receiver was told. It fails for nothing: what the store
// does not say now it may say later.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		s.look(ctx)
		select {
		case <-ctx.Done():
			s.stopAll()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTime)
			defer cancel()
			s.note(last)
			return nil
		case <-tick.C:
		case <-s.changed:
		}
	}
}

// look finds out what is new, brings the couriers to what is wanted, and notes how
// far they are.
func (s *Service) look(running context.Context) {
	ctx, cancel := context.WithTimeout(running, storeTime)
	defer cancel()
	s.mu.Lock()
	want := s.want
	s.mu.Unlock()
	if len(want) == 0 && len(s.couriers) == 0 && s.told != nil && len(s.told) == 0 {
		return // nobody to tell: the store is left alone
	}
	last, err := s.Journal.LastEnding(ctx)
	if err == nil && s.told == nil {
		s.told, err = s.Journal.Told(ctx)
	}
	if running.Err() != nil {
		return
	}
	if err != nil {
		s.complain(ctx, "the activities that ended cannot be looked for; deliveries wait", err)
		return
	}
	news := s.last.Swap(last) != last
	s.bring(running, want, last)
	if news {
		for _, c := range s.couriers {
			poke(c.wake)
		}
	}
	s.note(ctx)
}

// bring ends the couriers of receivers that are gone or have changed and starts
// those of the ones that have none.
func (s *Service) bring(ctx context.Context, want []*receiver, last int64) {
	wanted := make(map[string]*receiver, len(want))
	for _, r := range want {
		wanted[r.Name] = r
	}
	for name, c := range s.couriers {
		if r := wanted[name]; r != nil && c.same(r) {
			continue
		}
		c.stop()
		c.halt()
		<-c.done
		s.told[name] = c.told.Load()
		s.set(name, nil)
		if wanted[name] == nil {
			s.metrics.forget(name)
		}
	}
	for name, r := range wanted {
		if s.couriers[name] != nil {
			continue
		}
		from, known := s.told[name]
		if !known {
			from = last
		}
		s.metrics.begin(name)
		s.set(name, s.start(ctx, r, min(from, last)))
	}
}

func (s *Service) set(name string, c *courier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c == nil {
		delete(s.couriers, name)
		return
	}
	s.couriers[name] = c
}

// start starts a courier. It does not end with ctx: stop and halt end it.
func (s *Service) start(ctx context.Context, r *receiver, from int64) *courier {
	c := &courier{receiver: r, service: s, log: s.Logger.With("webhook", r.Name), wake: make(chan struct{}, 1), done: make(chan struct{})}
	c.told.Store(from)
	hard, halt := context.WithCancel(context.WithoutCancel(ctx))
	soft, stop := context.WithCancel(hard)
	c.halt, c.stop = halt, stop
	go c.run(soft, hard)
	return c
}

// stopAll ends all couriers, at most a moment after it was called.
func (s *Service) stopAll() {
	for _, c := range s.couriers {
		c.stop()
	}
	late := time.NewTimer(grace)
	defer late.Stop()
	over := false
	for _, c := range s.couriers {
		if !over {
			select {
			case <-c.done:
			case <-late.C:
				over = true
			}
		}
		c.halt()
		if over {
			for _, other := range s.couriers {
				other.halt()
			}
		}
		<-c.done
	}
}

// note keeps how far the receivers were told, if that changed. Receivers that are
// gone are left out, and so forgotten.
func (s *Service) note(ctx context.Context) {
	if s.told == nil {
		return
	}
	now := make(map[string]int64, len(s.couriers))
	for name, c := range s.couriers {
		now[name] = c.told.Load()
	}
	if maps.Equal(now, s.told) {
		s.silent = false
		return
	}
	if err := s.Journal.SetTold(ctx, now); err != nil {
		s.complain(ctx, "how far webhooks were told cannot be kept; after a restart some are told again", err)
		return
	}
	s.told, s.silent = now, false
}

// unreadable says once, whoever is to be told, that an activity cannot be read.
func (s *Service) unreadable(e *scaling.Ending) {
	if _, said := s.broken.LoadOrStore(e.Position, true); !said {
		s.Logger.Error("an activity that ended cannot be read: no webhook is told of it", "activity", e.Activity.ID, "err", e.Err)
	}
}

// complain logs the first failure of several.
func (s *Service) complain(ctx context.Context, text string, err error) {
	if !s.silent {
		s.Logger.ErrorContext(ctx, text, "err", err) //nolint:sloglint // one of two messages
	}
	s.silent = true
}

// poke wakes whoever waits; a second poke before it looks is the same one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
