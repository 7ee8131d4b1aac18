package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/scalehook/scalehook/internal/audit"
)

func open(t *testing.T, file string) (*audit.Log, *prometheus.Registry, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	reg := prometheus.NewPedanticRegistry()
	l, err := audit.Open(file, slog.New(slog.NewTextHandler(&log, nil)), reg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l, reg, &log
}

// read returns the entries of a file, and how many lines are none.
func read(t *testing.T, file string) (list []audit.Entry, broken int) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(data) {
		var e audit.Entry
		if json.Unmarshal(line, &e) == nil {
			list = append(list, e)
		} else {
			broken++
		}
	}
	return list, broken
}

func write(t *testing.T, l *audit.Log, id string) {
	t.Helper()
	if err := l.Write(audit.Entry{ID: id, Action: "pause", Outcome: audit.Asked}); err != nil {
		t.Fatal(err)
	}
}

func ids(list []audit.Entry) string {
	var all []string
	for _, e := range list {
		all = append(all, e.ID)
	}
	return strings.Join(all, " ")
}

func TestEntriesAreAppendedAndReadableByTheGroup(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	file := filepath.Join(t.TempDir(), "audit.log")
	l, _, _ := open(t, file)
	write(t, l, "a")
	again, _, _ := open(t, file)
	write(t, again, "b")
	write(t, l, "c")
	list, broken := read(t, file)
	if ids(list) != "a b c" || broken != 0 || list[0].Time.IsZero() {
		t.Errorf("the file has %+v, %d broken lines", list, broken)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestARotatedFileIsFollowedWithoutASignal(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	l, _, _ := open(t, file)
	write(t, l, "a")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, l, "b")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	write(t, l, "c")
	before, _ := read(t, file+".1")
	after, _ := read(t, file)
	if ids(before) != "a" || ids(after) != "c" {
		t.Errorf("the rotated file has %q, the new one %q", ids(before), ids(after))
	}
}

func TestALineThatWasCutOffSpoilsNoOther(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(file, []byte(`{"id":"a"}`+"\n"+`{"id":"b","act`), 0o600); err != nil {
		t.Fatal(err)
	}
	l, _, _ := open(t, file)
	write(t, l, "c")
	write(t, l, "d")
	if list, broken := read(t, file); ids(list) != "a c d" || broken != 1 {
		t.Errorf("the file has %q and %d broken lines", ids(list), broken)
	}
}

func TestWhatCannotBeWrittenIsAnErrorAndInTheLog(t *testing.T) {
	dir := t.TempDir()
	l, reg, log := open(t, filepath.Join(dir, "audit.log"))
	// The name means something else now: as root, no mode would keep us out.
	if err := os.Remove(filepath.Join(dir, "audit.log")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "audit.log"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(audit.Entry{ID: "a", By: "ops", Outcome: audit.Asked}); err == nil {
		t.Fatal("it is written")
	}
	if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "audit=true") || !strings.Contains(text, "by=ops") {
		t.Errorf("the log says %s", text)
	}
	want := "# HELP scalehook_audit_failures_total Entries that could not be written to the audit log. What was asked with one of them was not done.\n" +
		"# TYPE scalehook_audit_failures_total counter\nscalehook_audit_failures_total 1\n"
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "scalehook_audit_failures_total"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(dir, "audit.log")); err != nil {
		t.Fatal(err)
	}
	write(t, l, "b")
}

func TestFilesThatAreNoAuditLogAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"link": "symbolic link", "pipe": "no ordinary file", "none/audit.log": "no such file", ".": "is a directory",
	} {
		_, err := audit.Open(filepath.Join(dir, name), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("the link was followed")
	}
}

func TestWithoutAFileEntriesGoToTheLog(t *testing.T) {
	l, _, log := open(t, "")
	write(t, l, "a")
	if text := log.String(); !strings.Contains(text, "level=INFO") || !strings.Contains(text, "audit=true action=pause outcome=asked id=a") {
		t.Errorf("the log says %s", text)
	}
}

func TestWhatOthersChoseStaysInItsLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	l, _, _ := open(t, file)
	nasty := "x\n{\"id\":\"forged\"}\r\x1b[2J\u202e" + string([]byte{0xff}) + strings.Repeat("é", 2000)
	e := audit.Entry{ID: "a", Outcome: audit.Asked, By: nasty, Agent: nasty, Path: nasty, Asked: map[string]any{"reason": nasty}}
	if err := l.Write(e); err != nil {
		t.Fatal(err)
	}
	list, broken := read(t, file)
	if len(list) != 1 || broken != 0 {
		t.Fatalf("%d entries, %d broken lines", len(list), broken)
	}
	for _, s := range []string{list[0].By, list[0].Agent, list[0].Path, fmt.Sprint(list[0].Asked["reason"])} {
		if len(s) > 1010 || strings.ContainsAny(s, "\n\r\x1b\u202e") {
			t.Errorf("kept %q", s)
		}
	}
}

func TestRefusalsAreBoundedForEachSenderAndForAll(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	l, _, _ := open(t, file)
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	refuse := func(from string, at time.Time, times int) {
		for range times {
			l.Refusal(from, at, audit.Entry{ID: from, Time: at, Outcome: audit.Refused})
		}
	}
	count := func() map[string]int {
		list, _ := read(t, file)
		n := map[string]int{}
		for _, e := range list {
			n[e.ID]++
		}
		return n
	}
	refuse("a", now, 1000)
	refuse("b", now, 1)
	if n := count(); n["a"] != 5 || n["b"] != 1 {
		t.Errorf("written %v, want 5 of a and 1 of b", n)
	}
	list, _ := read(t, file)
	if got := list[len(list)-1].Unwritten; got != 995 {
		t.Errorf("the next entry says that %d were not written, want 995", got)
	}
	refuse("a", now.Add(20*time.Second), 10)
	if n := count(); n["a"] != 7 {
		t.Errorf("%d of a after 20 s, want 7", n["a"])
	}
	later := now.Add(time.Hour)
	before := len(count())
	for i := range 5000 {
		refuse(fmt.Sprint("x", i), later, 1)
	}
	if got := len(count()) - before; got != 50 {
		t.Errorf("%d of 5000 senders were written, want 50", got)
	}
}

func TestManyWritersLoseNoLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	l, _, _ := open(t, file)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				if err := l.Write(audit.Entry{ID: fmt.Sprint(i, "-", j), Outcome: audit.Taken}); err != nil {
					t.Error(err)
				}
				if i == 0 && j == 5 {
					_ = os.Rename(file, file+".1")
				}
			}
		})
	}
	wg.Wait()
	one, broken1 := read(t, file+".1")
	two, broken2 := read(t, file)
	if len(one)+len(two) != 80 || broken1+broken2 != 0 {
		t.Errorf("%d + %d entries of 80, %d broken", len(one), len(two), broken1+broken2)
	}
}

func TestTheNameOfANewFileIsFlushedToo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	l, _, _ := open(t, file)
	var synced []string
	var broken error
	l.OnSync(func() error { synced = append(synced, "file"); return nil }, func() error { synced = append(synced, "folder"); return broken })
	step := func(what, want string) {
		t.Helper()
		if got := strings.Join(synced, " "); got != want {
			t.Errorf("%s: flushed %q, want %q", what, got, want)
		}
		synced = nil
	}
	write(t, l, "a")
	step("the first entry", "file folder")
	write(t, l, "b")
	step("the second", "file")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	l.Refusal("192.0.2.1", time.Now(), audit.Entry{ID: "c", Outcome: audit.Refused})
	step("a refusal after the rotation", "")
	broken = syscall.EIO
	if err := l.Write(audit.Entry{ID: "d", Outcome: audit.Asked}); !errors.Is(err, syscall.EIO) {
		t.Errorf("the folder is not flushed: %v", err)
	}
	step("an entry whose folder cannot be flushed", "file folder")
	broken = nil
	write(t, l, "e")
	step("the next", "file folder")
	write(t, l, "f")
	step("the one after it", "file")
}

func TestRefusalsDoNotWaitForADiskThatHangs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.log")
	l, reg, _ := open(t, file)
	hangs, goesOn := make(chan struct{}), make(chan struct{})
	l.OnSync(func() error { close(hangs); <-goesOn; return nil }, func() error { return nil })
	wrote := make(chan error, 1)
	go func() { wrote <- l.Write(audit.Entry{ID: "a", Outcome: audit.Asked}) }()
	<-hangs
	const more = 7
	refused := make(chan struct{})
	go func() {
		defer close(refused)
		now := time.Now()
		for k := range audit.MostWaiting + more {
			l.Refusal(strconv.Itoa(k), now.Add(time.Duration(k)*2*time.Second), audit.Entry{ID: "r", Outcome: audit.Refused})
		}
	}()
	select {
	case <-refused:
	case <-time.After(20 * time.Second):
		t.Error("a refusal waits for the flush of another entry")
	}
	close(goesOn)
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	<-refused
	l.OnSync(func() error { return nil }, func() error { return nil })
	if list, _ := read(t, file); len(list) != 1+audit.MostWaiting {
		t.Errorf("%d entries, want the order and %d refusals", len(list), audit.MostWaiting)
	}
	l.Refusal("late", time.Now().Add(time.Hour), audit.Entry{ID: "late", Outcome: audit.Refused})
	if list, _ := read(t, file); list[len(list)-1].Unwritten != more {
		t.Errorf("the next one says %d unwritten, want %d", list[len(list)-1].Unwritten, more)
	}
	want := fmt.Sprintf("# HELP scalehook_audit_unwritten_refusals_total Refused requests that were not written to the audit log one by one, since there were too many.\n"+
		"# TYPE scalehook_audit_unwritten_refusals_total counter\nscalehook_audit_unwritten_refusals_total %d\n", more)
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "scalehook_audit_unwritten_refusals_total"); err != nil {
		t.Error(err)
	}
}
