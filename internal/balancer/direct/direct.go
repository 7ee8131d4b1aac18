// Package direct is the balancer of a group that has none: it keeps the wished
// pool in memory and checks the members itself, so that a newcomer still proves
// that it answers before it counts as in service. It carries no traffic. It can
// neither drain nor count sessions, and says so: a drain lasts to its deadline,
// which gives clients that find members by other means the time to leave.
package direct

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// CheckType is how a member is checked.
type CheckType string

// The types of a check.
const (
	CheckTCP  CheckType = "tcp"  // it accepts a connection
	CheckHTTP CheckType = "http" // it answers a GET with 2xx or 3xx
)

// Config says how members are checked.
type Config struct {
	Check Check `yaml:"check"`
}

// Check is one probe of one member. Zero values are the defaults.
type Check struct {
	Type     CheckType     `yaml:"type"`     // tcp (it accepts a connection) or http (it answers GET with 2xx or 3xx); default tcp
	Path     string        `yaml:"path"`     // for http; /
	Interval time.Duration `yaml:"interval"` // the least time between two probes of a member; 1s
	Timeout  time.Duration `yaml:"timeout"`  // of one probe; 1s
}

func (c Check) withDefaults() Check {
	if c.Type == "" {
		c.Type = CheckTCP
	}
	if c.Path == "" {
		c.Path = "/"
	}
	if c.Interval == 0 {
		c.Interval = time.Second
	}
	if c.Timeout == 0 {
		c.Timeout = time.Second
	}
	return c
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	check := c.Check.withDefaults()
	switch check.Type {
	case CheckTCP:
		if c.Check.Path != "" {
			errs = append(errs, errors.New("check: path is for type http only"))
		}
	case CheckHTTP:
	default:
		errs = append(errs, fmt.Errorf("check: type: %q is neither tcp nor http", check.Type))
	}
	if !strings.HasPrefix(check.Path, "/") {
		errs = append(errs, fmt.Errorf("check: path: %q does not begin with a slash", check.Path))
	}
	if check.Interval < time.Millisecond || check.Timeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("check: interval %v and timeout %v must be at least 1ms", check.Interval, check.Timeout))
	}
	return errors.Join(errs...)
}

// maxProbes is how many members are probed at once.
const maxProbes = 32

// Pool is one group's pool. It implements scaling.Balancer, and no goroutine of
// it outlives a call.
type Pool struct {
	group  string
	check  Check
	client *http.Client

	mu      sync.Mutex
	members []*member
}

type member struct {
	id, name string
	addr     netip.AddrPort
	state    scaling.MemberState
	health   scaling.Health
	probed   time.Time
}

var _ scaling.Balancer = (*Pool)(nil)

// New returns the empty pool of a group. It probes nobody before it is asked.
func New(group string, cfg Config) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("direct pool of group %q: %w", group, err)
	}
	return &Pool{
		group: group,
		check: cfg.Check.withDefaults(),
		client: &http.Client{
			// A connection that is kept would prove less than a new one. No proxy: it
			// would be the proxy's health.
			Transport:     &http.Transport{DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Capabilities are health checks and nothing else.
func (p *Pool) Capabilities() scaling.Capabilities { return scaling.Capabilities{Health: true} }

// Apply replaces the wish. Leaving and unwished members are forgotten at once,
// since there is nothing to cut.
func (p *Pool) Apply(ctx context.Context, want scaling.Pool) error {
	if err := ctx.Err(); err != nil {
		return scaling.WithClass(scaling.Temporary, fmt.Errorf("apply the pool of group %q: %w", p.group, err))
	}
	if want.Group != p.group {
		return scaling.Errorf(scaling.Permanent, "apply the pool of group %q: the wish is for group %q", p.group, want.Group)
	}
	if len(want.Members) == 0 && !want.AllowEmpty {
		return scaling.Errorf(scaling.Permanent, "apply the pool of group %q: refused to empty the pool: a wish without members must say so", p.group)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old := make(map[string]*member, len(p.members))
	for _, m := range p.members {
		old[m.id] = m
	}
	var members []*member
	for _, w := range want.Members {
		if w.State == scaling.MemberLeaving {
			continue
		}
		m := &member{id: w.ID, name: w.Name, addr: w.Addr, state: w.State, health: scaling.HealthUnknown}
		if o := old[w.ID]; o != nil && o.addr == w.Addr {
			m.health, m.probed = o.health, o.probed
		}
		members = append(members, m)
	}
	p.members = members
	return nil
}

// Observe probes every member whose last probe is older than the interval and
// reports all of them. It takes as long as the slowest probe.
func (p *Pool) Observe(ctx context.Context) (scaling.PoolStatus, error) {
	p.mu.Lock()
	members := make([]member, len(p.members))
	for i, m := range p.members {
		members[i] = *m
	}
	p.mu.Unlock()

	var wg sync.WaitGroup
	slots := make(chan struct{}, maxProbes)
	for i := range members {
		m := &members[i]
		if time.Since(m.probed) < p.check.Interval {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			health := scaling.HealthDown
			if p.probe(ctx, m.addr) == nil {
				health = scaling.HealthUp
			}
			m.health, m.probed = health, time.Now()
		})
	}
	wg.Wait()
	// A probe that the caller's end cut short says nothing of the member.
	if err := ctx.Err(); err != nil {
		return scaling.PoolStatus{}, scaling.WithClass(scaling.Temporary, fmt.Errorf("observe the pool of group %q: %w", p.group, err))
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	var status scaling.PoolStatus
	for _, m := range members {
		for _, o := range p.members {
			if o.id == m.id && o.addr == m.addr {
				o.health, o.probed = m.health, m.probed
			}
		}
		status.Members = append(status.Members, scaling.MemberStatus{
			ID: m.id, Server: label(m), Addr: m.addr, State: m.state, Health: m.health, Sessions: -1,
		})
	}
	return status, nil
}

// label is what people call the member.
func label(m member) string {
	if m.name != "" {
		return m.name
	}
	return m.id
}

// probe returns nil if the member answers as it should within the timeout.
func (p *Pool) probe(ctx context.Context, addr netip.AddrPort) (err error) {
	ctx, cancel := context.WithTimeout(ctx, p.check.Timeout)
	defer cancel()
	if p.check.Type == CheckTCP {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr.String())
		if err != nil {
			return err
		}
		return conn.Close()
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+p.check.Path, http.NoBody)
	if err != nil {
		return err
	}
	answer, err := p.client.Do(q)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if _, err := io.CopyN(io.Discard, answer.Body, 64<<10); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer.StatusCode < 200 || answer.StatusCode > 399 {
		return fmt.Errorf("answered %s", answer.Status)
	}
	return nil
}
