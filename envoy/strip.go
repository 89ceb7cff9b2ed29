package envoy

import (
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// The body of a request is in CheckRequest.attributes.request.http, as text or
// as bytes.
var bodyPath = []protowire.Number{1, 4, 2}

const (
	bodyField    protowire.Number = 11
	rawBodyField protowire.Number = 12
)

// strip returns a copy of a CheckRequest without the body of the HTTP request.
// It passes over the body, however large, and copies the rest. It returns false
// if the message cannot be read, or if the rest is larger than limit.
func strip(message mem.BufferSlice, limit int) ([]byte, bool) {
	c := cursor{rest: message}
	return c.strip(nil, message.Len(), bodyPath, limit)
}

// strip appends the fields up to the offset end to out. path leads from this
// message to the one that has the body.
func (c *cursor) strip(out []byte, end int, path []protowire.Number, limit int) ([]byte, bool) {
	for c.at < end {
		tag, ok := c.varint()
		number, wireType := protowire.DecodeTag(tag)
		if !ok || number < protowire.MinValidNumber {
			return nil, false
		}
		switch wireType {
		case protowire.VarintType:
			var v uint64
			v, ok = c.varint()
			out = protowire.AppendVarint(protowire.AppendVarint(out, tag), v)
		case protowire.Fixed64Type:
			out, ok = c.copy(protowire.AppendVarint(out, tag), 8)
		case protowire.Fixed32Type:
			out, ok = c.copy(protowire.AppendVarint(out, tag), 4)
		case protowire.BytesType:
			var n uint64
			n, ok = c.varint()
			switch {
			case !ok || c.at > end || n > uint64(end-c.at):
				return nil, false
			case len(path) == 0 && (number == bodyField || number == rawBodyField):
				ok = c.skip(int(n))
			case len(path) > 0 && number == path[0]:
				var inner []byte
				inner, ok = c.strip(nil, c.at+int(n), path[1:], limit)
				out = protowire.AppendBytes(protowire.AppendVarint(out, tag), inner)
			case len(out)+int(n) > limit:
				return nil, false
			default:
				out, ok = c.copy(protowire.AppendVarint(protowire.AppendVarint(out, tag), n), int(n))
			}
		default: // groups, which no CheckRequest has
			return nil, false
		}
		if !ok || len(out) > limit {
			return nil, false
		}
	}
	return out, c.at == end
}

// cursor reads bytes that lie in several buffers. Its methods return false at
// the end of the bytes.
type cursor struct {
	rest    mem.BufferSlice
	current []byte // of the buffer before rest
	at      int    // offset from the start
}

// next returns the unread bytes of one buffer, nil at the end.
func (c *cursor) next() []byte {
	for len(c.current) == 0 && len(c.rest) > 0 {
		c.current, c.rest = c.rest[0].ReadOnlyData(), c.rest[1:]
	}
	return c.current
}

func (c *cursor) advance(n int) {
	c.current = c.current[n:]
	c.at += n
}

func (c *cursor) skip(n int) bool {
	for n > 0 {
		data := c.next()
		if len(data) == 0 {
			return false
		}
		step := min(n, len(data))
		c.advance(step)
		n -= step
	}
	return true
}

func (c *cursor) copy(dst []byte, n int) ([]byte, bool) {
	for n > 0 {
		data := c.next()
		if len(data) == 0 {
			return nil, false
		}
		step := min(n, len(data))
		dst = append(dst, data[:step]...)
		c.advance(step)
		n -= step
	}
	return dst, true
}

// varint reads a number that may lie across buffers.
func (c *cursor) varint() (uint64, bool) {
	var encoded [10]byte
	for i := range encoded {
		data := c.next()
		if len(data) == 0 {
			return 0, false
		}
		encoded[i] = data[0]
		c.advance(1)
		if encoded[i] < 0x80 {
			v, n := protowire.ConsumeVarint(encoded[:i+1])
			return v, n > 0
		}
	}
	return 0, false
}
