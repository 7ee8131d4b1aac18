// Package doctor looks whether the way from CPU counters to a new instance is whole,
// and says of everything that is not what would be right: the configurations of
// Prometheus and Alertmanager, the rules that are loaded, what is scraped, the server,
// its tokens, and the providers and balancers.
//
// The examinations are pure: they read a configuration, wherever it comes from, and
// judge it by what scalehook's own configuration asks for (Expected). Files and live
// programs are examined alike; only Live asks anybody, and nothing changes anything.
package doctor
