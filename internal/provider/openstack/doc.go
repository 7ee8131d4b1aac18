// Package openstack is the driver for OpenStack: servers of Nova on ports of
// Neutron, one floating IP per member where members are reached through one, and a
// floating IP of the group's own that follows its primary.
//
// What is ours is told by tags that are part of the call which makes a server, so
// that there is never a moment in which it exists unmarked. Ports and floating IPs
// carry the same in their description, since Neutron takes tags only afterwards.
package openstack
