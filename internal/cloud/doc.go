// Package cloud is the way to an OpenStack cloud: where its credentials come from,
// one authenticated connection with a deadline for every request, what its errors
// mean, how its objects are found by name, and how ours are told from others'.
//
// Nothing is contacted before the first call that needs it, no call outlives its
// context, and nothing is tried twice but what failed for an expired token.
package cloud
