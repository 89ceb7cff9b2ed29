package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// conn is an HTTP/2 connection that sends Checks. It writes and reads frames itself,
// because a gRPC client costs more than the servers that are measured.
//
// One goroutine receives. The same or another one sends. The lock guards all that both
// use.
type conn struct {
	net.Conn
	message func(n int) []byte // the Check of this number

	mu       sync.Mutex
	out      bytes.Buffer
	framer   *http2.Framer
	encoder  *hpack.Encoder
	block    bytes.Buffer
	next     int
	stream   uint32
	began    map[uint32]time.Time // of the Checks under way
	window   int                  // bytes that the server takes on the connection
	finished bool                 // nothing more will be sent

	in       buffered
	decoder  *hpack.Decoder
	status   string // grpc-status of the block that is decoded
	received int    // bytes to give back to the server
}

// dial connects. The connection begins with the Check of the number first.
func dial(ctx context.Context, addr string, message func(int) []byte, first int) (*conn, error) {
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := newConn(plain, message, first)
	c.out.WriteString(http2.ClientPreface)
	return c, errors.Join(
		c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}),
		c.framer.WriteWindowUpdate(0, 1<<30),
		c.flush(),
	)
}

// newConn returns a connection that has sent nothing.
func newConn(plain net.Conn, message func(int) []byte, first int) *conn {
	c := &conn{Conn: plain, message: message, next: first, stream: 1, began: map[uint32]time.Time{}, window: 65535, in: buffered{r: plain}}
	c.framer = http2.NewFramer(&c.out, &c.in)
	c.framer.SetReuseFrames()
	c.encoder = hpack.NewEncoder(&c.block)
	c.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == "grpc-status" {
			c.status = f.Value
		}
	})
	return c
}

// buffered reads many frames at once.
type buffered struct {
	r     io.Reader
	space [64 << 10]byte
	left  []byte
}

func (b *buffered) Read(p []byte) (int, error) {
	if len(b.left) == 0 {
		n, err := b.r.Read(b.space[:])
		if n == 0 {
			return 0, err
		}
		b.left = b.space[:n]
	}
	n := copy(p, b.left)
	b.left = b.left[n:]
	return n, nil
}

// flush sends the frames that were written. The caller holds the lock.
func (c *conn) flush() error {
	if c.out.Len() == 0 {
		return nil
	}
	_, err := c.Write(c.out.Bytes())
	c.out.Reset()
	return err
}

// room reports whether the server takes one more Check. The caller holds the lock.
func (c *conn) room(most int) bool { return len(c.began) < most && c.window >= 16<<10 }

// send writes the next Check. Its time is counted from at. The caller holds the lock.
func (c *conn) send(at time.Time) error {
	c.block.Reset()
	for _, f := range [...]hpack.HeaderField{
		{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/envoy.service.auth.v3.Authorization/Check"},
		{Name: ":authority", Value: "rescind"}, {Name: "te", Value: "trailers"}, {Name: "content-type", Value: "application/grpc"}, {Name: "grpc-timeout", Value: "10S"},
	} {
		if err := c.encoder.WriteField(f); err != nil {
			return err
		}
	}
	message := c.message(c.next)
	c.next++
	c.window -= len(message)
	c.began[c.stream] = at
	err := errors.Join(
		c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream, BlockFragment: c.block.Bytes(), EndHeaders: true}),
		c.framer.WriteData(c.stream, true, message),
	)
	c.stream += 2
	return err
}

// result is the outcome of Checks.
type result struct {
	allowed int
	took    []time.Duration
}

// run keeps so many Checks under way until end, and then waits for the last answers.
func (c *conn) run(end time.Time, inFlight int) (r result, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		now := time.Now()
		for c.room(inFlight) && now.Before(end) {
			if err := c.send(now); err != nil {
				return r, err
			}
		}
		if err := c.flush(); err != nil {
			return r, err
		}
		if len(c.began) == 0 && !now.Before(end) {
			return r, nil
		}
		if err := c.receive(&r); err != nil {
			return r, err
		}
	}
}

// listen receives answers until nothing more is sent and none is missing.
func (c *conn) listen() (r result, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.finished || len(c.began) > 0 {
		if err = c.receive(&r); err == nil {
			err = c.flush()
		}
		if err != nil {
			if c.finished && len(c.began) == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			return r, err
		}
	}
	return r, nil
}

// finish makes listen return after the last answer.
func (c *conn) finish() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finished = true
	if len(c.began) == 0 {
		return c.SetReadDeadline(time.Now())
	}
	return c.SetReadDeadline(time.Now().Add(10 * time.Second))
}

// receive reads frames until nothing is left that has arrived, and at least one. The
// caller holds the lock, which receive gives up while it waits.
func (c *conn) receive(r *result) error {
	for first := true; first || len(c.in.left) > 0; first = false {
		c.mu.Unlock()
		frame, err := c.framer.ReadFrame()
		c.mu.Lock()
		if err != nil {
			return err
		}
		if err := c.take(frame, r); err != nil {
			return err
		}
	}
	if c.received > 1<<20 {
		err := c.framer.WriteWindowUpdate(0, uint32(c.received))
		c.received = 0
		return err
	}
	return nil
}

func (c *conn) take(frame http2.Frame, r *result) error {
	switch f := frame.(type) {
	case *http2.DataFrame:
		c.received += len(f.Data())
		// A CheckResponse begins with its status, which is empty for OK.
		if d := f.Data(); len(d) > 6 && d[5] == 0x0a && d[6] == 0 {
			r.allowed++
		}
	case *http2.HeadersFrame:
		if _, err := c.decoder.Write(f.HeaderBlockFragment()); err != nil {
			return err
		}
		if f.StreamEnded() {
			if c.status != "0" {
				return fmt.Errorf("grpc-status %s", c.status)
			}
			r.took = append(r.took, time.Since(c.began[f.StreamID]))
			delete(c.began, f.StreamID)
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			c.window += int(f.Increment)
		}
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.framer.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame:
		// gRPC resets a stream that it has answered before it saw the stream's end.
		if _, open := c.began[f.StreamID]; open {
			return fmt.Errorf("the server reset a call that it had not answered: %v", f)
		}
	case *http2.GoAwayFrame:
		return fmt.Errorf("the server closes the connection: %v", f)
	}
	return nil
}
