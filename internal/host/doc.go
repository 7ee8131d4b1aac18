// Package host lets the guests of a single-machine OpenStack (MicroStack) reach the
// world through their host: IPv4 forwarding, masquerading by nftables, and, where a
// firewall of the host would drop the forwarded packets, an accept in the place that
// this firewall offers for it. An accept in a table of our own would not do: a packet
// passes only if every base chain at the hook accepts it.
//
// Apply and Remove may be run again at any time and go on where they were
// interrupted; Remove takes back all that Apply did, and nothing else. The package
// runs nft, iptables, ufw, firewall-cmd and systemctl, and needs root.
package host
