package testenv

// ErrNeedsRoot lets a test play the plain user while it runs as root.
var ErrNeedsRoot = errNeedsRoot
