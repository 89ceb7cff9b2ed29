package test

import (
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
)

// flakyProxy forwards connections to an address. While it cuts, it breaks each
// connection after a random number of bytes.
type flakyProxy struct {
	addr    string
	to      string
	cutting atomic.Bool
	cuts    atomic.Int64
}

func newFlakyProxy(t *testing.T, to string) *flakyProxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := &flakyProxy{addr: l.Addr().String(), to: to}
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

// begin starts to cut. Connections that are open already are cut too.
func (c *flakyProxy) begin() { c.cutting.Store(true) }

// end stops to cut and returns the number of cuts.
func (c *flakyProxy) end() int64 {
	c.cutting.Store(false)
	return c.cuts.Load()
}

func (c *flakyProxy) carry(near net.Conn) {
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
