// Package doc takes the commands out of the project's pages, so that a test runs
// what a reader would type.
//
// Commands stand in fenced blocks of the language sh. A page's blocks are run in
// order, in one session of bash that ends at the first command that fails. Remarks
// in the line before a block, which a reader does not see, say what else to do:
//
//	<!-- until: REGEXP -->    run again until it succeeds and prints this
//	<!-- shows: REGEXP -->    it has to print this
//	<!-- instead: NAME -->    the test does this itself, by the name
//	<!-- not run: REASON -->  and why
package doc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// Block is one fenced block of commands.
type Block struct {
	Line    int // of the fence
	Text    string
	Until   *regexp.Regexp
	Shows   *regexp.Regexp
	Instead string
	NotRun  string
}

var (
	remark = regexp.MustCompile(`^\s*<!-- (until|shows|instead|not run): (.*) -->\s*$`)
	fence  = regexp.MustCompile("^( *)```+ *(\\w*)")
)

// shell tells the languages of blocks that hold commands.
func shell(language string) bool {
	return language == "sh" || language == "bash" || language == "shell" || language == "console"
}

// Blocks are the fenced blocks of commands of a page.
func Blocks(text string) ([]Block, error) {
	var out []Block
	var next Block // what remarks said of it
	var inside *Block
	marked, indent, other := false, "", false
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		f := fence.FindStringSubmatch(line)
		switch {
		case f != nil && (inside != nil || other):
			if inside != nil {
				out = append(out, *inside)
			}
			inside, other = nil, false
		case inside != nil:
			inside.Text += strings.TrimPrefix(line, indent) + "\n"
		case other:
		case f != nil && shell(f[2]):
			if f[2] != "sh" {
				return nil, fmt.Errorf("line %d: commands stand in blocks of the language sh, not %s", number, f[2])
			}
			block := next
			block.Line, indent = number, f[1]
			inside, next, marked = &block, Block{}, false
		case f != nil:
			other = true
			if marked {
				return nil, fmt.Errorf("line %d: a remark for commands stands before something else", number)
			}
		default:
			m := remark.FindStringSubmatch(line)
			if m == nil {
				if marked {
					return nil, fmt.Errorf("line %d: a remark for commands stands before something else", number)
				}
				continue
			}
			marked = true
			if err := next.mark(m[1], m[2]); err != nil {
				return nil, fmt.Errorf("line %d: %w", number, err)
			}
		}
	}
	if inside != nil || other || marked {
		return nil, errors.New("the last block has no end")
	}
	return out, nil
}

func (b *Block) mark(what, value string) (err error) {
	switch what {
	case "until":
		b.Until, err = regexp.Compile("(?m)" + value)
	case "shows":
		b.Shows, err = regexp.Compile("(?m)" + value)
	case "instead":
		b.Instead = value
	case "not run":
		b.NotRun = value
	}
	return err
}

// Runner runs the blocks of a page.
type Runner struct {
	// Command is a bash that reads its commands from standard input.
	Command *exec.Cmd
	// Instead are what the test does itself.
	Instead map[string]func(context.Context) error
	// Each is how long a block may take, its repetitions included.
	Each time.Duration
	// Done is told of every block that ended well. May be nil.
	Done func(b Block, began time.Time, output string)
}

// separator ends the output of a block; the status follows.
const separator = "--scalehook-doc-block-ended--"

// pause is how long a block rests before it is run again.
const pause = time.Second

// Run runs the blocks in order and stops at the first that fails.
func (r Runner) Run(ctx context.Context, blocks []Block) error {
	in, err := r.Command.StdinPipe()
	if err != nil {
		return fmt.Errorf("start the session: %w", err)
	}
	reader, writer := io.Pipe()
	r.Command.Stdout, r.Command.Stderr = writer, writer
	if err := r.Command.Start(); err != nil {
		return fmt.Errorf("start the session: %w", err)
	}
	lines := make(chan string)
	over := make(chan struct{})
	defer close(over)
	go func() {
		defer close(lines)
		for s := bufio.NewReader(reader); ; {
			line, err := s.ReadString('\n')
			if line != "" {
				select {
				case lines <- line:
				case <-over:
					_ = reader.Close()
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = writer.CloseWithError(errors.Join(r.Command.Wait(), io.EOF))
	}()
	s := session{in: in, lines: lines}
	defer func() {
		_ = in.Close()
		_ = reader.Close()
		<-ended
	}()
	for _, b := range blocks {
		if b.NotRun != "" {
			continue
		}
		began := time.Now()
		bctx, cancel := context.WithTimeout(ctx, r.Each)
		output, err := r.block(bctx, &s, b)
		cancel()
		if err != nil {
			return fmt.Errorf("line %d: %w after %s\n%s\n%s", b.Line, err, time.Since(began).Round(time.Second), b.Text, output)
		}
		if r.Done != nil {
			r.Done(b, began, output)
		}
	}
	return nil
}

func (r Runner) block(ctx context.Context, s *session, b Block) (output string, err error) {
	if b.Instead != "" {
		do, ok := r.Instead[b.Instead]
		if !ok {
			return "", fmt.Errorf("the test knows no %q", b.Instead)
		}
		return "", do(ctx)
	}
	for {
		output, status, err := s.run(ctx, b.Text, b.Until != nil)
		switch {
		case err != nil && b.Until != nil && ctx.Err() != nil:
			return output, fmt.Errorf("it never succeeded with %s", b.Until)
		case err != nil:
			return output, err
		case b.Until != nil && (status != "0" || !b.Until.MatchString(output)):
			select {
			case <-ctx.Done():
				return output, fmt.Errorf("it never succeeded with %s", b.Until)
			case <-time.After(pause):
			}
			continue
		case status != "0":
			return output, fmt.Errorf("exit code %s", status)
		case b.Shows != nil && !b.Shows.MatchString(output):
			return output, fmt.Errorf("it does not print %s", b.Shows)
		}
		return output, nil
	}
}

type session struct {
	in    io.Writer
	lines <-chan string
}

// run runs commands in the session, or apart if they may fail.
func (s *session) run(ctx context.Context, text string, apart bool) (output, status string, err error) {
	// The end of the text is found whatever it has in it; input is not for the commands.
	body := "eval " + quote(text) + " </dev/null"
	if apart {
		body = "( set -euo pipefail; " + body + " )"
	} else {
		body = "set -euo pipefail; { " + body + "; }"
	}
	if _, err := fmt.Fprintf(s.in, "%s\n{ status=$?; set +euo pipefail; } 2>/dev/null; echo; echo %s $status\n", body, separator); err != nil {
		return "", "", fmt.Errorf("the session ended: %w", err)
	}
	var b strings.Builder
	for {
		select {
		case <-ctx.Done():
			return b.String(), "", ctx.Err()
		case line, ok := <-s.lines:
			if !ok {
				return b.String(), "", errors.New("a command failed")
			}
			if status, found := strings.CutPrefix(line, separator); found {
				return strings.TrimSuffix(b.String(), "\n"), strings.TrimSpace(status), nil
			}
			b.WriteString(line)
		}
	}
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
