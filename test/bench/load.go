package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// measured are the figures of one turn.
type measured struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       float64 // seconds for 100,000 Checks
	resident  float64 // MiB
}

// connections is the number of connections among which the Checks under way are
// divided. An Envoy has one for each of its workers.
const connections = 4

// measure sends one kind of traffic to a server for one turn, after a short one that
// does not count.
func measure(ctx context.Context, s *server, t *traffic, kind string, o options) (measured, error) {
	turn := time.Duration(o.seconds * float64(time.Second))
	var all []*conn
	for n := range connections {
		c, err := dial(ctx, s.addr, func(n int) []byte { return t.next(kind, s, n) }, n*7, o.inFlight/connections)
		if err != nil {
			return measured{}, err
		}
		defer func() { _ = c.Close() }()
		all = append(all, c)
	}
	if _, err := drive(all, turn/8); err != nil {
		return measured{}, err
	}
	before, err := s.processorTime()
	if err != nil {
		return measured{}, err
	}
	began := time.Now()
	r, err := drive(all, turn)
	if err != nil {
		return measured{}, err
	}
	took := time.Since(began)
	after, err := s.processorTime()
	if err != nil {
		return measured{}, err
	}
	n := len(r.took)
	if n == 0 {
		return measured{}, errors.New("no Check was answered")
	}
	if denies := kind == revoked && len(s.name) > 7 && s.name[:7] == "rescind"; denies && r.allowed > 0 || !denies && r.allowed != n {
		return measured{}, fmt.Errorf("%d of %d Checks were allowed", r.allowed, n)
	}
	slices.Sort(r.took)
	return measured{
		perSecond: float64(n) / took.Seconds(), p50: r.took[n/2], p99: r.took[n*99/100],
		cpu: (after - before).Seconds() / float64(n) * 100_000, resident: s.resident(),
	}, nil
}

// result is the outcome of a turn on one connection or on all.
type result struct {
	allowed int
	took    []time.Duration
}

// drive keeps all connections busy for a while.
func drive(all []*conn, turn time.Duration) (total result, err error) {
	results, faults := make([]result, len(all)), make([]error, len(all))
	var done sync.WaitGroup
	end := time.Now().Add(turn)
	for n, c := range all {
		done.Go(func() { results[n], faults[n] = c.run(end) })
	}
	done.Wait()
	for _, r := range results {
		total.allowed += r.allowed
		total.took = append(total.took, r.took...)
	}
	return total, errors.Join(faults...)
}

// conn is an HTTP/2 connection that sends Checks. It writes and reads frames itself,
// because a gRPC client costs more than the servers that are measured.
type conn struct {
	net.Conn
	out      bytes.Buffer
	in       buffered
	framer   *http2.Framer
	encoder  *hpack.Encoder
	block    bytes.Buffer
	message  func(n int) []byte
	next     int
	inFlight int
	stream   uint32
	began    map[uint32]time.Time
	window   int // bytes that the server takes on the connection
	decoder  *hpack.Decoder
	status   string // grpc-status of the block that is decoded
	received int    // bytes to give back to the server
}

func dial(ctx context.Context, addr string, message func(int) []byte, first, inFlight int) (*conn, error) {
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: plain, message: message, next: first, inFlight: inFlight, stream: 1, began: map[uint32]time.Time{}, window: 65535, in: buffered{r: plain}}
	c.framer = http2.NewFramer(&c.out, &c.in)
	c.framer.SetReuseFrames()
	c.encoder = hpack.NewEncoder(&c.block)
	c.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == "grpc-status" {
			c.status = f.Value
		}
	})
	c.out.WriteString(http2.ClientPreface)
	return c, errors.Join(
		c.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}),
		c.framer.WriteWindowUpdate(0, 1<<30),
		c.flush(),
	)
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

func (c *conn) flush() error {
	_, err := c.Write(c.out.Bytes())
	c.out.Reset()
	return err
}

// run keeps inFlight Checks under way until end, and then waits for the last answers.
func (c *conn) run(end time.Time) (r result, err error) {
	for {
		now := time.Now()
		for len(c.began) < c.inFlight && now.Before(end) && c.window >= 16<<10 {
			if err := c.send(now); err != nil {
				return r, err
			}
		}
		if c.out.Len() > 0 {
			if err := c.flush(); err != nil {
				return r, err
			}
		}
		if len(c.began) == 0 && !now.Before(end) {
			return r, nil
		}
		if err := c.receive(&r); err != nil {
			return r, err
		}
	}
}

// send writes the next Check.
func (c *conn) send(now time.Time) error {
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
	c.began[c.stream] = now
	err := errors.Join(
		c.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream, BlockFragment: c.block.Bytes(), EndHeaders: true}),
		c.framer.WriteData(c.stream, true, message),
	)
	c.stream += 2
	return err
}

// receive reads frames until nothing is left that has arrived, and at least one.
func (c *conn) receive(r *result) error {
	for first := true; first || len(c.in.left) > 0; first = false {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return err
		}
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
				if err := c.framer.WriteSettingsAck(); err != nil {
					return err
				}
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				if err := c.framer.WritePing(true, f.Data); err != nil {
					return err
				}
			}
		case *http2.RSTStreamFrame:
			// gRPC resets a stream that it has answered before it saw the stream's end.
			if _, open := c.began[f.StreamID]; open {
				return fmt.Errorf("the server reset a call that it had not answered: %v", f)
			}
		case *http2.GoAwayFrame:
			return fmt.Errorf("the server closes the connection: %v", f)
		}
	}
	if c.received > 1<<20 {
		err := c.framer.WriteWindowUpdate(0, uint32(c.received))
		c.received = 0
		return err
	}
	return nil
}
