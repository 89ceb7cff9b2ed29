package envoy

import (
	"net"
	"sync"
)

// peers counts the connections, so that a server that nobody is connected to
// does not wait for anybody when it ends.
type peers struct {
	mu    sync.Mutex
	count int
	none  chan struct{} // closed while count is 0
}

func newPeers() *peers {
	p := &peers{none: make(chan struct{})}
	close(p.none)
	return p
}

// gone is closed once nobody is connected.
func (p *peers) gone() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.none
}

func (p *peers) add(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count == 0 {
		p.none = make(chan struct{})
	}
	if p.count += n; p.count == 0 {
		close(p.none)
	}
}

// countedListener counts what it accepts.
type countedListener struct {
	net.Listener
	peers *peers
}

func (l countedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.peers.add(1)
	return &countedConn{Conn: c, gone: sync.OnceFunc(func() { l.peers.add(-1) })}, nil
}

type countedConn struct {
	net.Conn
	gone func()
}

func (c *countedConn) Close() error {
	c.gone()
	return c.Conn.Close()
}
