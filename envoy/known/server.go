package known

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/user"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// ServerOptions configure a [Server].
type ServerOptions struct {
	Socket string // path of the Unix socket
	Group  string // name or number of the group that may connect; empty: the group of the process
	UID    int    // of Envoy; -1: every user that the socket's mode lets in
	// Uses is called with requests that an Envoy answered, those of each of its workers in
	// order. It must not keep the slice. There is one call at a time, from any goroutine.
	Uses    func([]Use)
	Streams Streams
	Logger  *slog.Logger
}

// Streams hears of the open streams of Envoys. Its methods run on the goroutine of a
// connection.
type Streams interface {
	// Opened notes a stream with this token on a route of this policy. end resets the stream, and may be called
	// at any time, from any goroutine.
	Opened(id StreamID, policy, token string, end func())
	Closed(id StreamID)
	// Gone forgets all streams of a connection.
	Gone(connection uint64)
}

// StreamID names a stream in this process.
type StreamID struct{ Connection, Stream uint64 }

// BeatInterval is how often [Table.Beat] must be called, and [Server.Drain] after it. The
// module gives a replica up that it has not heard of for 20 times as long. A worker that
// answers 160,000 requests in a second fills its ring in this time.
const BeatInterval = 50 * time.Millisecond

// Grace is for how long an Envoy may use a table after its replica has stopped, and
// some more. A replica that has started anew confirms no revocation before that.
const Grace = 1200 * time.Millisecond

// maxEnvoys bounds the connections.
const maxEnvoys = 8

// Server hands a table to the Envoys that connect. It is safe for concurrent use.
type Server struct {
	o        ServerOptions
	listener *net.UnixListener

	mu          sync.Mutex
	table       *Table // nil: none; nobody is let in
	connections map[*connection]bool
	last        uint64 // number of the newest connection
	before      Envoy  // counts of the connections that have ended
	refused     string // why an Envoy was refused, as last logged
	refusedAt   time.Time
	done        sync.WaitGroup

	draining sync.Mutex    // held while uses are read and observed; taken before mu
	uses     []Use         // memory of a portion
	drained  []*connection // memory of [Server.Drain]
}

type connection struct {
	number uint64
	socket *net.UnixConn
	table  *Table
	ring   *ring
	open   openStreams
}

// Listen makes the socket. A socket that is there is replaced, unless a process
// listens on it.
func Listen(o ServerOptions) (*Server, error) {
	l, err := bind(o.Socket, o.Logger)
	if err != nil {
		return nil, err
	}
	if err := admit(o.Socket, o.Group); err != nil {
		_ = l.Close()
		return nil, err
	}
	return &Server{o: o, listener: l, connections: map[*connection]bool{}, uses: make([]Use, 0, portion)}, nil
}

// admit gives the group access to the socket.
func admit(socket, group string) error {
	if group != "" {
		if err := give(socket, group); err != nil {
			return err
		}
	}
	return os.Chmod(socket, 0o660) //nolint:gosec // the group of Envoy connects
}

// give gives the socket to a group. Under systemd the socket has the group from the
// beginning, and the replica may not change groups.
func give(socket, group string) error {
	g, err := user.LookupGroup(group)
	if err != nil {
		if g, err = user.LookupGroupId(group); err != nil {
			return fmt.Errorf("known_tokens.group: %q is no group of this machine; create it, or write its number", group)
		}
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	info, err := os.Stat(socket)
	if err != nil {
		return fmt.Errorf("known_tokens.socket: %w", err)
	}
	if has, ok := info.Sys().(*syscall.Stat_t); ok && int(has.Gid) == gid {
		return nil
	}
	if err := os.Chown(socket, -1, gid); err != nil {
		return fmt.Errorf("known_tokens.group: the socket cannot be given to group %s, so the replica must be in that group, or run with it: %w", group, err)
	}
	return nil
}

// Replace hands out another table from now on. All Envoys connect again, and use
// nothing meanwhile. The caller closes the old table.
func (s *Server) Replace(t *Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table = t
	for c := range s.connections {
		_ = c.socket.Close()
	}
}

// Serve accepts Envoys until Close is called.
func (s *Server) Serve() error {
	for {
		socket, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		s.done.Go(func() {
			defer socket.Close() //nolint:errcheck // nothing depends on it
			if err := s.follow(socket); err != nil {
				s.refuse(err)
			}
		})
	}
}

// refusalPause is the time after which the same refusal is logged again, because a
// refused Envoy comes again twice a second.
const refusalPause = time.Minute

// refuse logs why an Envoy does not get the table.
func (s *Server) refuse(why error) {
	s.mu.Lock()
	since := time.Since(s.refusedAt)
	again := since < time.Second || since < refusalPause && s.refused == why.Error()
	if !again {
		s.refused, s.refusedAt = why.Error(), time.Now()
	}
	s.mu.Unlock()
	if !again {
		s.o.Logger.Warn("an Envoy that asked for known tokens is refused; it asks ext_authz about every request", "error", why)
	}
}

// Close ends all connections and waits for them.
func (s *Server) Close() error {
	err := s.listener.Close()
	s.Replace(nil)
	s.done.Wait()
	return err
}

// follow serves one Envoy until it ends. It returns an error if the Envoy cannot be
// served.
func (s *Server) follow(socket *net.UnixConn) error {
	if err := s.checkPeer(socket); err != nil {
		return err
	}
	_ = socket.SetReadDeadline(time.Now().Add(2 * time.Second))
	buffer := make([]byte, helloSize+1)
	n, err := socket.Read(buffer)
	if err != nil {
		return nil // another process that looks whether somebody listens
	}
	workers, err := readHello(buffer[:n])
	if err != nil {
		return err
	}
	c, err := s.connect(socket, workers)
	if err != nil {
		return err
	}
	defer s.disconnect(c)
	if err := c.answer(); err != nil {
		return err
	}
	s.o.Logger.Info("an Envoy uses the known tokens", "workers", c.ring.workers)
	if _, envoys := s.State(); envoys > 1 {
		s.o.Logger.Warn("several Envoys use the known tokens of this replica, so each can read the claims of the others' tokens; run a replica beside each Envoy", "envoys", envoys)
	}
	_ = socket.SetReadDeadline(time.Time{})
	return s.hear(c)
}

// nobody is the user that the kernel names where the real one has no number in the
// user namespace of the caller.
const nobody = 65534

// checkPeer returns an error if the process at the other end may not have the table.
func (s *Server) checkPeer(socket *net.UnixConn) error {
	if s.o.UID < 0 {
		return nil
	}
	uid, err := peerUID(socket)
	if err != nil {
		return err
	}
	if uid != s.o.UID && uid == nobody {
		return fmt.Errorf("the replica sees its user as %d, as it sees every user from a user namespace of its own, and known_tokens.envoy_uid is %d; run both in one user namespace (PrivateUsers=no of systemd)", uid, s.o.UID)
	}
	if uid != s.o.UID {
		return fmt.Errorf("it runs as user %d, and known_tokens.envoy_uid is %d", uid, s.o.UID)
	}
	return nil
}

// connect makes the ring of an Envoy.
func (s *Server) connect(socket *net.UnixConn, workers int) (*connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.table == nil:
		return nil, errors.New("the replica has no table now; the Envoy tries again")
	case len(s.connections) == maxEnvoys:
		return nil, fmt.Errorf("%d Envoys are connected already; run a replica beside each Envoy", maxEnvoys)
	}
	r, err := newRing(workers, s.table.entries)
	if err != nil {
		return nil, err
	}
	s.last++
	c := &connection{number: s.last, socket: socket, table: s.table, ring: r, open: openStreams{sizes: map[uint64]int{}}}
	s.connections[c] = true
	s.table.mu.Lock()
	s.table.rings = append(s.table.rings, r)
	s.table.mu.Unlock()
	return c, nil
}

// answer sends the sizes and the descriptors of the table and the ring.
func (c *connection) answer() error {
	var m [24]byte
	for i, v := range []int{messageTable, len(c.table.memory.bytes), c.ring.size} {
		binary.NativeEndian.PutUint64(m[8*i:], uint64(v))
	}
	_, _, err := c.socket.WriteMsgUnix(m[:], syscall.UnixRights(c.table.memory.fd, c.ring.memory.fd), nil)
	return err
}

func (s *Server) disconnect(c *connection) {
	s.draining.Lock()
	s.drain(c, time.Time{})
	s.draining.Unlock()
	s.mu.Lock()
	delete(s.connections, c)
	s.before.add(c.ring.state())
	s.mu.Unlock()
	c.table.mu.Lock()
	c.table.rings = slices.DeleteFunc(c.table.rings, func(r *ring) bool { return r == c.ring })
	c.table.mu.Unlock()
	c.ring.memory.free()
	s.o.Streams.Gone(c.number)
	s.o.Logger.Info("an Envoy that used the known tokens has gone")
}

// State returns the counts over the life of the server, and the number of Envoys that
// are connected.
func (s *Server) State() (e Envoy, connected int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e = s.before
	for c := range s.connections {
		e.add(c.ring.state())
	}
	return e, len(s.connections)
}

func (e *Envoy) add(o Envoy) {
	e.Hits += o.Hits
	e.Drops += o.Drops
	e.Unwatched += o.Unwatched
	for i := range e.Misses {
		e.Misses[i] += o.Misses[i]
	}
}
