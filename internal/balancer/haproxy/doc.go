// Package haproxy makes the servers of a HAProxy backend look as a group's pool
// is wished, over the Runtime API of HAProxy 2.6 and later. It adds, drains and
// deletes servers whose names it made itself and touches nothing else: not the
// servers of the configuration file, not other backends, no global setting. It
// never reloads HAProxy and runs no program.
//
// It speaks the Runtime API itself. The client of haproxytech/client-native
// takes no context, waits a fixed 30 s behind one mutex, and drops the error of
// a read, so that half an answer looks like a whole one: its deadlines cannot be
// held. Here every command is one connection that ends with its context, and an
// answer counts only when it is complete.
package haproxy
