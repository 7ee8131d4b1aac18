package store_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
	"github.com/scalehook/scalehook/internal/store"
	"github.com/scalehook/scalehook/internal/testenv"
)

// killed lets a process change a store as fast as it can, kills it once it was
// told of at least n changes, and returns how many it was told of.
func killed(t *testing.T, path string, n int) (told int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_TEST_CHANGER="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if told, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatalf("the changer said %q", lines.Text())
		}
		if told == n {
			if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait() // killed
	return told
}

// commitEnds returns where in a write-ahead log each commit's last frame ends. The
// format is https://www.sqlite.org/fileformat2.html#walformat.
func commitEnds(t *testing.T, log []byte) (ends []int) {
	t.Helper()
	if len(log) < 32 {
		t.Fatalf("a log of %d bytes", len(log))
	}
	size := int(binary.BigEndian.Uint32(log[8:]))
	salts := string(log[16:24])
	for at := 32; at+24+size <= len(log); at += 24 + size {
		if string(log[at+8:at+16]) != salts {
			break // of an earlier round
		}
		if binary.BigEndian.Uint32(log[at+4:]) != 0 {
			ends = append(ends, at+24+size)
		}
	}
	return ends
}

// number is how many changes of the changer a store has; the state must be one
// that the changer committed.
func number(t *testing.T, s *store.Store) int {
	t.Helper()
	state, err := s.View(t.Context(), "web")
	if err != nil {
		t.Fatal(err)
	}
	if len(state.Instances) != state.NextNumber {
		t.Errorf("%d instances with number %d: no state that was ever committed", len(state.Instances), state.NextNumber)
	}
	return state.NextNumber
}

func TestATornLogIsReadUpToItsLastWholeCommitAndALossIsToldAndPauses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s.db")
	told := killed(t, path, 40)
	log, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	ends := commitEnds(t, log)
	s := copied(t, path, func(string) {})
	whole := number(t, s)
	if whole < told || whole > told+1 || s.Origin() != store.OriginKept {
		t.Fatalf("untouched: number %d and origin %s (%s), the process had been told %d", whole, s.Origin(), s.Why(), told)
	}

	random := rand.New(rand.NewPCG(1, uint64(told)))
	for round := range 60 {
		// Commits after the last that the changer was told of may be torn by a power
		// cut; damage before that is a loss.
		at := 32 + random.IntN(len(log)-32)
		if round%3 == 0 {
			at = max(32, ends[len(ends)-1]-random.IntN(9000))
		}
		left := 0 // commits
		for _, end := range ends {
			if end <= at {
				left++
			}
		}
		how := []string{"cut", "garbled", "zeroed"}[round%3]
		s := copied(t, path, func(at2 string) {
			torn := append([]byte{}, log...)
			switch how {
			case "cut":
				torn = torn[:at]
			case "garbled":
				for i := at; i < min(len(torn), at+100); i++ {
					torn[i] ^= byte(1 + random.IntN(255))
				}
			case "zeroed":
				clear(torn[at:])
			}
			if err := os.WriteFile(at2+"-wal", torn, 0o600); err != nil {
				t.Fatal(err)
			}
		})
		got := number(t, s)
		if lost := len(ends) - left; got != max(0, whole-lost) {
			t.Errorf("%s at %d: number %d, want %d less %d", how, at, got, whole, lost)
		}
		state, err := s.View(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		if got == 0 && s.Origin() == store.OriginLost {
			s.Close()
			continue // damaged before even the tables were made
		}
		switch paused := state.Pause != nil && state.Pause.In && state.Pause.Out; {
		case got >= told && s.Origin() != store.OriginKept:
			t.Errorf("%s at %d: origin %s (%s), though nothing that was acknowledged is missing", how, at, s.Origin(), s.Why())
		case got < told && (s.Origin() != store.OriginRestored || !strings.Contains(s.Why(), "commits are missing")):
			t.Errorf("%s at %d: %d of %d acknowledged changes are there, origin %s (%s)", how, at, got, told, s.Origin(), s.Why())
		case got < told && got > 0 && !paused:
			t.Errorf("%s at %d: the group is not paused", how, at)
		}
		s.Close()
	}
}

// copied opens a copy of a store with its log and mark, altered before.
func copied(t *testing.T, path string, alter func(path string)) *store.Store {
	t.Helper()
	to := filepath.Join(t.TempDir(), "s.db")
	for _, suffix := range []string{"", "-wal", ".mark"} {
		if _, err := os.Stat(path + suffix); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		copyFile(t, path+suffix, to+suffix)
	}
	alter(to)
	return open(t, to)
}

func TestADatabaseWithoutItsLogOrOlderThanItsMarkStartsPaused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	told := killed(t, path, 25)
	remove := func(suffixes ...string) func(string) {
		return func(path string) {
			for _, suffix := range suffixes {
				if err := os.Remove(path + suffix); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, c := range []struct {
		name   string
		alter  func(path string)
		origin store.Origin
		why    string
	}{
		{"as it was left by the kill", func(string) {}, store.OriginKept, ""},
		{"after somebody looked with the shell, which folds the log in", looked(t), store.OriginKept, ""},
		{"without its mark", remove(".mark"), store.OriginKept, ""},
		{"with a mark that was half written", func(path string) { cut(t, path+".mark", 40) }, store.OriginKept, ""},
		{"without the database", remove("", "-wal"), store.OriginLost, "is gone"},
		{"with an empty database", func(path string) { cut(t, path, 0); remove("-wal")(path) }, store.OriginLost, "is gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := copied(t, path, c.alter)
			if s.Origin() != c.origin || !strings.Contains(s.Why(), c.why) || (c.why == "") != (s.Why() == "") {
				t.Errorf("origin %s, %q; want %s, %q", s.Origin(), s.Why(), c.origin, c.why)
			}
			if n := number(t, s); c.origin == store.OriginKept && n < told {
				t.Errorf("number %d, %d were told", n, told)
			}
		})
	}
	t.Run("a live database that was copied without its log and put back", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s.db")
		s := open(t, path)
		if err := errors.Join(set(t.Context(), s, 1), s.Close()); err != nil {
			t.Fatal(err)
		}
		s = open(t, path)
		for i := range 3 {
			if err := set(t.Context(), s, i+2); err != nil {
				t.Fatal(err)
			}
		}
		copyFile(t, path, path+".by-hand")
		s.Close()
		copyFile(t, path+".by-hand", path)
		s = open(t, path)
		if s.Origin() != store.OriginRestored {
			t.Errorf("origin %s, want restored: %s", s.Origin(), s.Why())
		}
	})
	t.Run("yesterday's database put back by hand", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s.db")
		s := open(t, path)
		if err := errors.Join(set(t.Context(), s, 1), s.Close()); err != nil {
			t.Fatal(err)
		}
		copyFile(t, path, path+".yesterday")
		s = open(t, path)
		if err := errors.Join(set(t.Context(), s, 2), s.Close()); err != nil {
			t.Fatal(err)
		}
		epoch := s.Epoch()
		copyFile(t, path+".yesterday", path)
		s = open(t, path)
		state, err := s.View(t.Context(), "web")
		if err != nil {
			t.Fatal(err)
		}
		if s.Origin() != store.OriginRestored || s.Epoch() <= epoch || state.Pause == nil || state.Pause.Reason != s.Why() || state.Desired != 1 {
			t.Errorf("origin %s, epoch %d after %d, %+v", s.Origin(), s.Epoch(), epoch, state.Pause)
		}
		if s.Close(); open(t, path).Origin() != store.OriginKept {
			t.Error("it is said more than once")
		}
	})
	t.Run("another store put in its place", func(t *testing.T) {
		one, two := filepath.Join(t.TempDir(), "s.db"), filepath.Join(t.TempDir(), "s.db")
		for _, path := range []string{one, two} {
			s := open(t, path)
			if err := errors.Join(set(t.Context(), s, 1), s.Close()); err != nil {
				t.Fatal(err)
			}
		}
		copyFile(t, two, one)
		if s := open(t, one); s.Origin() != store.OriginRestored || !strings.Contains(s.Why(), "another store") {
			t.Errorf("origin %s: %s", s.Origin(), s.Why())
		}
	})
	t.Run("the whole folder moved to another place", func(t *testing.T) {
		s := copied(t, path, func(string) {})
		if s.Origin() != store.OriginKept {
			t.Errorf("origin %s: %s", s.Origin(), s.Why())
		}
	})
}

// looked opens the database of a killed process as a person would.
func looked(t *testing.T) func(string) {
	return func(path string) {
		shell := shell(t, path)
		var n int
		if err := errors.Join(shell.QueryRow("SELECT count(*) FROM instances").Scan(&n), shell.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path + "-wal"); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("the log is still there: %v", err)
		}
	}
}

func cut(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// TestAGarbledDatabaseIsRefusedAndLeftAsItIs damages a page somewhere. Damage inside a
// value is not seen by SQLite; what is seen is refused, and what is not seen has
// left every row readable.
func TestAGarbledDatabaseIsRefusedAndLeftAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	killed(t, path, 60)
	s := open(t, path)
	s.Close() // folds the log in
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(2, 3))
	refused := 0
	for range 40 {
		damaged := append([]byte{}, content...)
		page := random.IntN(len(damaged) / 4096)
		for i := page * 4096; i < (page+1)*4096; i++ {
			damaged[i] = byte(random.Uint32())
		}
		path := filepath.Join(t.TempDir(), "s.db")
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(t.Context(), path, store.Options{})
		if err == nil {
			s.Close()
			continue // a page of no table
		}
		refused++
		if !(errors.Is(err, store.ErrCorrupt) || errors.Is(err, store.ErrNotAStore)) || !strings.Contains(err.Error(), path) {
			t.Errorf("page %d garbled: %v, want a sentinel and the path", page, err)
		}
		if errors.Is(err, store.ErrCorrupt) && !strings.Contains(err.Error(), "scalehook restore FILE") {
			t.Errorf("%v does not say what to do", err)
		}
		if scaling.ClassOf(err) != scaling.Permanent {
			t.Errorf("class %s of %v, want permanent", scaling.ClassOf(err), err)
		}
		if after, _ := os.ReadFile(path); string(after) != string(damaged) {
			t.Errorf("page %d: the refused file was altered", page)
		}
	}
	if refused < 30 {
		t.Errorf("%d of 40 damaged files were refused", refused)
	}
}

func TestARefusedDatabaseKeepsItsLogToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	killed(t, path, 20)
	open(t, path).Close() // now not all of it is in the log
	killed(t, path, 30)
	content, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	garbage := strings.Repeat("garbage!", 4096)
	if err := os.WriteFile(path, []byte(garbage), 0o600); err != nil {
		t.Fatal(err)
	}
	_, openErr := store.Open(t.Context(), path, store.Options{})
	after, err := os.ReadFile(path)
	log, logErr := os.ReadFile(path + "-wal")
	if openErr == nil || err != nil || logErr != nil || string(after) != garbage || string(log) != string(content) {
		t.Errorf("Open() = %v; %d and %d bytes are left of %d and %d (%v, %v)", openErr, len(after), len(log), len(garbage), len(content), err, logErr)
	}
}

func TestATruncatedDatabaseIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s := open(t, path)
	for i := range 100 {
		if err := s.Change(t.Context(), fmt.Sprintf("group-%d", i), func(state *scaling.State) error {
			state.Instances = []scaling.Instance{{ID: strconv.Itoa(i), Failure: strings.Repeat("x", 500)}}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := int64(1); size < info.Size(); size += 7919 {
		to := filepath.Join(t.TempDir(), "s.db")
		copyFile(t, path, to)
		cut(t, to, size)
		if s, err := store.Open(t.Context(), to, store.Options{}); err == nil {
			s.Close()
			t.Errorf("cut to %d of %d bytes: opened as if whole", size, info.Size())
		} else if !errors.Is(err, store.ErrCorrupt) && !errors.Is(err, store.ErrNotAStore) {
			t.Errorf("cut to %d bytes: %v", size, err)
		}
	}
}

func TestAFolderOrFileThatCannotBeWrittenIsNamedAtTheStart(t *testing.T) {
	// Root may write everywhere: a process of another user looks.
	testenv.Need(t, testenv.Root)
	dir := t.TempDir()
	for p := dir; p != "/"; p = filepath.Dir(p) { // the other user has to get there
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			if err := os.Chmod(p, info.Mode().Perm()|0o011); err != nil {
				t.Fatal(err)
			}
		}
	}
	const nobody = 65534
	whole := func(t *testing.T, dir string) string {
		path := filepath.Join(dir, "s.db")
		s := open(t, path)
		if err := errors.Join(set(t.Context(), s, 1), s.Close()); err != nil {
			t.Fatal(err)
		}
		return path
	}
	chown := func(t *testing.T, owner int, mode fs.FileMode, paths ...string) {
		for _, path := range paths {
			if err := errors.Join(os.Chown(path, owner, owner), os.Chmod(path, mode)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name string
		make func(t *testing.T, dir string) (path, named string)
	}{
		{"a folder that cannot be made", func(_ *testing.T, dir string) (string, string) {
			path := filepath.Join(dir, "below", "s.db")
			return path, filepath.Dir(path)
		}},
		{"a folder of somebody else", func(_ *testing.T, dir string) (string, string) {
			return filepath.Join(dir, "s.db"), filepath.Join(dir, "s.db.lock")
		}},
		{"a database of somebody else", func(t *testing.T, dir string) (string, string) {
			path := whole(t, dir)
			chown(t, nobody, 0o700, dir)
			chown(t, nobody, 0o600, path+".lock", path+".mark")
			return path, path
		}},
		{"a database that is read-only", func(t *testing.T, dir string) (string, string) {
			path := whole(t, dir)
			chown(t, nobody, 0o700, dir)
			chown(t, nobody, 0o600, path+".lock", path+".mark")
			chown(t, nobody, 0o400, path)
			return path, path
		}},
		{"a mark that is read-only", func(t *testing.T, dir string) (string, string) {
			path := whole(t, dir)
			chown(t, nobody, 0o700, dir)
			chown(t, nobody, 0o600, path, path+".lock")
			chown(t, nobody, 0o400, path+".mark")
			return path, path + ".mark"
		}},
		{"a folder in which no log can be made", func(t *testing.T, dir string) (string, string) {
			path := whole(t, dir)
			chown(t, nobody, 0o600, path, path+".lock", path+".mark")
			chown(t, nobody, 0o500, dir)
			return path, path
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(dir, strconv.Itoa(rand.Int()))
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			path, named := c.make(t, dir)
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
			cmd.Env = append(os.Environ(), "STORE_TEST_OPENER="+path)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if text := string(out); !strings.Contains(text, store.ErrReadOnly.Error()) || !strings.Contains(text, named) || !strings.Contains(text, "class permanent") {
				t.Errorf("the error says %q, want what to look at, %s and class permanent", text, named)
			}
		})
	}
}

// opener opens a store, prints the error and its class, and ends.
func opener(path string) {
	s, err := store.Open(context.Background(), path, store.Options{})
	if err != nil {
		fmt.Fprintf(os.Stdout, "%v\nclass %s\n", err, scaling.ClassOf(err))
		return
	}
	fmt.Fprintln(os.Stdout, "opened", s.Close())
}

func TestAnotherProgramsTransactionDelaysAndThenIsNamed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	s, err := store.Open(t.Context(), path, store.Options{}.Impatient(50*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	conn, err := shell(t, path).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	do := func(query string) {
		t.Helper()
		if _, err := conn.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	do("BEGIN IMMEDIATE")
	if err := set(t.Context(), s, 1); !errors.Is(err, store.ErrLocked) || scaling.ClassOf(err) != scaling.Temporary {
		t.Errorf("Change() = %v of class %s, want ErrLocked and temporary", err, scaling.ClassOf(err))
	}
	do("ROLLBACK")
	if err := set(t.Context(), s, 2); err != nil {
		t.Errorf("Change() once the other is done: %v", err)
	}
}

// TestAFailingWriteUndoesTheWholeBatchAndHeals lets writes fail in the middle of a
// commit: the process may not make files larger than they are.
func TestAFailingWriteUndoesTheWholeBatchAndHeals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.db")
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_TEST_LIMITED="+path)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "healed\n") {
		t.Fatalf("%v: %s", err, out)
	}
	s := open(t, path)
	if s.Origin() != store.OriginKept {
		t.Errorf("origin %s: %s", s.Origin(), s.Why())
	}
}

// limited runs out of room by a limit of the kernel and gets room again.
func limited(path string) {
	fail := func(format string, args ...any) {
		fmt.Fprintf(os.Stdout, format+"\n", args...)
		os.Exit(1)
	}
	signal.Ignore(syscall.SIGXFSZ)
	ctx := context.Background()
	s, err := store.Open(ctx, path, store.Options{})
	if err != nil {
		fail("open: %v", err)
	}
	grow := func(group string) error {
		return s.Change(ctx, group, func(state *scaling.State) error {
			state.NextNumber++
			state.Instances = append(state.Instances, scaling.Instance{
				ID: group + strconv.Itoa(state.NextNumber), Failure: strings.Repeat("x", 20_000),
			})
			return nil
		})
	}
	var had syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &had); err != nil {
		fail("limit: %v", err)
	}
	for round := range 5 {
		info, err := os.Stat(path + "-wal")
		if err != nil {
			fail("log: %v", err)
		}
		limit := syscall.Rlimit{Cur: uint64(info.Size()) + uint64(30_000+7000*round), Max: had.Max}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			fail("limit: %v", err)
		}
		failed := 0
		done := map[string]int{}
		for i := 0; failed < 4; i++ {
			group := fmt.Sprintf("group-%d", i%3)
			before, _ := s.View(ctx, group)
			err := grow(group)
			after, viewErr := s.View(ctx, group)
			if viewErr != nil {
				fail("view: %v", viewErr)
			}
			if err != nil {
				failed++
				if scaling.ClassOf(err) == scaling.Permanent {
					fail("a disk that fails is of class permanent: %v", err)
				}
				if after.NextNumber != before.NextNumber {
					fail("round %d: %v, and yet it is seen", round, err)
				}
				continue
			}
			done[group] = after.NextNumber
			if i > 1000 {
				fail("the limit was never reached")
			}
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &had); err != nil {
			fail("limit: %v", err)
		}
		for group, n := range done {
			if err := grow(group); err != nil {
				fail("with room again: %v", err)
			}
			if state, err := s.View(ctx, group); err != nil || state.NextNumber != n+1 || len(state.Instances) != n+1 {
				fail("%s has number %d and %d instances, want %d: %v", group, state.NextNumber, len(state.Instances), n+1, err)
			}
		}
	}
	if err := s.Close(); err != nil {
		fail("close: %v", err)
	}
	fmt.Fprintln(os.Stdout, "healed")
}
