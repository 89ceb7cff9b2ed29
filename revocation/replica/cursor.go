package replica

import "encoding/binary"

// cursor reads numbers and bytes from the front of rest. After the first
// reading that fails, bad is true and every later reading is zero.
type cursor struct {
	rest []byte
	bad  bool
}

// number reads an unsigned varint that is at most limit.
func (c *cursor) number(limit uint64) uint64 {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 || v > limit {
		c.rest, c.bad = nil, true
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// bytes reads the next n bytes. They share memory with rest.
func (c *cursor) bytes(n uint64) []byte {
	if c.bad || n > uint64(len(c.rest)) {
		c.rest, c.bad = nil, true
		return nil
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}
