package store

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"github.com/scalehook/scalehook/internal/scaling"
)

func same[T comparable](a, b T) bool { return a == b }

func instances() table[scaling.Instance] {
	return table[scaling.Instance]{
		name: "instances",
		keys: []string{"id"},
		columns: []string{
			"name", "number", "state", "since", "adopted", "uuid", "address", "created_at", "in_service_at",
			"deadline", "activity", "failure", "protected", "powered_off",
		},
		row: func(i scaling.Instance) (keys, values []any) {
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
			}
		},
		scan: func(rows *sql.Rows) (i scaling.Instance, err error) {
			var address string
			err = rows.Scan(&i.ID, &i.Name, &i.Number, &i.State, stampTo{&i.Since}, &i.Adopted, &i.UUID, &address, stampTo{&i.CreatedAt},
				stampTo{&i.InServiceAt}, stampTo{&i.Deadline}, &i.Activity, &i.Failure, &i.Protected, &i.PoweredOff)
			if err == nil && address != "" {
				i.Address, err = netip.ParseAddr(address)
			}
			return i, err
		},
		same: same[scaling.Instance],
	}
}

const activityAlive = " AND status IN ('pending', 'running')"

func activities() table[scaling.Activity] {
	return table[scaling.Activity]{
		name: "activities",
		keys: []string{"id"},
		columns: []string{
			"kind", "status", "cause", "cause_signal", "cause_fingerprint", "cause_source", "cause_evidence_at", "cause_order",
			"cause_by", "cause_detail", "launch", "remove", "created", "ended", "steps", "outcome",
		},
		row: func(a scaling.Activity) (keys, values []any) {
			return []any{a.ID}, []any{
				string(a.Kind), string(a.Status), string(a.Cause.Kind), string(a.Cause.Signal), a.Cause.Fingerprint, a.Cause.Source,
				stamp{a.Cause.EvidenceAt},
				a.Cause.Order, a.Cause.By, a.Cause.Detail, a.Launch, a.Remove,
				stamp{a.Created},
				stamp{a.Ended},
				listJSON(a.Steps), a.Outcome,
			}
		},
		scan: func(rows *sql.Rows) (scaling.Activity, error) { return scanActivity(rows) },
		same: func(a, b scaling.Activity) bool { return reflect.DeepEqual(a, b) },
		// History stays in the table; the state has only what goes on.
		alive: activityAlive,
	}
}

func scanActivity(rows *sql.Rows, more ...any) (a scaling.Activity, err error) {
	var steps string
	into := []any{
		&a.ID, &a.Kind, &a.Status, &a.Cause.Kind, &a.Cause.Signal, &a.Cause.Fingerprint, &a.Cause.Source,
		stampTo{&a.Cause.EvidenceAt},
		&a.Cause.Order, &a.Cause.By, &a.Cause.Detail, &a.Launch, &a.Remove,
		stampTo{&a.Created},
		stampTo{&a.Ended},
		&steps, &a.Outcome,
	}
	if err := rows.Scan(append(into, more...)...); err != nil {
		return a, err
	}
	if err := json.Unmarshal([]byte(steps), &a.Steps); err != nil {
		return a, fmt.Errorf("steps of activity %s: %w", a.ID, err)
	}
	normalSteps(&a)
	return a, nil
}

// listJSON cannot fail: what JSON cannot hold (a year past 9999) normal took out.
func listJSON[T any](list []T) string {
	if len(list) == 0 {
		return "[]"
	}
	text, err := json.Marshal(list)
	if err != nil {
		return "[]"
	}
	return string(text)
}

func leases() table[scaling.Lease] {
	return table[scaling.Lease]{
		name:    "leases",
		keys:    []string{"signal", "fingerprint"},
		columns: []string{"alert_name", "starts_at", "first_seen", "last_seen", "expires", "receiver"},
		row: func(l scaling.Lease) (keys, values []any) {
			return []any{string(l.Signal), l.Fingerprint},
				[]any{l.AlertName, stamp{l.StartsAt}, stamp{l.FirstSeen}, stamp{l.LastSeen}, stamp{l.Expires}, l.Receiver}
		},
		scan: func(rows *sql.Rows) (l scaling.Lease, err error) {
			err = rows.Scan(&l.Signal, &l.Fingerprint, &l.AlertName, stampTo{&l.StartsAt}, stampTo{&l.FirstSeen},
				stampTo{&l.LastSeen}, stampTo{&l.Expires}, &l.Receiver)
			return l, err
		},
		same: same[scaling.Lease],
	}
}

func orders() table[scaling.Order] {
	return table[scaling.Order]{
		name:    "orders",
		keys:    []string{"id"},
		columns: []string{"kind", "count", "instance", "by", "at", "hold", "key"},
		row: func(o scaling.Order) (keys, values []any) {
			return []any{o.ID}, []any{string(o.Kind), o.Count, o.Instance, o.By, stamp{o.At}, o.Hold.String(), o.Key}
		},
		scan: func(rows *sql.Rows) (o scaling.Order, err error) {
			var hold string
			err = rows.Scan(&o.ID, &o.Kind, &o.Count, &o.Instance, &o.By, stampTo{&o.At}, &hold, &o.Key)
			if err == nil {
				o.Hold, err = time.ParseDuration(hold)
			}
			return o, err
		},
		same: same[scaling.Order],
	}
}

func consumed() table[used] {
	return table[used]{
		name:    "consumed",
		keys:    []string{"signal"},
		columns: []string{"at"},
		row:     func(u used) (keys, values []any) { return []any{string(u.signal)}, []any{stamp{u.at}} },
		scan: func(rows *sql.Rows) (u used, err error) {
			err = rows.Scan(&u.signal, stampTo{&u.at})
			return u, err
		},
		same: same[used],
	}
}

func budgets() table[bound] {
	return table[bound]{
		name: "budgets",
		keys: []string{"what", "at", "nth"},
		// A row is all key: it is never changed, only added and removed.
		row: func(b bound) (keys, values []any) { return []any{b.what, stamp{b.at}, b.nth}, nil },
		scan: func(rows *sql.Rows) (b bound, err error) {
			err = rows.Scan(&b.what, stampTo{&b.at}, &b.nth)
			return b, err
		},
		same: same[bound],
	}
}

func answers() table[scaling.Answer] {
	return table[scaling.Answer]{
		name:    "answers",
		keys:    []string{"key"},
		columns: []string{"digest", "order_id", "at"},
		row: func(a scaling.Answer) (keys, values []any) {
			return []any{a.Key}, []any{a.Digest, a.Order, stamp{a.At}}
		},
		scan: func(rows *sql.Rows) (a scaling.Answer, err error) {
			err = rows.Scan(&a.Key, &a.Digest, &a.Order, stampTo{&a.At})
			return a, err
		},
		same: same[scaling.Answer],
	}
}

const groupColumns = `provider, balancer, next_number, primary_instance, desired, adopted_names, paused, pause_out, pause_in, pause_until, pause_by, pause_reason, paused_at,
	hold_until, last_action_end, cooldown_until, failures, backoff_until, last_notification`

func groupValues(s *scaling.State) []any {
	var p scaling.Pause
	if s.Pause != nil {
		p = *s.Pause
	}
	return []any{
		s.Provider, s.Balancer, s.NextNumber, s.Primary, s.Desired, listJSON(s.AdoptedNames), s.Pause != nil, p.Out, p.In,
		stamp{p.Until},
		p.By, p.Reason,
		stamp{p.At},
		stamp{s.HoldUntil},
		stamp{s.LastActionEnd},
		stamp{s.CooldownUntil},
		s.Failures,
		stamp{s.BackoffUntil},
		stamp{s.LastNotification},
	}
}

func scanGroup(rows *sql.Rows) (s scaling.State, err error) {
	var paused bool
	var names string
	var p scaling.Pause
	err = rows.Scan(&s.Provider, &s.Balancer, &s.NextNumber, &s.Primary, &s.Desired, &names, &paused, &p.Out, &p.In, stampTo{&p.Until}, &p.By, &p.Reason, stampTo{&p.At},
		stampTo{&s.HoldUntil}, stampTo{&s.LastActionEnd}, stampTo{&s.CooldownUntil}, &s.Failures, stampTo{&s.BackoffUntil},
		stampTo{&s.LastNotification})
	if err == nil {
		err = json.Unmarshal([]byte(names), &s.AdoptedNames)
	}
	if paused {
		s.Pause = &p
	}
	return s, err
}
