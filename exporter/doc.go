// Package exporter turns what libvirt knows about its domains into Prometheus
// metrics. It knows nothing of groups, scaling or rules.
//
// What goes in is a read-only libvirt connection; what comes out is a
// Prometheus gatherer and an HTTP handler. CPU time, state, vCPUs and memory
// come from one pass of virDomainGetInfo, which is the cheapest thing libvirt
// offers; everything else is a collector of its own that can be switched off.
//
// libvirt's calls cannot be cancelled. So each pass has a connection of its
// own, a scrape waits for a call only until the scrape's deadline, a later
// scrape joins a call that is still under way, and a call that hangs is left
// behind on its connection while a new one is opened, a bounded number of
// times. A scrape therefore always answers, with whatever was there in time.
package exporter
