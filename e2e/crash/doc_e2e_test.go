//go:build e2e

// Package crash_test ends the real server with SIGKILL at every fault point that
// a group's life passes, starts it again, and holds the world against the one
// that an undisturbed life leads to.
package crash_test
