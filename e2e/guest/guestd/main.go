// Command guestd is the web server inside the demo guest.
//
// It answers a load generator and keeps book of what it answered, so that the
// two can be compared: every request carries an id, every id answered is noted
// before the answer is written, and the notes are sent to a collector outside
// the guest, because the guest may be deleted at any time. It uses the standard
// library only: it is compiled by itself into the guest's initramfs.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxBatch bounds one report; what is left follows at once.
const maxBatch = 5000

type options struct {
	listen, host, instanceID, collectorFile string
	every, grace                            time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", ":80", "address to serve on")
	flag.StringVar(&o.host, "host", "", "name given in answers and reports (default: the host name)")
	flag.StringVar(&o.instanceID, "instance-id", "", "NoCloud instance id given in reports")
	flag.StringVar(&o.collectorFile, "collector-file", "", "file that holds the collector's URL; read again until it exists")
	flag.DurationVar(&o.every, "report-every", time.Second, "time between reports")
	flag.DurationVar(&o.grace, "grace", 25*time.Second, "time that requests in flight get after SIGTERM")
	flag.Parse()
	if o.host == "" {
		o.host, _ = os.Hostname()
	}
	if err := run(o); err != nil {
		log.Printf("guestd: %v", err)
		os.Exit(1)
	}
}

func run(o options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	b := newBook(o.host, o.instanceID)
	ln, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.listen, err)
	}
	log.Printf("guestd: host=%s listening on %s", o.host, ln.Addr())
	srv := &http.Server{Handler: b.handler(), ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()

	reporterDone := make(chan struct{})
	rctx, stopReporter := context.WithCancel(context.Background())
	defer stopReporter()
	rep := &reporter{book: b, file: o.collectorFile, client: &http.Client{Timeout: 5 * time.Second}}
	go func() { defer close(reporterDone); rep.loop(rctx, o.every) }()

	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	// New connections are refused from here on; what is in flight is served.
	sctx, cancel := context.WithTimeout(context.Background(), o.grace)
	defer cancel()
	serr := srv.Shutdown(sctx)
	stopReporter()
	<-reporterDone
	// The last report must get out before the machine is gone: it is tried a
	// few times, but a missing collector must not hold up the power-off.
	var rerr error
	for range 3 {
		if rerr = rep.flush(context.Background(), true); rerr == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	log.Printf("guestd: stopped %s", b.summary())
	return errors.Join(serr, rerr)
}

// A record notes one answered request.
type record struct {
	ID   string `json:"id"`
	Kind string `json:"kind"`
}

// The book counts what came and notes what was answered.
type book struct {
	host, instanceID, boot string

	mu       sync.Mutex
	received map[string]int64
	answered map[string]int64
	records  []record // records[i] has the sequence number first+i
	first    int
}

func newBook(host, instanceID string) *book {
	raw := make([]byte, 8)
	_, _ = rand.Read(raw)
	return &book{
		host: host, instanceID: instanceID, boot: hex.EncodeToString(raw),
		received: map[string]int64{}, answered: map[string]int64{},
	}
}

func (b *book) receive(kind string) {
	b.mu.Lock()
	b.received[kind]++
	b.mu.Unlock()
}

// answer notes a request as answered. It is called before the answer is
// written: an answer that a client saw must never be missing here.
func (b *book) answer(kind, id string) {
	b.mu.Lock()
	b.answered[kind]++
	if id != "" {
		b.records = append(b.records, record{ID: id, Kind: kind})
	}
	b.mu.Unlock()
}

type counts struct {
	Host       string           `json:"host"`
	InstanceID string           `json:"instance_id"`
	Boot       string           `json:"boot"`
	Received   map[string]int64 `json:"received"`
	Answered   map[string]int64 `json:"answered"`
	Noted      int              `json:"noted"`
}

func (b *book) counts() counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.countsLocked()
}

func (b *book) countsLocked() counts {
	c := counts{
		Host: b.host, InstanceID: b.instanceID, Boot: b.boot,
		Received: map[string]int64{}, Answered: map[string]int64{}, Noted: b.first + len(b.records),
	}
	maps.Copy(c.Received, b.received)
	maps.Copy(c.Answered, b.answered)
	return c
}

func (b *book) summary() string {
	raw, err := json.Marshal(b.counts())
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

func (b *book) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) {
		b.receive("health")
		b.answer("health", "")
		text(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("/work", b.work)
	mux.HandleFunc("/sleep", b.sleep)
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) { b.serve(w, r, "echo", nil) })
	mux.HandleFunc("/count", func(w http.ResponseWriter, _ *http.Request) { text(w, http.StatusOK, b.summary()+"\n") })
	mux.HandleFunc("/ids", b.ids)
	return mux
}

func (b *book) work(w http.ResponseWriter, r *http.Request) {
	n, err := number(r.URL.Query().Get("n"), 100, 1e9)
	if err != nil {
		text(w, http.StatusBadRequest, "n: "+err.Error()+"\n")
		return
	}
	b.serve(w, r, "work", func() { burn(uint64(n)) })
}

func (b *book) sleep(w http.ResponseWriter, r *http.Request) {
	s, err := number(r.URL.Query().Get("s"), 1, 60)
	if err != nil {
		text(w, http.StatusBadRequest, "s: "+err.Error()+"\n")
		return
	}
	b.serve(w, r, "sleep", func() { time.Sleep(time.Duration(s * float64(time.Second))) })
}

// serve reads the body, does the work, notes the answer and writes it.
func (b *book) serve(w http.ResponseWriter, r *http.Request, kind string, do func()) {
	b.receive(kind)
	n, err := io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		text(w, http.StatusBadRequest, "read body: "+err.Error()+"\n")
		return
	}
	if do != nil {
		do()
	}
	id := r.Header.Get("X-Request-Id")
	b.answer(kind, id)
	w.Header().Set("X-Guest", b.host)
	w.Header().Set("X-Request-Id", id)
	text(w, http.StatusOK, fmt.Sprintf("host=%s id=%s kind=%s bytes=%d\n", b.host, id, kind, n))
}

// ids answers the noted ids from sequence number ?from= on, one "seq id kind" per line.
func (b *book) ids(w http.ResponseWriter, r *http.Request) {
	from, err := number(r.URL.Query().Get("from"), 0, 1e12)
	if err != nil {
		text(w, http.StatusBadRequest, "from: "+err.Error()+"\n")
		return
	}
	var out strings.Builder
	b.mu.Lock()
	for i := max(0, int(from)-b.first); i < len(b.records); i++ {
		fmt.Fprintf(&out, "%d %s %s\n", b.first+i, b.records[i].ID, b.records[i].Kind)
	}
	b.mu.Unlock()
	text(w, http.StatusOK, out.String())
}

func text(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = io.WriteString(w, body)
}

func number(s string, absent, most float64) (float64, error) {
	if s == "" {
		return absent, nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || v < 0 || v > most {
		return 0, fmt.Errorf("%q is not a number from 0 to %g", s, most)
	}
	return v, nil
}

// burn spends CPU: n rounds of 1,000 dependent multiplications.
func burn(n uint64) {
	x := n | 1
	for range n {
		for range 1000 {
			x = x*6364136223846793005 + 1442695040888963407
		}
	}
	sink(x)
}

// sink keeps the compiler from dropping the loop whose result it takes.
//
//go:noinline
func sink(uint64) {}

type report struct {
	counts
	From    int      `json:"from"` // sequence number of the first record
	Records []record `json:"records"`
	Final   bool     `json:"final"` // no request will be answered after this report
}

// The reporter sends what the collector does not have yet.
type reporter struct {
	book   *book
	file   string
	url    string
	client *http.Client
	acked  int
	last   string
}

func (r *reporter) loop(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := r.flush(ctx, false); err != nil && err.Error() != r.last {
				r.last = err.Error()
				log.Printf("guestd: report: %v", err)
			}
		}
	}
}

// flush sends reports until the collector has every record. A report sent
// twice does no harm: the collector knows how far it got.
func (r *reporter) flush(ctx context.Context, final bool) error {
	if r.file == "" {
		return nil
	}
	if r.url == "" {
		raw, err := os.ReadFile(r.file)
		if err != nil || len(bytes.TrimSpace(raw)) == 0 {
			if final {
				return errors.Join(errors.New("no collector known"), err)
			}
			return nil
		}
		r.url = string(bytes.TrimSpace(raw))
	}
	for {
		rep := r.batch()
		more := rep.From+len(rep.Records) < rep.Noted
		rep.Final = final && !more
		if len(rep.Records) == 0 && !rep.Final {
			return nil
		}
		next, err := r.post(ctx, rep)
		if err != nil {
			return err
		}
		r.ack(next)
		if !more {
			return nil
		}
	}
}

func (r *reporter) batch() report {
	b := r.book
	b.mu.Lock()
	defer b.mu.Unlock()
	i := r.acked - b.first
	n := min(len(b.records)-i, maxBatch)
	return report{counts: b.countsLocked(), From: r.acked, Records: append([]record(nil), b.records[i:i+n]...)}
}

// ack forgets what the collector has, but for the newest 50,000 records, which
// /ids still shows; the guest has little memory.
func (r *reporter) ack(next int) {
	b := r.book
	b.mu.Lock()
	defer b.mu.Unlock()
	r.acked = min(max(next, r.acked), b.first+len(b.records))
	if old := r.acked - b.first - 50_000; old > 10_000 {
		b.records = append([]record(nil), b.records[old:]...)
		b.first += old
	}
}

func (r *reporter) post(ctx context.Context, rep report) (int, error) {
	raw, err := json.Marshal(rep)
	if err != nil {
		return 0, fmt.Errorf("encode report: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(raw))
	if err != nil {
		return 0, fmt.Errorf("report to %s: %w", r.url, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("report to %s: %w", r.url, err)
	}
	defer resp.Body.Close()
	var answer struct {
		Next int `json:"next"`
	}
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("report to %s: answer %s", r.url, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 4096)).Decode(&answer); err != nil {
		return 0, fmt.Errorf("report to %s: decode the answer: %w", r.url, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return answer.Next, nil
}
