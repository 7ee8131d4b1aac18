package webpage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

const (
	// beatEvery is how often a page hears something at least; one that hears nothing
	// for longer knows that the connection is lost.
	beatEvery = 5 * time.Second
	// sendTimeout is how long a page may take to read what it is sent.
	sendTimeout = 10 * time.Second
	// share is how much of the time looking for changes may take: a look that took
	// long is not repeated soon, but after longestRest, since a page that is sent
	// beats meanwhile calls itself live.
	share       = 20
	longestRest = 10 * time.Second
)

// board is what pages about the same topic look like, made once for all of them.
type board struct {
	users int // guarded by the page's mutex

	mu    sync.Mutex
	at    time.Time
	took  time.Duration
	parts []part
	err   error
}

// watch returns the topic's board until release is called.
func (p *Page) watch(t topic) (b *board, release func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	b = p.boards[t]
	if b == nil {
		b = &board{}
		p.boards[t] = b
	}
	b.users++
	return b, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if b.users--; b.users == 0 {
			delete(p.boards, t)
		}
	}
}

// look returns the parts as they are, or were a moment ago.
func (b *board) look(ctx context.Context, p *Page, t topic) ([]part, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rest := p.opts.Live * 9 / 10 // a tenth less, since the pages that look do it as often
	if b.err == nil {            // that it is over is news that must not wait
		rest = max(rest, min(share*b.took, longestRest))
	}
	if time.Since(b.at) < rest {
		return b.parts, b.err
	}
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, fmt.Errorf("no answer within %s", lookTimeout))
	defer cancel()
	v, err := p.look(ctx, t)
	var parts []part
	if err == nil {
		parts, err = p.parts(v)
	}
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, err // who asked has left; that is nobody else's news
	}
	b.parts, b.err, b.at, b.took = parts, err, time.Now(), time.Since(began)
	return parts, err
}

// events tells a page of changes until it leaves or the server ends.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	t := topic{group: r.PathValue("group")}
	if t.group == "" {
		var err error
		if t.query, err = readQuery(r.URL.Query()); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	if err := p.knows(r.Context(), t); err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	seat := p.seats.take(addressOf(r))
	if seat == nil {
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d pages are told of changes already", p.seats.most), http.StatusServiceUnavailable)
		return
	}
	p.streams.Inc()
	defer func() { p.streams.Dec(); p.seats.leave(seat) }()
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()

	s := stream{ctl: http.NewResponseController(w), w: w, sent: map[string]sent{}}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep it back
	// The server's limit on reading a request would end this one.
	if err := s.ctl.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		p.log.Debug("a stream was not begun", "err", err)
		return
	}
	b, release := p.watch(t)
	defer release()
	tick := time.NewTicker(p.opts.Live)
	defer tick.Stop()
	s.event("hello", map[string]any{"version": p.assets.version, "now": p.opts.Now().UnixMilli()})
	for {
		parts, err := b.look(r.Context(), p, t)
		if err != nil {
			s.trouble(err)
		} else {
			s.news(parts)
		}
		if time.Since(s.last) >= beatEvery {
			s.event("beat", map[string]any{"now": p.opts.Now().UnixMilli()})
		}
		if err := s.flush(); err != nil {
			p.log.Debug("a stream ended", "err", err)
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-ended:
			return
		case <-seat.lost:
			p.log.Debug("a stream ended: its place went to another address", "address", seat.address)
			return
		case <-tick.C:
		}
	}
}

// knows reports a group that is not. Where the engine says nothing, the stream says so.
func (p *Page) knows(ctx context.Context, t topic) error {
	if t.group == "" {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, lookTimeout, fmt.Errorf("no answer within %s", lookTimeout))
	defer cancel()
	if _, err := p.opts.Viewer.Group(ctx, t.group); errors.Is(err, scaling.ErrUnknownGroup) {
		return err
	}
	return nil
}

// stream is the way to one page, and what it knows.
type stream struct {
	ctl    *http.ResponseController
	w      http.ResponseWriter
	buffer bytes.Buffer
	sent   map[string]sent // by the part's id
	failed string
	last   time.Time
}

// sent is what a page has of a part.
type sent struct {
	frame string
	rows  map[string]string // by id
}

// event writes an event into the buffer.
func (s *stream) event(kind string, data any) {
	text, err := json.Marshal(data)
	if err != nil {
		return // there is nothing in data that cannot be written
	}
	fmt.Fprintf(&s.buffer, "event: %s\ndata: %s\n\n", kind, text)
}

// trouble says once that nothing is known, and why.
func (s *stream) trouble(err error) {
	if s.failed != err.Error() {
		s.failed = err.Error()
		s.event("trouble", map[string]string{"reason": s.failed})
	}
}

// piece is a part, or a row of one, as a page is sent it.
type piece struct {
	ID   string `json:"id"`
	HTML string `json:"html"`
}

// news tells what differs from what the page has. Rows are sent alone as long as
// there are the same ones in the same order.
func (s *stream) news(parts []part) {
	if s.failed != "" {
		s.failed = ""
		s.event("fine", struct{}{})
	}
	var out []piece
	for _, part := range parts {
		known, found := s.sent[part.id]
		if !found || known.frame != part.frame {
			known = sent{part.frame, make(map[string]string, len(part.rows))}
			s.sent[part.id] = known
			out = append(out, piece{part.id, part.html()})
			for _, row := range part.rows {
				known.rows[row.id] = row.html
			}
			continue
		}
		for _, row := range part.rows {
			if known.rows[row.id] != row.html {
				known.rows[row.id] = row.html
				out = append(out, piece{row.id, row.html})
			}
		}
	}
	if len(out) > 0 {
		s.event("parts", out)
	}
}

// flush sends what is in the buffer; a page that does not read it is given up.
func (s *stream) flush() error {
	if s.buffer.Len() == 0 {
		return nil
	}
	s.last = time.Now()
	if err := s.ctl.SetWriteDeadline(s.last.Add(sendTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.w.Write(s.buffer.Bytes()); err != nil {
		return err
	}
	s.buffer.Reset()
	return s.ctl.Flush()
}
