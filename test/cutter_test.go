package test

import (
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
)

// cutter is a way to an address that lets a random number of bytes through
// before it breaks.
type cutter struct {
	addr    string
	to      string
	cutting atomic.Bool
	cuts    atomic.Int64
}

func newCutter(t *testing.T, to string) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := &cutter{addr: l.Addr().String(), to: to}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.carry(conn)
		}
	}()
	return c
}

// begin breaks connections that are made from now on, and end leaves those
// alone that come later.
func (c *cutter) begin() { c.cutting.Store(true) }

func (c *cutter) end() int64 {
	c.cutting.Store(false)
	return c.cuts.Load()
}

func (c *cutter) carry(near net.Conn) {
	defer func() { _ = near.Close() }()
	far, err := net.Dial("tcp", c.to)
	if err != nil {
		return
	}
	defer func() { _ = far.Close() }()
	go func() {
		_, _ = io.Copy(far, near)
		_ = far.Close()
	}()
	for {
		if _, err := io.CopyN(near, far, 1+rand.N(int64(32<<10))); err != nil {
			return
		}
		if c.cutting.Load() {
			c.cuts.Add(1)
			return
		}
	}
}
