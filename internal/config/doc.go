// Package config reads scalehook's configuration file and builds what it names.
// It is strict: an unknown key, a value that cannot work and two values that
// contradict each other are errors with the file, the line and what would be
// right, and all of them are reported together.
//
// It is the only package that names drivers. To add one, add a field to Provider
// or Balancer and a line to the function below it (drivers.go).
package config
