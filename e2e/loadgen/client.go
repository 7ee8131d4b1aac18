package loadgen

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// maxBody is the largest body a client posts, in bytes.
const maxBody = 4096

// request is what a client is to send.
type request struct {
	kind, path string
	post       bool
	asked      time.Duration
}

// client sends one request at a time, on one connection if it keeps it.
type client struct {
	g      *Generator
	keep   bool
	conn   net.Conn
	reader *bufio.Reader
	used   bool
}

func (g *Generator) newClient(keep bool) *client { return &client{g: g, keep: keep} }

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// send sends a request exactly once and records what became of it. Only the
// start of requests stops with ctx: one that was begun is seen through.
func (c *client) send(ctx context.Context, req request) {
	g := c.g
	if ctx.Err() != nil {
		return
	}
	if c.conn != nil && (c.reader.Buffered() > 0 || closedWhileIdle(c.conn)) {
		g.idleClosed.Add(1)
		c.close()
	}
	rec := Record{
		ID: fmt.Sprintf("%s-%d", g.runID, g.seq.Add(1)), Kind: req.kind, Method: http.MethodGet,
		Reused: c.conn != nil && c.used, Asked: req.asked, Start: time.Now(),
	}
	var body []byte
	if req.post {
		rec.Method = http.MethodPost
		body = bytes.Repeat([]byte("x"), 1+mathrand.IntN(maxBody))
	}
	g.sent.Add(1)
	outcome, err := c.exchange(ctx, &rec, req.path, body)
	rec.Duration, rec.Outcome = time.Since(rec.Start), outcome
	if outcome != OK {
		rec.Problem = err.Error()
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
			rec.Outcome = Cut
		}
		c.close()
	}
	g.finish(ctx, rec)
}

func (c *client) exchange(ctx context.Context, rec *Record, path string, body []byte) (Outcome, error) {
	deadline := rec.Start.Add(c.g.opts.TimeLimit)
	if c.conn == nil {
		dctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
		defer cancel()
		conn, err := c.g.opts.Dial(dctx, "tcp", c.g.opts.Target)
		if err != nil {
			return Unconnected, err
		}
		c.conn, c.reader, c.used = conn, bufio.NewReader(conn), false
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return Closed, err
	}
	if _, err := c.conn.Write(c.encode(rec, path, body)); err != nil {
		return Closed, fmt.Errorf("write: %w", err)
	}
	if _, err := c.reader.Peek(1); err != nil {
		return Closed, fmt.Errorf("no answer: %w", err)
	}
	// Only the parser of net/http is used: it neither connects nor repeats.
	resp, err := http.ReadResponse(c.reader, &http.Request{Method: rec.Method})
	if err != nil {
		return Truncated, fmt.Errorf("read the answer's head: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return Truncated, fmt.Errorf("read the answer's body: %w", err)
	}
	rec.Server = resp.Header.Get("X-Guest")
	if resp.StatusCode != http.StatusOK {
		return Status, fmt.Errorf("answer %s: %q", resp.Status, firstLine(text))
	}
	if err := check(resp, text, rec, len(body)); err != nil {
		return Wrong, err
	}
	c.used = true
	if !c.keep || resp.Close {
		c.close()
	}
	return OK, nil
}

func (c *client) encode(rec *Record, path string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: web\r\nUser-Agent: scalehook-loadgen\r\nX-Request-Id: %s\r\n", rec.Method, path, rec.ID)
	if !c.keep {
		b.WriteString("Connection: close\r\n")
	}
	if rec.Method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Type: application/octet-stream\r\nContent-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// check verifies that the answer is complete and that it answers this request.
func check(resp *http.Response, text []byte, rec *Record, sent int) error {
	if resp.ContentLength < 0 && len(resp.TransferEncoding) == 0 {
		return fmt.Errorf("%w: it has no length, so that its end proves nothing", errNotAnswer)
	}
	want := fmt.Sprintf("host=%s id=%s kind=%s bytes=%d", rec.Server, rec.ID, rec.Kind, sent)
	if got := firstLine(text); got != want || rec.Server == "" {
		return fmt.Errorf("%w: have %q, want %q", errNotAnswer, got, want)
	}
	return nil
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	return line[:min(len(line), 200)]
}

// closedWhileIdle looks, without waiting, whether the other side has closed the
// connection, or has sent what nobody asked for, after which it is not usable.
func closedWhileIdle(conn net.Conn) bool {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	rerr := raw.Control(func(fd uintptr) {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		closed = !errors.Is(err, syscall.EAGAIN)
	})
	return closed || rerr != nil
}
