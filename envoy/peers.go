package envoy

import (
	"net"
	"sync"
)

// peers counts the open connections, so that Shutdown does not linger without
// any.
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

// disconnected returns a channel that is closed while no peer is connected.
func (p *peers) disconnected() <-chan struct{} {
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

// countedListener counts the connections that it accepts.
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
	return &countedConn{Conn: c, closed: sync.OnceFunc(func() { l.peers.add(-1) })}, nil
}

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}
