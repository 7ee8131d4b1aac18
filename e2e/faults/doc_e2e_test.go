//go:build e2e

// Package faults_test breaks, one at a time, everything that the real server
// depends on, and holds what it does then against docs/safety.md, "Faults". Each
// fault is made at the cheapest place that has the real program concerned:
// Prometheus and Alertmanager over simulated VMs, HAProxy before real web servers,
// libvirtd and QEMU in a lab.
package faults_test
