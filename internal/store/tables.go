package store

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

// tables are where a state's parts are kept. They are made once per store, since
// the parts' types are looked at for it.
type tables struct {
	instances  *table[scaling.Instance]
	activities *table[scaling.Activity]
	leases     *table[scaling.Lease]
	orders     *table[scaling.Order]
	answers    *table[scaling.Answer]
	consumed   *table[used]
	budgets    *table[bound]

	state rest[scaling.State]
	pause rest[scaling.Pause]
}

func newTables() *tables {
	return &tables{
		instances:  instances(),
		activities: activities(),
		leases:     leases(),
		orders:     orders(),
		answers:    answers(),
		consumed:   consumed(),
		budgets:    budgets(),
		state: restOf[scaling.State]("Group", "Provider", "Balancer", "NextNumber", "Primary", "Desired", "AdoptedNames",
			"Instances", "Open", "Leases", "Orders", "Pause", "HoldUntil", "LastActionEnd", "CooldownUntil", "Consumed",
			"Failures", "BackoffUntil", "Creations", "Removals", "Answers", "LastNotification"),
		pause: restOf[scaling.Pause]("Out", "In", "Until", "By", "Reason", "At"),
	}
}

func instances() *table[scaling.Instance] {
	more := restOf[scaling.Instance]("ID", "Group", "Name", "Number", "State", "Since", "Adopted", "UUID", "Address",
		"CreatedAt", "InServiceAt", "Deadline", "Activity", "Failure", "Protected", "PoweredOff")
	return table[scaling.Instance]{
		name: "instances",
		keys: []string{"id"},
		columns: []string{
			"name", "number", "state", "since", "adopted", "uuid", "address", "created_at", "in_service_at",
			"deadline", "activity", "failure", "protected", "powered_off", "more",
		},
		row: func(i *scaling.Instance) (keys, values []any) {
			address := ""
			if i.Address.IsValid() {
				address = i.Address.String()
			}
			return []any{i.ID}, []any{
				i.Name, i.Number, string(i.State),
				stamp{i.Since},
				i.Adopted, i.UUID, address,
				stamp{i.CreatedAt},
				stamp{i.InServiceAt},
				stamp{i.Deadline},
				i.Activity, i.Failure, i.Protected, i.PoweredOff,
				more.text(i),
			}
		},
		scan: func(scan scanner) (i scaling.Instance, err error) {
			var address, object string
			err = scan(&i.ID, &i.Name, &i.Number, &i.State, stampTo{&i.Since}, &i.Adopted, &i.UUID, &address, stampTo{&i.CreatedAt},
				stampTo{&i.InServiceAt}, stampTo{&i.Deadline}, &i.Activity, &i.Failure, &i.Protected, &i.PoweredOff, &object)
			if err == nil && address != "" {
				i.Address, err = netip.ParseAddr(address)
			}
			if err == nil {
				err = more.parse(object, &i)
			}
			// Like a field: a state that is not known here is not to be guessed at.
			if err == nil && i.State != "" && !slices.Contains(scaling.InstanceStates(), i.State) {
				err = fmt.Errorf("%w (it is %q)", ErrNewerSchema, i.State)
			}
			return i, during("instance", i.ID, err)
		},
		same: func(a, b *scaling.Instance) bool { return reflect.DeepEqual(a, b) },
		normal: func(i *scaling.Instance) {
			times(&i.Since, &i.CreatedAt, &i.InServiceAt, &i.Deadline)
			more.normal(i)
		},
	}.ready()
}

const activityAlive = "status IN ('pending', 'running')"

func activities() *table[scaling.Activity] {
	more := restOf[scaling.Activity]("ID", "Group", "Kind", "Status", "Cause", "Launch", "Remove", "Created", "Ended", "Steps", "Outcome")
	cause := restOf[scaling.Cause]("Kind", "Signal", "Fingerprint", "Source", "EvidenceAt", "Order", "By", "Detail")
	return table[scaling.Activity]{
		name: "activities",
		keys: []string{"id"},
		columns: []string{
			"kind", "status", "cause", "cause_signal", "cause_fingerprint", "cause_source", "cause_evidence_at", "cause_order",
			"cause_by", "cause_detail", "launch", "remove", "created", "ended", "steps", "outcome", "more", "cause_more",
		},
		row: func(a *scaling.Activity) (keys, values []any) {
			return []any{a.ID}, []any{
				string(a.Kind), string(a.Status), string(a.Cause.Kind), string(a.Cause.Signal), a.Cause.Fingerprint, a.Cause.Source,
				stamp{a.Cause.EvidenceAt},
				a.Cause.Order, a.Cause.By, a.Cause.Detail, a.Launch, a.Remove,
				stamp{a.Created},
				stamp{a.Ended},
				jsonList(a.Steps), a.Outcome, more.text(a), cause.text(&a.Cause),
			}
		},
		scan: func(scan scanner) (a scaling.Activity, err error) {
			var steps, object, causeObject string
			err = scan(
				&a.ID, &a.Kind, &a.Status, &a.Cause.Kind, &a.Cause.Signal, &a.Cause.Fingerprint, &a.Cause.Source,
				stampTo{&a.Cause.EvidenceAt},
				&a.Cause.Order, &a.Cause.By, &a.Cause.Detail, &a.Launch, &a.Remove,
				stampTo{&a.Created},
				stampTo{&a.Ended},
				&steps, &a.Outcome, &object, &causeObject,
			)
			if err == nil {
				if err = json.Unmarshal([]byte(steps), &a.Steps); err != nil {
					err = fmt.Errorf("%w (its steps: %w)", ErrCorrupt, err)
				}
			}
			if err == nil {
				err = more.parse(object, &a)
			}
			if err == nil {
				err = cause.parse(causeObject, &a.Cause)
			}
			normalSteps(&a)
			return a, during("activity", a.ID, err)
		},
		same: func(a, b *scaling.Activity) bool { return reflect.DeepEqual(a, b) },
		normal: func(a *scaling.Activity) {
			times(&a.Cause.EvidenceAt, &a.Created, &a.Ended)
			normalSteps(a)
			more.normal(a)
			cause.normal(&a.Cause)
		},
		// History stays in the table; the state has only what goes on.
		alive: activityAlive,
	}.ready()
}

func leases() *table[scaling.Lease] {
	more := restOf[scaling.Lease]("Signal", "Fingerprint", "AlertName", "StartsAt", "FirstSeen", "LastSeen", "Expires", "Receiver")
	return table[scaling.Lease]{
		name:    "leases",
		keys:    []string{"signal", "fingerprint"},
		columns: []string{"alert_name", "starts_at", "first_seen", "last_seen", "expires", "receiver", "more"},
		row: func(l *scaling.Lease) (keys, values []any) {
			return []any{string(l.Signal), l.Fingerprint}, []any{
				l.AlertName,
				stamp{l.StartsAt},
				stamp{l.FirstSeen},
				stamp{l.LastSeen},
				stamp{l.Expires},
				l.Receiver, more.text(l),
			}
		},
		scan: func(scan scanner) (l scaling.Lease, err error) {
			var object string
			err = scan(&l.Signal, &l.Fingerprint, &l.AlertName, stampTo{&l.StartsAt}, stampTo{&l.FirstSeen},
				stampTo{&l.LastSeen}, stampTo{&l.Expires}, &l.Receiver, &object)
			if err == nil {
				err = more.parse(object, &l)
			}
			return l, during("lease", l.Fingerprint, err)
		},
		same: func(a, b *scaling.Lease) bool { return reflect.DeepEqual(a, b) },
		normal: func(l *scaling.Lease) {
			times(&l.StartsAt, &l.FirstSeen, &l.LastSeen, &l.Expires)
			more.normal(l)
		},
	}.ready()
}

func orders() *table[scaling.Order] {
	more := restOf[scaling.Order]("ID", "Kind", "Count", "Instance", "By", "At", "Hold", "Key")
	return table[scaling.Order]{
		name:    "orders",
		keys:    []string{"id"},
		columns: []string{"kind", "count", "instance", "by", "at", "hold", "key", "more"},
		row: func(o *scaling.Order) (keys, values []any) {
			return []any{o.ID}, []any{string(o.Kind), o.Count, o.Instance, o.By, stamp{o.At}, o.Hold.String(), o.Key, more.text(o)}
		},
		scan: func(scan scanner) (o scaling.Order, err error) {
			var hold, object string
			err = scan(&o.ID, &o.Kind, &o.Count, &o.Instance, &o.By, stampTo{&o.At}, &hold, &o.Key, &object)
			if err == nil {
				o.Hold, err = time.ParseDuration(hold)
			}
			if err == nil {
				err = more.parse(object, &o)
			}
			return o, during("order", o.ID, err)
		},
		same: func(a, b *scaling.Order) bool { return reflect.DeepEqual(a, b) },
		normal: func(o *scaling.Order) {
			times(&o.At)
			more.normal(o)
		},
	}.ready()
}

func answers() *table[scaling.Answer] {
	more := restOf[scaling.Answer]("Key", "Digest", "Order", "At")
	return table[scaling.Answer]{
		name:    "answers",
		keys:    []string{"key"},
		columns: []string{"digest", "order_id", "at", "more"},
		row: func(a *scaling.Answer) (keys, values []any) {
			return []any{a.Key}, []any{a.Digest, a.Order, stamp{a.At}, more.text(a)}
		},
		scan: func(scan scanner) (a scaling.Answer, err error) {
			var object string
			err = scan(&a.Key, &a.Digest, &a.Order, stampTo{&a.At}, &object)
			if err == nil {
				err = more.parse(object, &a)
			}
			return a, during("answer", a.Key, err)
		},
		same: func(a, b *scaling.Answer) bool { return reflect.DeepEqual(a, b) },
		normal: func(a *scaling.Answer) {
			times(&a.At)
			more.normal(a)
		},
	}.ready()
}

func consumed() *table[used] {
	return table[used]{
		name:    "consumed",
		keys:    []string{"signal"},
		columns: []string{"at"},
		row:     func(u *used) (keys, values []any) { return []any{string(u.signal)}, []any{stamp{u.at}} },
		scan: func(scan scanner) (u used, err error) {
			err = scan(&u.signal, stampTo{&u.at})
			return u, err
		},
		same: func(a, b *used) bool { return *a == *b },
	}.ready()
}

func budgets() *table[bound] {
	return table[bound]{
		name: "budgets",
		keys: []string{"what", "at", "nth"},
		// A row is all key: it is never changed, only added and removed.
		row: func(b *bound) (keys, values []any) { return []any{b.what, stamp{b.at}, b.nth}, nil },
		scan: func(scan scanner) (b bound, err error) {
			err = scan(&b.what, stampTo{&b.at}, &b.nth)
			return b, err
		},
		same: func(a, b *bound) bool { return *a == *b },
	}.ready()
}

// during names what could not be read.
func during(what, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, id, err)
}

const groupColumns = `provider, balancer, next_number, primary_instance, desired, adopted_names, paused, pause_out, pause_in, pause_until, pause_by, pause_reason, paused_at,
	hold_until, last_action_end, cooldown_until, failures, backoff_until, last_notification, more, pause_more`

func (t *tables) groupValues(s *scaling.State) []any {
	var p scaling.Pause
	if s.Pause != nil {
		p = *s.Pause
	}
	return []any{
		s.Provider, s.Balancer, s.NextNumber, s.Primary, s.Desired, jsonList(s.AdoptedNames), s.Pause != nil, p.Out, p.In,
		stamp{p.Until},
		p.By, p.Reason,
		stamp{p.At},
		stamp{s.HoldUntil},
		stamp{s.LastActionEnd},
		stamp{s.CooldownUntil},
		s.Failures,
		stamp{s.BackoffUntil},
		stamp{s.LastNotification},
		t.state.text(s), t.pause.text(&p),
	}
}

// scanGroup reads groupColumns and the name.
func (t *tables) scanGroup(scan scanner) (s scaling.State, err error) {
	var paused bool
	var names, object, pauseObject string
	var p scaling.Pause
	err = scan(&s.Provider, &s.Balancer, &s.NextNumber, &s.Primary, &s.Desired, &names, &paused, &p.Out, &p.In, stampTo{&p.Until}, &p.By, &p.Reason, stampTo{&p.At},
		stampTo{&s.HoldUntil}, stampTo{&s.LastActionEnd}, stampTo{&s.CooldownUntil}, &s.Failures, stampTo{&s.BackoffUntil},
		stampTo{&s.LastNotification}, &object, &pauseObject, &s.Group)
	if err == nil {
		if err = json.Unmarshal([]byte(names), &s.AdoptedNames); err != nil {
			err = fmt.Errorf("%w (its adopted names: %w)", ErrCorrupt, err)
		}
	}
	if err == nil {
		// As it was called at first; within a text the quotes would be escaped.
		err = t.state.parse(strings.Replace(object, `"released":{`, `"release":{`, 1), &s)
	}
	if err == nil {
		err = t.pause.parse(pauseObject, &p)
	}
	if paused {
		s.Pause = &p
	}
	return s, during("group", s.Group, err)
}
