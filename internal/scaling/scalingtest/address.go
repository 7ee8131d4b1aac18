package scalingtest

import "net/netip"

// address returns one of the addresses that are set aside for documentation.
func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + n%250)}) }
