// Package scalingtest holds the conformance suites of the contracts in package
// scaling. Every implementation passes its suite against the real thing: a store
// against its file, a provider against its hypervisor, a balancer against its
// daemon. A suite ends by making sure that nothing is left behind.
//
// It knows only the contracts, takes whatever is special about an implementation
// through hooks, and is imported by tests alone.
package scalingtest
