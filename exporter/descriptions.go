package exporter

import (
	"errors"
	"hash/maphash"
	"sync"
	"time"
)

// descriptionAge is how long a definition is believed without reading it
// again, at least; each domain adds up to as much again, by its uuid, so that
// not all are read in one scrape. A new domain, a new name and a start are
// noticed at once.
const descriptionAge = 10 * time.Minute

// descriptions remembers what the definitions say, by uuid.
type descriptions struct {
	seed maphash.Seed

	mu    sync.Mutex
	known map[string]*described
}

type described struct {
	description
	name    string
	id      uint
	expires time.Time
}

func newDescriptions() *descriptions {
	return &descriptions{seed: maphash.MakeSeed(), known: make(map[string]*described)}
}

// get returns what is known of a domain, even if it is old.
func (d *descriptions) get(uuid string) (description, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k, ok := d.known[uuid]
	if !ok {
		return description{}, false
	}
	return k.description, true
}

// stale returns the domains whose definitions must be read, and forgets the
// domains that are not in the list.
func (d *descriptions) stale(domains []domain, now time.Time) []domain {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []domain
	for i := range domains {
		k, ok := d.known[domains[i].UUID]
		if !ok || k.name != domains[i].Name || k.id != domains[i].ID || now.After(k.expires) {
			out = append(out, domains[i])
		}
	}
	if len(d.known) > len(domains) {
		listed := make(map[string]bool, len(domains))
		for i := range domains {
			listed[domains[i].UUID] = true
		}
		for uuid := range d.known {
			if !listed[uuid] {
				delete(d.known, uuid)
			}
		}
	}
	return out
}

// refresh reads the definitions of these domains one by one and returns how
// many it read. It goes on when the scrape that asked for it does not wait any
// more: the next one finds what was read until then.
func (d *descriptions) refresh(s session, domains []domain) (int, error) {
	read := 0
	var errs []error
	for i := range domains {
		about, err := s.Describe(domains[i].UUID)
		switch {
		case err == nil:
			d.remember(&domains[i], about)
			read++
		case errors.Is(err, errVanished):
		case errors.Is(err, errBroken):
			return read, err
		default:
			errs = append(errs, err)
		}
	}
	return read, errors.Join(errs...)
}

func (d *descriptions) remember(of *domain, about description) {
	jitter := time.Duration(maphash.String(d.seed, of.UUID) % uint64(descriptionAge))
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[of.UUID] = &described{
		description: about, name: of.Name, id: of.ID,
		expires: time.Now().Add(descriptionAge + jitter),
	}
}
