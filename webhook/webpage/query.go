package webpage

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// perPage is how many groups a page shows.
	perPage = 100
	// longestFilter bounds the filter, in bytes.
	longestFilter = 100
)

// topic is what a page is about: a group or, without one, what the query asks of all.
type topic struct {
	group string
	query query
}

// query chooses among the groups.
type query struct {
	Text string // part of the name
	Show string // all, changing, attention or paused
	Sort string // name, cpu or size
	Page int    // from 1
}

// choice is one value of a query's field, and its name for people.
type choice struct{ Value, Name string }

func shows() []choice {
	return []choice{{"all", "all"}, {"attention", "that need attention"}, {"changing", "that change"}, {"paused", "that are paused or let go"}}
}

func sorts() []choice {
	return []choice{{"name", "by name"}, {"attention", "attention first"}, {"cpu", "busiest first"}, {"size", "largest first"}}
}

func readQuery(v url.Values) (query, error) {
	q := query{Text: strings.TrimSpace(v.Get("q")), Show: v.Get("show"), Sort: v.Get("sort"), Page: 1}
	if len(q.Text) > longestFilter {
		return q, fmt.Errorf("q: at most %d bytes", longestFilter)
	}
	for _, field := range []struct {
		name  string
		value *string
		all   []choice
	}{{"show", &q.Show, shows()}, {"sort", &q.Sort, sorts()}} {
		if *field.value == "" {
			*field.value = field.all[0].Value
		}
		if !slices.ContainsFunc(field.all, func(c choice) bool { return c.Value == *field.value }) {
			return q, fmt.Errorf("%s: must be one of %v", field.name, field.all)
		}
	}
	if text := v.Get("page"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 1_000_000 {
			return q, errors.New("page: must be a number from 1 on")
		}
		q.Page = n
	}
	return q, nil
}

// encode writes what differs from the defaults.
func (q query) encode() string {
	v := url.Values{}
	if q.Text != "" {
		v.Set("q", q.Text)
	}
	if q.Show != shows()[0].Value {
		v.Set("show", q.Show)
	}
	if q.Sort != sorts()[0].Value {
		v.Set("sort", q.Sort)
	}
	if q.Page > 1 {
		v.Set("page", strconv.Itoa(q.Page))
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}

// At is the address of another page.
func (q query) At(page int) string {
	q.Page = page
	if s := q.encode(); s != "" {
		return s
	}
	return "/"
}
