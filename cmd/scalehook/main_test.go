package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// envRace is the environment variable with the options of the race detector.
const envRace = "GORACE"

func TestMain(m *testing.M) {
	// Most tests wait for programs that they started, so that more of them than there
	// are processors go on at a time. Those that are timed run before, alone.
	if err := flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0))); err != nil {
		panic(err)
	}
	// The race detector has a program sleep for a second before it ends, and the tests
	// run hundreds.
	if err := os.Setenv(envRace, strings.TrimSpace(os.Getenv(envRace)+" atexit_sleep_ms=0")); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"scalehook": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := execute(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}})
}

// TestScripts runs the archives in testdata/script, each in a folder of its own.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			address := l.Addr().String()
			env.Setenv("ADDRESS", address)
			env.Setenv("SCALEHOOK_URL", "http://"+address)
			env.Setenv("TZ", "UTC")
			env.Setenv(envRace, os.Getenv(envRace))
			return l.Close()
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":  runCode,
			"until": runUntil,
			"await": runAwait,
			"hup":   runHangup,
			"post":  runPost,
		},
	})
}

// runCode is "code N command args…": the command must end with that exit code.
func runCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N command args…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ended := errors.AsType[*exec.ExitError](err)
		if !ended {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// runUntil is "until PATTERN command args…": the command is run until its output has
// a match, at most 30 s. "get URL" as a command asks the URL.
func runUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: until PATTERN command args…")
	}
	want := regexp.MustCompile("(?m)" + args[0])
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out, err := "", error(nil)
		if args[1] == "get" {
			out, err = get(args[2])
		} else {
			err = ts.Exec(args[1], args[2:]...)
			out = ts.ReadFile("stdout")
		}
		if err == nil && want.MatchString(out) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no match of %q in 30 s; at last (%v):\n%s", args[0], err, out)
		}
	}
}

// get returns the body of an answer of 200.
func get(url string) (_ string, err error) {
	client := &http.Client{Timeout: 5 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("status %s: %s", resp.Status, body)
	}
	return string(body), err
}

// runAwait is "await URL": it is asked until it answers 200, at most 30 s.
func runAwait(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await URL")
	}
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := get(args[0])
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("no answer of 200 in 30 s: %v", err)
		}
	}
}

// runHangup is "hup": every background process gets SIGHUP.
func runHangup(ts *testscript.TestScript, _ bool, _ []string) {
	for _, cmd := range ts.BackgroundCmds() {
		ts.Check(cmd.Process.Signal(syscall.SIGHUP))
	}
}

// runPost is "post TOKENFILE FILE": the file is posted as Alertmanager would. The
// answer goes to the file "answer"; anything but 200 fails.
func runPost(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: post TOKENFILE FILE")
	}
	body := ts.ReadFile(args[1])
	req, err := http.NewRequest(http.MethodPost, ts.Getenv("SCALEHOOK_URL")+"/api/v1/alertmanager", strings.NewReader(body))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(args[0])))
	client := &http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	ts.Check(err)
	answer, err := io.ReadAll(resp.Body)
	ts.Check(errors.Join(err, resp.Body.Close()))
	if resp.StatusCode != http.StatusOK {
		ts.Fatalf("answered %s: %s", resp.Status, answer)
	}
	ts.Check(os.WriteFile(ts.MkAbs("answer"), answer, 0o600))
}
