// Package octavia makes the members of an Octavia pool look as a group's pool is
// wished. It makes the load balancer, listener, pool and health monitor around the
// members, marked by tags, or adopts those that the configuration names; of what it
// adopted it changes nothing but its own members.
//
// Octavia locks a whole load balancer for every change. Here every change waits for
// its turn, for ACTIVE, is sent, and waits for ACTIVE again. Members are changed one
// by one and by their ids. The batch call is never used: without additive_only it
// deletes what it does not name, and even with it it finds a member by address and
// port, so that between our look at the pool and the call it could meet somebody
// else's member and rename it. A single call can only do what it says.
package octavia
