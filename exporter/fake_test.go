package exporter

import (
	"libvirt.org/go/libvirt"
)

// fakeSession is a session whose calls are functions; a missing one answers
// with nothing.
type fakeSession struct {
	domains  func() ([]domain, error)
	readers  func(int) // is told how many domains may be read at once
	stats    func(libvirt.DomainStatsTypes) ([]domainStats, error)
	describe func(uuid string) (description, error)
	close    func()
}

var _ session = (*fakeSession)(nil)

func (f *fakeSession) Domains(readers int) ([]domain, error) {
	if f.readers != nil {
		f.readers(readers)
	}
	if f.domains == nil {
		return nil, nil
	}
	return f.domains()
}

func (f *fakeSession) Stats(types libvirt.DomainStatsTypes) ([]domainStats, error) {
	if f.stats == nil {
		return nil, nil
	}
	return f.stats(types)
}

func (f *fakeSession) Describe(uuid string) (description, error) {
	if f.describe == nil {
		return description{OSType: "hvm", Arch: "x86_64", Machine: "pc"}, nil
	}
	return f.describe(uuid)
}

func (f *fakeSession) Close() error {
	if f.close != nil {
		f.close()
	}
	return nil
}
