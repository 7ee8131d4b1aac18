package cloud

import (
	"slices"
	"strings"
	"time"
)

// The beginnings of our tags. A tag of Nova's has at most 60 characters, without
// ',' and '/'; a value that does not fit goes on in a tag of the same name with a
// '+'.
const (
	tagOwner   = "scalehook-owner"
	tagGroup   = "scalehook-group"
	tagID      = "scalehook-id"
	tagUUID    = "scalehook-uuid"
	tagAdopted = "scalehook-adopted"

	longestTag = 60
)

// Owner is the stable id of an installation. What it made carries it.
type Owner string

// Mark is what the tags of an object say: whose it is.
type Mark struct {
	Owner Owner
	Group string // empty for what belongs to no group
	ID    string // the instance id; empty for what belongs to no instance
	// UUID is that of the server that was marked, once it was known. A copy of the
	// tags on another server is told by it.
	UUID string
	// Adopted is when an existing server was taken over; zero if it was made.
	Adopted time.Time
}

// Tags returns the tags of what is made for an instance of a group; either may be
// empty.
func Tags(owner Owner, group, id string) []string {
	return Mark{Owner: owner, Group: group, ID: id}.Tags()
}

// Tags returns the mark as tags.
func (m Mark) Tags() []string {
	var tags []string
	add := func(name, value string) {
		if value == "" {
			return
		}
		room := longestTag - len(name) - 1
		tags = append(tags, name+"="+value[:min(len(value), room)])
		if len(value) > room {
			tags = append(tags, name+"+="+value[room:])
		}
	}
	add(tagOwner, string(m.Owner))
	add(tagGroup, m.Group)
	add(tagID, m.ID)
	add(tagUUID, m.UUID)
	if !m.Adopted.IsZero() {
		add(tagAdopted, m.Adopted.UTC().Format(time.RFC3339))
	}
	return tags
}

// Query returns the mark as the tags filter of a listing takes it: all of them.
func (m Mark) Query() string { return strings.Join(m.Tags(), ",") }

// ParseMark reads the mark from an object's tags; false if they name no owner.
// Whether it is valid where it was found, its reader must judge.
func ParseMark(tags []string) (Mark, bool) {
	value := func(name string) string {
		return tagged(tags, name+"=") + tagged(tags, name+"+=")
	}
	m := Mark{Owner: Owner(value(tagOwner)), Group: value(tagGroup), ID: value(tagID), UUID: value(tagUUID)}
	if text := value(tagAdopted); text != "" {
		// A time that cannot be read still says that it was adopted.
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			at = time.Unix(0, 0)
		}
		m.Adopted = at
	}
	return m, m.Owner != ""
}

// tagged returns what follows the prefix in the first tag that has it.
func tagged(tags []string, prefix string) string {
	for _, tag := range tags {
		if value, ok := strings.CutPrefix(tag, prefix); ok {
			return value
		}
	}
	return ""
}

// OtherTags returns the tags that are not ours, in order.
func OtherTags(tags []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(tag string) bool {
		name, _, ok := strings.Cut(tag, "=")
		name = strings.TrimSuffix(name, "+")
		return ok && slices.Contains([]string{tagOwner, tagGroup, tagID, tagUUID, tagAdopted}, name)
	})
}
