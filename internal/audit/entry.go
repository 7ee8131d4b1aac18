package audit

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Outcome is what an entry says of its request.
type Outcome string

// The outcomes. A request that was authenticated has two entries with the same id:
// one asked, and one of the others.
const (
	// Asked is written before anything is done.
	Asked Outcome = "asked"
	// Taken is what was done, or stored so that it will be.
	Taken Outcome = "taken"
	// Refused is what was understood or not, and not done.
	Refused Outcome = "refused"
	// Failed is what could not be done; whether a part of it was is in the log.
	Failed Outcome = "failed"
)

// Outcomes lists them.
func Outcomes() []Outcome { return []Outcome{Asked, Taken, Refused, Failed} }

// Entry is one line. Fields are only ever added.
type Entry struct {
	Time time.Time `json:"time"`
	// ID ties the entries of one request together.
	ID      string  `json:"id"`
	Action  string  `json:"action"`
	Outcome Outcome `json:"outcome"`
	// By is the token's name, the client certificate's or the address, for people.
	By string `json:"by"`
	// Auth is how that was shown: token, certificate, basic, signal or none.
	Auth string `json:"auth"`
	// Role is the token's.
	Role string `json:"role,omitempty"`
	// Certificate is the name in a verified client certificate, beside a token too.
	Certificate string `json:"certificate,omitempty"`
	// Remote is the other end of the connection, with its port.
	Remote string `json:"remote,omitempty"`
	// Forwarded is for whom a proxy says that it asks. Anybody can say so.
	Forwarded string `json:"forwarded,omitempty"`
	// Agent is what the caller calls itself.
	Agent  string `json:"agent,omitempty"`
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`
	// Group and Instance are those that the request names.
	Group    string `json:"group,omitempty"`
	Instance string `json:"instance,omitempty"`
	// Asked is what the request's body says, as far as its fields are known.
	Asked map[string]any `json:"asked,omitempty"`
	// Code is the status of the answer.
	Code int `json:"code,omitempty"`
	// Reason is why it was refused or failed.
	Reason string `json:"reason,omitempty"`
	// Message is what the caller was told of what was done.
	Message string `json:"message,omitempty"`
	// Order and Activities are the ids under which the store has what was taken.
	Order      string   `json:"order,omitempty"`
	Activities []string `json:"activities,omitempty"`
	// Replayed says that the order was taken before and nothing new was done.
	Replayed bool `json:"replayed,omitempty"`
	// Unwritten is how many refusals before this one were counted and not written.
	Unwritten uint64 `json:"unwritten,omitempty"`
}

// longest bounds a text that somebody else chose, in bytes.
const longest = 1000

// Clean makes a text that somebody else chose fit for a line: of printable
// characters, and not too long.
func Clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
	if len(s) <= longest {
		return s
	}
	return strings.ToValidUTF8(s[:longest], "") + "…"
}

func (e *Entry) clean() {
	for _, s := range []*string{
		&e.ID, &e.Action, &e.By, &e.Certificate, &e.Remote, &e.Forwarded, &e.Agent, &e.Method, &e.Path,
		&e.Group, &e.Instance, &e.Reason, &e.Message, &e.Order,
	} {
		*s = Clean(*s)
	}
	for k, v := range e.Asked {
		switch v := v.(type) {
		case string:
			e.Asked[k] = Clean(v)
		case []any:
			for i := range v {
				v[i] = Clean(fmt.Sprint(v[i]))
			}
		}
	}
}
