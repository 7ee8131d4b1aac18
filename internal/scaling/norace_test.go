//go:build !race

package scaling_test

const raceDetector = false
