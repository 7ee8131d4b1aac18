package scalingtest

import "net/netip"

// address returns one of the addresses that are set aside for documentation.
func address(n int) netip.Addr {
	a := netip.AddrFrom4([4]byte{192, 0, 2, 1})
	for range n % 250 {
		a = a.Next()
	}
	return a
}
