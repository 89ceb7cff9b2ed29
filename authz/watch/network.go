package watch

import (
	"encoding/binary"
	"net/netip"
)

// network is a source network in 49 bits: the /24 of an IPv4 address, or the /48
// of an IPv6 address, the size that a household or a site gets. 0 is an unknown
// network.
type network uint64

const (
	networkBits = 49
	familyV6    = network(1) << 48
	familyV4    = network(1) << 24 // so that 0.0.0.0/24 is one
)

// networkOf returns the network of an address.
func networkOf(a netip.Addr) network {
	a = a.Unmap()
	switch {
	case a.Is4():
		b := a.As4()
		return familyV4 | network(binary.BigEndian.Uint32(b[:])>>8)
	case a.Is6():
		b := a.As16()
		return familyV6 | network(binary.BigEndian.Uint64(b[:8])>>16)
	}
	return 0
}

// String returns the network as 203.0.113.0/24.
func (n network) String() string {
	switch {
	case n == 0:
		return "unknown"
	case n&familyV6 != 0:
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], uint64(n)<<16)
		return netip.PrefixFrom(netip.AddrFrom16(b), 48).String()
	}
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], uint32(n)<<8)
	return netip.PrefixFrom(netip.AddrFrom4(b), 24).String()
}

// comparable reports whether n and o are of one family. A client with IPv4 and
// IPv6 uses two networks at once, which is not unusual.
func (n network) comparable(o network) bool {
	return n != 0 && o != 0 && n&familyV6 == o&familyV6
}
