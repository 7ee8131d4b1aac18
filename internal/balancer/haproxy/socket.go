package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// maxAnswer bounds what is read from a socket. The statistics of ten thousand
// servers take about 5 MiB.
const maxAnswer = 32 << 20

// commandWord is the last line of defence against a value that would end a
// command: a semicolon, a newline, a blank, a backslash.
var commandWord = regexp.MustCompile(`^[A-Za-z0-9_.:/,\[\]@!-]+$`)

// socket sends commands, one per connection, to a stats or master socket.
type socket struct {
	address string
	master  bool
	timeout time.Duration
	// after, if set, is called after each command with what was sent.
	after func(command string)
}

// query asks for a listing. Its end is an empty line: an answer without one was
// cut off and is an error.
func (s socket) query(ctx context.Context, words ...string) (string, error) {
	answer, err := s.send(ctx, words)
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(answer, "\n\n") {
		// Refusals come without the empty line; they are short and have no header.
		if text := strings.TrimSpace(answer); text != "" && len(text) < 200 && strings.HasSuffix(answer, ".\n") {
			return text, nil
		}
		return "", scaling.Errorf(scaling.Temporary, "haproxy at %s: the answer to %q ended after %d bytes, before its end",
			s.address, strings.Join(words, " "), len(answer))
	}
	return strings.TrimRight(answer, "\n"), nil
}

// change sends a command that changes something and returns the text of the
// answer, which is empty or a known sentence when it worked. Whether it worked is
// only known by reading the state afterwards.
func (s socket) change(ctx context.Context, words ...string) (string, error) {
	passPoint(words, "before")
	answer, err := s.send(ctx, words)
	passPoint(words, "after")
	if err != nil {
		return "", err
	}
	if !strings.HasSuffix(answer, "\n") {
		return "", scaling.Errorf(scaling.Temporary, "haproxy at %s: no whole answer to %q: %q", s.address, strings.Join(words, " "), shorten(answer))
	}
	return strings.TrimSpace(answer), nil
}

func (s socket) send(ctx context.Context, words []string) (string, error) {
	for _, word := range words {
		if !commandWord.MatchString(word) {
			return "", scaling.Errorf(scaling.Permanent, "haproxy at %s: refused to send %q, which is not one word of a command", s.address, word)
		}
	}
	command := strings.Join(words, " ")
	answer, err := s.exchange(ctx, command)
	if s.after != nil {
		s.after(command)
	}
	if err != nil {
		return "", scaling.WithClass(scaling.Temporary, fmt.Errorf("haproxy at %s: %q: %w", s.address, command, err))
	}
	return answer, nil
}

func (s socket) exchange(parent context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(parent, s.timeout, fmt.Errorf("no answer within %v", s.timeout))
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network(s.address), s.address)
	if errors.Is(err, fs.ErrPermission) {
		return "", fmt.Errorf("%w (this is user id %d: it has to be in the group that the socket is for, as in \"mode 660 group haproxy\", and be started again after that)", err, os.Getuid())
	}
	if err != nil {
		return "", because(ctx, err)
	}
	// Cancelling ends a read under way; closing is the deferred call's business.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		stop()
		_ = conn.Close()
	}()
	// A master socket stays open after an answer unless it is told to quit.
	end := "\n"
	if s.master {
		end = ";quit\n"
	}
	if _, err := io.WriteString(conn, command+end); err != nil {
		return "", because(ctx, err)
	}
	answer, err := io.ReadAll(io.LimitReader(conn, maxAnswer+1))
	if err != nil {
		return "", because(ctx, err)
	}
	if len(answer) > maxAnswer {
		return "", fmt.Errorf("the answer is longer than %d bytes", maxAnswer)
	}
	if len(answer) == 0 {
		return "", errors.New("the connection was closed without an answer")
	}
	return string(answer), nil
}

// because replaces the error of an interrupted call by why it was interrupted.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func shorten(s string) string {
	if len(s) > 200 {
		return s[:200] + "…"
	}
	return s
}
