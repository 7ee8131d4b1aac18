//go:build e2e && chaos

package crash_test

// everyPassing asks for a kill at every passing of every point.
const everyPassing = true
