package envoy

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/test/bufconn"
)

// rawPeer is a client that sends single HTTP/2 frames.
type rawPeer struct {
	net.Conn
	*http2.Framer
	settings map[http2.SettingID]uint32 // limits that the server announces
	gone     chan http2.ErrCode         // code of the GOAWAY
	closed   chan struct{}
}

// connect opens a connection to s and waits for the settings of the server.
func connect(t *testing.T, s *Server) *rawPeer {
	t.Helper()
	l := bufconn.Listen(64 << 10)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	conn, err := l.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		s.grpc.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: got %v, want nil", err)
		}
	})
	p := &rawPeer{Conn: conn, Framer: http2.NewFramer(conn, conn), settings: map[http2.SettingID]uint32{}, gone: make(chan http2.ErrCode, 1), closed: make(chan struct{})}
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	allowed := make(chan struct{})
	go p.read(allowed)
	receive(t, allowed)
	return p
}

func (p *rawPeer) read(allowed chan<- struct{}) {
	defer close(p.closed)
	for {
		f, err := p.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if f.IsAck() {
				continue
			}
			_ = f.ForeachSetting(func(s http2.Setting) error { p.settings[s.ID] = s.Val; return nil })
			close(allowed)
		case *http2.GoAwayFrame:
			p.gone <- f.ErrCode
		}
	}
}

// The server announces the bounds of a connection.
func TestLimitsArePublished(t *testing.T) {
	s, _ := server(t, newKey(t), options{})
	p := connect(t, s)
	for id, want := range map[http2.SettingID]uint32{http2.SettingMaxConcurrentStreams: maxStreams, http2.SettingMaxHeaderListSize: maxHeaderList, http2.SettingInitialWindowSize: streamWindow} {
		if got := p.settings[id]; got != want {
			t.Errorf("%s: %d, want %d", id, got, want)
		}
	}
}

// An idle Envoy may ping every second. A peer that pings more often is sent away.
func TestPings(t *testing.T) {
	for _, c := range []struct {
		name  string
		every time.Duration
		stays bool
	}{
		{"every ten seconds, as in envoy.yaml", 10 * time.Second, true},
		{"every second", time.Second + time.Millisecond, true},
		{"ten times a second", 100 * time.Millisecond, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, _ := server(t, newKey(t), options{})
				p := connect(t, s)
				for range 10 {
					time.Sleep(c.every)
					if p.WritePing(false, [8]byte{1}) != nil {
						break
					}
				}
				synctest.Wait()
				select {
				case why := <-p.gone:
					if c.stays || why != http2.ErrCodeEnhanceYourCalm {
						t.Errorf("GOAWAY with %s, want the peer to stay: %t", why, c.stays)
					}
				default:
					if !c.stays {
						t.Error("no GOAWAY, want the peer sent away")
					}
				}
			})
		})
	}
}

// The connection of a peer that vanished is closed.
func TestDeadPeersAreNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := server(t, newKey(t), options{})
		p := connect(t, s) // the peer answers no ping
		time.Sleep(45 * time.Second)
		synctest.Wait()
		select {
		case <-p.closed:
		default:
			t.Error("the connection is open after 45 s without an answer to a ping, want it closed")
		}
	})
}

// A connection on which nothing is sent is closed.
func TestSilentConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := server(t, newKey(t), options{})
		l := bufconn.Listen(64 << 10)
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		conn, err := l.DialContext(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		_, _ = io.ReadAll(conn) // until it is closed
		if kept := time.Since(begun); kept > 20*time.Second {
			t.Errorf("the silent connection was open for %s, want at most 20 s", kept)
		}
		_ = conn.Close()
		s.grpc.Stop()
		<-served
	})
}
