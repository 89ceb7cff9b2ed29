package known

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Messages of a module. Another process writes them, so each number is bounded before
// it is used.
const (
	helloSize         = 32
	streamMessageSize = 24

	maxMessage = 32 << 10 // bytes

	// The module keeps to these bounds too.
	maxStreams     = 1 << 16  // open ones of a connection
	maxStreamBytes = 64 << 20 // of their policies and tokens
)

var (
	errVersion = errors.New("its module is of another version; install the module of this version")
	errMessage = errors.New("its module sends messages that this version does not know")
)

// readHello returns the number of workers, or one more than there may be.
func readHello(m []byte) (workers int, err error) {
	if len(m) != helloSize {
		return 0, errVersion
	}
	word := func(at int) uint64 { return binary.NativeEndian.Uint64(m[at:]) }
	if word(0) != messageHello || word(8) != tableMagic || word(16) != layout {
		return 0, errVersion
	}
	return int(min(word(24), maxWorkers+1)), nil
}

// openStreams bounds the streams of a connection. The goroutine that reads the
// connection owns it.
type openStreams struct {
	sizes map[uint64]int // by number
	bytes int
}

// add notes a stream. It returns an error if the stream is open already, or is one too
// many.
func (o *openStreams) add(stream uint64, size int) error {
	switch _, open := o.sizes[stream]; {
	case open:
		return errMessage
	case len(o.sizes) == maxStreams || o.bytes+size > maxStreamBytes:
		return fmt.Errorf("its module reports more than %d open streams, or more than %d bytes of tokens", maxStreams, maxStreamBytes)
	}
	o.sizes[stream] = size
	o.bytes += size
	return nil
}

// remove forgets a stream, and reports whether it was open.
func (o *openStreams) remove(stream uint64) bool {
	size, open := o.sizes[stream]
	delete(o.sizes, stream)
	o.bytes -= size
	return open
}

// hear reads the reports about streams until the Envoy ends.
func (s *Server) hear(c *connection) error {
	buffer := make([]byte, maxMessage)
	for {
		n, err := c.socket.Read(buffer)
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || n == 0 {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.heard(c, buffer[:n]); err != nil {
			return err
		}
	}
}

// heard reads one report.
func (s *Server) heard(c *connection, m []byte) error {
	if len(m) < streamMessageSize {
		return errMessage
	}
	id := StreamID{c.number, binary.NativeEndian.Uint64(m[8:])}
	switch binary.NativeEndian.Uint64(m) {
	case messageStreamOpened:
		policy, token := uint64(binary.NativeEndian.Uint32(m[16:])), uint64(binary.NativeEndian.Uint32(m[20:]))
		if policy+token != uint64(len(m)-streamMessageSize) {
			return errMessage
		}
		if err := c.open.add(id.Stream, len(m)); err != nil {
			return err
		}
		texts := string(m[streamMessageSize:])
		s.o.Streams.Opened(id, texts[:policy], texts[policy:], func() { c.end(id.Stream) })
	case messageStreamClosed:
		if len(m) != streamMessageSize || !c.open.remove(id.Stream) {
			return errMessage
		}
		s.o.Streams.Closed(id)
	default:
		return errMessage
	}
	return nil
}

// end tells the Envoy to reset a stream. If the Envoy does not take messages, its
// connection ends, and with it the use of known tokens. The module reports all its
// streams when it connects again.
func (c *connection) end(stream uint64) {
	var m [streamMessageSize]byte
	binary.NativeEndian.PutUint64(m[:], messageStreamEnd)
	binary.NativeEndian.PutUint64(m[8:], stream)
	_ = c.socket.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := c.socket.Write(m[:]); err != nil {
		_ = c.socket.Close()
	}
}
