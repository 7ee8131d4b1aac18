// Package firstboot makes what a guest reads at its first boot: its hostname and
// its user data, out of one template language for all providers. A user-data file
// is a Go text/template over [Data]; without one a #cloud-config with hostname and
// keys is written. It also tells what kind of user data a text is, whether an
// image will understand it, and whether Nova will take it. It knows no provider
// and writes nothing anywhere.
package firstboot
