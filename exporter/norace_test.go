//go:build !race

package exporter

// raced says that the race detector's own memory is part of the resident size.
const raced = false
