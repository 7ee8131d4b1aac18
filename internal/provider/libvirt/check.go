package libvirt

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"libvirt.org/go/libvirt"

	"github.com/scalehook/scalehook/internal/scaling"
)

// Check looks at the host with the eyes of a launch, and changes nothing: pools,
// images, networks, the domain type. Unlike a launch it reads imported images as
// a whole, which takes as long as reading the file. It returns what would go wrong as one
// error, and what an operator should know as warnings.
func (p *Provider) Check(ctx context.Context) (warnings []string, err error) {
	s, err := p.m.session(ctx, "check", false)
	if err != nil {
		return nil, err
	}
	defer s.release()
	p.mu.RLock()
	templates := maps.Clone(p.templates)
	p.mu.RUnlock()
	var errs []error
	imported := map[string]importedImage{}
	for _, group := range slices.Sorted(maps.Keys(templates)) {
		found, err := p.checkTemplate(ctx, s, templates[group], imported)
		for _, w := range found {
			warnings = append(warnings, fmt.Sprintf("group %q: %s", group, w))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("group %q: %w", group, err))
		}
	}
	s.release()
	unread, err := p.checkContents(ctx, imported)
	return append(warnings, unread...), errors.Join(append(errs, err)...)
}

// importedImage is an image with a record of its import.
type importedImage struct {
	volume
	record *imageRecord
}

// checkContents compares each image with its hash. It takes at most half of the
// time there is, and what it did not get to is a warning.
func (p *Provider) checkContents(ctx context.Context, images map[string]importedImage) (warnings []string, err error) {
	reading := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		reading, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(images)) {
		err := p.checkContent(reading, images[path])
		switch {
		case err == nil:
		case reading.Err() != nil && ctx.Err() == nil:
			warnings = append(warnings, fmt.Sprintf("image %s was not compared with its hash: reading it takes longer than the check may; give it more time", path))
		default:
			errs = append(errs, err)
		}
	}
	return warnings, errors.Join(errs...)
}

// checkContent has a session of its own, which the end of its time may use up.
func (p *Provider) checkContent(ctx context.Context, image importedImage) error {
	s, err := p.m.session(ctx, "check of "+image.Path, false)
	if err != nil {
		return err
	}
	defer s.release()
	return image.record.checkContent(ctx, s, image.volume)
}

// checkTemplate adds the group's image to imported if it was.
func (p *Provider) checkTemplate(ctx context.Context, s *session, t Template, imported map[string]importedImage) (warnings []string, err error) {
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	if text := t.seedWarning(); text != "" {
		warn("%s", text)
	}
	var errs []error
	if _, err := p.hostFor(ctx, s, t.DomainType); err != nil {
		errs = append(errs, err)
	}
	if _, err := poolFolder(ctx, s, t.Pool); err != nil {
		errs = append(errs, err)
	} else if err := p.checkRoom(ctx, s, "check", t); err != nil && scaling.ClassOf(err) == scaling.Quota {
		warn("a launch would be refused now: %v", err)
	} else if err != nil {
		errs = append(errs, err)
	}
	p.endPromise("check")
	image, err := p.checkImage(ctx, s, t)
	if err != nil {
		errs = append(errs, err)
	} else {
		record, err := readRecord(ctx, s, image.Pool, image.Name)
		if err != nil {
			errs = append(errs, err)
		} else if record != nil {
			imported[image.Path] = importedImage{image, record}
		}
		found, err := imageWarnings(ctx, s, t, image, record != nil)
		if err != nil {
			errs = append(errs, err)
		}
		warnings = append(warnings, found...)
	}
	if t.Network != "" {
		if err := checkNetwork(ctx, s, t.Network); err != nil {
			errs = append(errs, err)
		} else if t.Address.Source == AddressLease {
			if err := checkLeases(ctx, s, t.Network); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return warnings, errors.Join(errs...)
}

// imageWarnings says what does not stop a launch and may stop the clones later.
func imageWarnings(ctx context.Context, s *session, t Template, image volume, recorded bool) (warnings []string, err error) {
	if mode, err := strconv.ParseUint(image.Mode, 8, 32); err == nil && mode&0o222 != 0 {
		warnings = append(warnings, fmt.Sprintf("image %s is writable (mode %s): whoever starts a VM on it breaks every clone; make it read-only with chmod 0444", image.Path, image.Mode))
	}
	if !recorded {
		warnings = append(warnings, fmt.Sprintf("image %s was not imported with scalehook template import, so a change is noticed only while it has clones", image.Path))
	}
	uses, _, err := usesOf(ctx, s, image)
	if err != nil {
		return warnings, err
	}
	for _, use := range uses {
		if use.writable {
			warnings = append(warnings, fmt.Sprintf("image %s is the disk of domain %q: never start it while there are clones", image.Path, use.domain))
		}
	}
	if t.TemplateDomain != "" && !slices.ContainsFunc(uses, func(u diskUse) bool { return u.domain == t.TemplateDomain }) {
		warnings = append(warnings, fmt.Sprintf("template_domain %q does not have image %s as its disk", t.TemplateDomain, image.Path))
	}
	return warnings, nil
}

func checkNetwork(ctx context.Context, s *session, name string) error {
	_, err := query(ctx, s, fmt.Sprintf("look up network %q", name), func(_ context.Context, conn *libvirt.Connect) (struct{}, error) {
		net, err := conn.LookupNetworkByName(name)
		if err != nil {
			return struct{}{}, err
		}
		defer free(net.Free)
		active, err := net.IsActive()
		if err == nil && !active {
			err = scaling.Errorf(scaling.Temporary, "network %q is not started: virsh net-start %s", name, name)
		}
		return struct{}{}, err
	})
	return err
}
