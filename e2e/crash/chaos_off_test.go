//go:build e2e && !chaos

package crash_test

// everyPassing asks for a kill at every passing of every point. It takes long;
// without it each point is tried at its first and its last passing.
const everyPassing = false
