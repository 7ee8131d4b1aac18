package store

import (
	"errors"
	"math"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/scalehook/scalehook/internal/scaling"
)

// grown is a type of the domain to which fields were added.
type grown struct {
	ID    string
	Known int
	At    time.Time // no column
	Flag  bool
	Note  string
	Who   *scaling.Pause
	Times map[string]time.Time
	List  []scaling.Step
	Share float64
	inner int
}

func TestFieldsWithoutAColumnComeBackAsTheyWereKept(t *testing.T) {
	zone := time.FixedZone("east", 7200)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, zone)
	r := restOf[grown]("ID", "Known")
	for _, c := range []struct {
		name string
		v    grown
		text string
	}{
		{"nothing set takes no room", grown{ID: "x", Known: 3, inner: 4}, "{}"},
		{"one thing", grown{Flag: true}, `{"flag":true}`},
		{"a moment of another zone", grown{At: at}, `{"at":"2026-01-02T01:04:05.000000006Z"}`},
		{"a text for people", grown{Note: "5 < 6 & \xff"}, "{\"note\":\"5 < 6 & \uFFFD\"}"},
		{"a year past what JSON holds", grown{At: at.AddDate(9000, 0, 0)}, `{"at":"9999-12-31T23:59:59Z"}`},
		{"a whole", grown{
			At: at, Flag: true, Note: "n", Who: &scaling.Pause{Until: at}, Share: 0.5,
			Times: map[string]time.Time{"a": at, "b": {}}, List: []scaling.Step{{Name: "\xfe", Started: at}, {}},
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.normal(&c.v)
			text, ok := r.text(&c.v).(string)
			if !ok || (c.text != "" && text != c.text) {
				t.Errorf("text %v, want %s", text, c.text)
			}
			back := grown{ID: c.v.ID, Known: c.v.Known, inner: c.v.inner}
			if err := r.parse(text, &back); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back, c.v) {
				t.Errorf("came back differently:\n%s", cmp.Diff(c.v, back, cmp.AllowUnexported(grown{})))
			}
		})
	}
}

func TestAValueThatCannotBeKeptFailsItsOwnChangeOnly(t *testing.T) {
	r := restOf[grown]("ID")
	value := r.text(&grown{Share: math.NaN()})
	if _, ok := value.(unstorable); !ok {
		t.Fatalf("%v can be kept", value)
	}
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "s.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// What the database says of such a value is the change's own fault.
	_, err = s.reader.ExecContext(t.Context(), "UPDATE groups SET more = ?", value)
	if !ownFault(err) {
		t.Errorf("%v would end the whole batch", err)
	}
}

func TestAnObjectThatIsNotOursIsNamed(t *testing.T) {
	r := restOf[grown]("ID")
	for text, want := range map[string]error{`{"someday":1}`: ErrNewerSchema, `{"flag":`: ErrCorrupt, `{"flag":"yes"}`: ErrNewerSchema} {
		if err := r.parse(text, new(grown)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", text, err, want)
		}
	}
}

func TestNamesInTheDatabaseAreThoseOfPeople(t *testing.T) {
	for name, want := range map[string]string{
		"Standby": "standby", "SuspectSince": "suspect_since", "UUID": "uuid", "VMName": "vm_name", "OwnerID": "owner_id", "A": "a",
	} {
		if got := snake(name); got != want {
			t.Errorf("snake(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestAMarkSaysAllOrNothing(t *testing.T) {
	now := mark{store: "ABC", epoch: 7, commits: 123456}
	text := now.text()
	if got := parseMark(text); got != now || len(text) != markSize {
		t.Errorf("%q is read as %+v", text, got)
	}
	for i := range text {
		broken := append([]byte{}, text...)
		broken[i] ^= 1
		if got := parseMark(broken); got != (mark{}) {
			t.Errorf("broken at %d it is read as %+v", i, got)
		}
		if got := parseMark(text[:i]); got != (mark{}) {
			t.Errorf("cut at %d it is read as %+v", i, got)
		}
	}
}
