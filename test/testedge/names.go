package testedge

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// Names is a DNS server with one name. Its methods may be called concurrently.
type Names struct {
	addr string
	name dnsmessage.Name

	mu      sync.Mutex
	answers []netip.Addr
	fails   bool
}

func serveNames(t testing.TB, name string, addrs ...string) *Names {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0") //nolint:noctx // it returns at once
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	n := &Names{addr: conn.LocalAddr().String(), name: dnsmessage.MustNewName(name)}
	n.Answer(addrs...)
	go n.serve(conn)
	return n
}

// Answer sets the addresses of the name.
func (n *Names) Answer(addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers, n.fails = nil, false
	for _, a := range addrs {
		n.answers = append(n.answers, netip.MustParseAddr(a))
	}
}

// Fail answers every question with a failure of the server.
func (n *Names) Fail() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fails = true
}

// serve answers until the connection is closed.
func (n *Names) serve(conn net.PacketConn) {
	packet := make([]byte, 1500)
	for {
		size, from, err := conn.ReadFrom(packet)
		if err != nil {
			return
		}
		var asked dnsmessage.Message
		if asked.Unpack(packet[:size]) != nil || len(asked.Questions) != 1 {
			continue
		}
		if text := n.reply(asked); text != nil {
			_, _ = conn.WriteTo(text, from)
		}
	}
}

// reply returns the packet that answers, or nil.
func (n *Names) reply(asked dnsmessage.Message) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	question := asked.Questions[0]
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: asked.ID, Response: true, Authoritative: true, RecursionDesired: asked.RecursionDesired},
		Questions: asked.Questions,
	}
	switch {
	case n.fails:
		answer.RCode = dnsmessage.RCodeServerFailure
	case question.Name != n.name:
		answer.RCode = dnsmessage.RCodeNameError
	case question.Type == dnsmessage.TypeA:
		for _, a := range n.answers {
			answer.Answers = append(answer.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: question.Name, Class: question.Class, TTL: 1},
				Body:   &dnsmessage.AResource{A: a.As4()},
			})
		}
	}
	text, err := answer.Pack()
	if err != nil {
		return nil
	}
	return text
}
