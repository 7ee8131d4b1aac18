// Package simulated is a hypervisor in memory, for tests and for machines without
// virtualization. A World holds VMs, disks, pools of balancer members, a clock and
// a model of CPU use; its Provider and Pool fulfil the contracts of package
// scaling, and its Collector publishes the CPU families of the VMs under the names
// that scalehook-exporter uses, so that the same rules, Prometheus and
// Alertmanager run over it unchanged.
//
// Nothing in it runs by itself: every call first brings the World from the last
// moment it was looked at to the present, so that it needs neither goroutine nor
// timer and keeps step with whatever clock it is given. Every call has named
// points where a test can make it fail, hang or end the process. With a directory
// the World is saved there after every effect, and a process that was killed finds
// it again.
package simulated
