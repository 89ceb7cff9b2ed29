package known

import (
	"bytes"
	"encoding/binary"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rescind/test/eventually"
)

// words returns a message that begins with these words.
func words(words ...uint64) (m []byte) {
	for _, w := range words {
		m = binary.NativeEndian.AppendUint64(m, w)
	}
	return m
}

func hello(workers uint64) []byte { return words(messageHello, tableMagic, layout, workers) }

func opened(stream uint64, policy, token string) []byte {
	m := words(messageStreamOpened, stream, uint64(len(token))<<32|uint64(len(policy)))
	return append(append(m, policy...), token...)
}

// openedStreams notes the streams that are open.
type openedStreams map[StreamID]string

func (o openedStreams) Opened(id StreamID, policy, token string, _ func()) { o[id] = policy + token }
func (o openedStreams) Closed(id StreamID)                                 { delete(o, id) }
func (o openedStreams) Gone(uint64)                                        { clear(o) }

// ignoredStreams hears of streams on any goroutine.
type ignoredStreams struct{}

func (ignoredStreams) Opened(StreamID, string, string, func()) {}
func (ignoredStreams) Closed(StreamID)                         {}
func (ignoredStreams) Gone(uint64)                             {}

func newHeard(streams Streams) (*Server, *connection) {
	return &Server{o: ServerOptions{Streams: streams, Logger: slog.New(slog.DiscardHandler)}}, &connection{number: 7, open: openStreams{sizes: map[uint64]int{}}}
}

func TestMessagesOfAnEnvoy(t *testing.T) {
	one := opened(1, "default", "token")
	for name, c := range map[string]struct {
		messages [][]byte
		open     int
		good     bool
	}{
		"a stream":                  {[][]byte{one}, 1, true},
		"one that closes":           {[][]byte{one, words(messageStreamClosed, 1, 0)}, 0, true},
		"one that opens again":      {[][]byte{one, words(messageStreamClosed, 1, 0), one}, 1, true},
		"without texts":             {[][]byte{opened(1, "", "")}, 1, true},
		"opened twice":              {[][]byte{one, one}, 1, false},
		"closed, and not open":      {[][]byte{words(messageStreamClosed, 1, 0)}, 0, false},
		"closed, with more":         {[][]byte{one, words(messageStreamClosed, 1, 0, 0)}, 1, false},
		"nothing":                   {[][]byte{{}}, 0, false},
		"short":                     {[][]byte{one[:streamMessageSize-1]}, 0, false},
		"a text is cut":             {[][]byte{one[:len(one)-1]}, 0, false},
		"a byte too many":           {[][]byte{append(slices.Clone(one), 'x')}, 0, false},
		"sizes that overflow":       {[][]byte{words(messageStreamOpened, 1, 0xffffffff_ffffffff)}, 0, false},
		"the replica's own message": {[][]byte{words(messageStreamEnd, 1, 0)}, 0, false},
		"a second hello":            {[][]byte{hello(1)}, 0, false},
		"an unknown kind":           {[][]byte{words(99, 1, 0)}, 0, false},
	} {
		streams := openedStreams{}
		s, c2 := newHeard(streams)
		var err error
		for _, m := range c.messages {
			if err = s.heard(c2, m); err != nil {
				break
			}
		}
		if (err == nil) != c.good || len(streams) != c.open {
			t.Errorf("%s: got %v and %d open streams, want good %v and %d", name, err, len(streams), c.good, c.open)
		}
	}
}

// An Envoy cannot make the replica hold more streams, or larger tokens, than the module
// would report.
func TestStreamsOfAnEnvoyAreBounded(t *testing.T) {
	for name, c := range map[string]struct {
		token string
		want  int
	}{
		"many":  {"", maxStreams},
		"large": {strings.Repeat("x", 16<<10), maxStreamBytes / (streamMessageSize + 16<<10)},
	} {
		streams := openedStreams{}
		s, of := newHeard(streams)
		n := uint64(0)
		for ; s.heard(of, opened(n, "", c.token)) == nil; n++ {
			if n > 2*maxStreams {
				t.Fatalf("%s: there is no bound", name)
			}
		}
		if int(n) != c.want || len(streams) != c.want {
			t.Errorf("%s: got %d streams, want %d", name, n, c.want)
		}
		if err := s.heard(of, words(messageStreamClosed, 0, 0)); err != nil {
			t.Errorf("%s: a stream cannot close at the bound: %v", name, err)
		}
		if err := s.heard(of, opened(n, "", c.token)); err != nil {
			t.Errorf("%s: there is no place for another one after a stream has closed: %v", name, err)
		}
	}
}

// Only the module of this version, in the process of the user that is configured, gets
// the table. Everybody else gets no descriptor, and the server goes on.
func TestServerGivesTheTableToEnvoyAlone(t *testing.T) {
	table := newTestTable(t, 64)
	defer table.Close()
	for name, c := range map[string]struct {
		uid   int
		hello []byte
		want  bool
	}{
		"the module":           {os.Getuid(), hello(2), true},
		"any user":             {-1, hello(1), true},
		"another user":         {os.Getuid() + 1, hello(2), false},
		"another magic":        {-1, words(messageHello, tableMagic+1, layout, 2), false},
		"another layout":       {-1, words(messageHello, tableMagic, layout+1, 2), false},
		"another message":      {-1, words(messageStreamClosed, tableMagic, layout, 2), false},
		"a short hello":        {-1, hello(2)[:31], false},
		"a long hello":         {-1, append(hello(2), 0), false},
		"no workers":           {-1, hello(0), false},
		"many workers":         {-1, hello(maxWorkers + 1), false},
		"workers beyond int64": {-1, hello(1 << 63), false},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "known.sock")
			s, err := Listen(ServerOptions{Socket: path, UID: c.uid, Streams: ignoredStreams{}, Uses: func([]Use) {}, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			s.Replace(table)
			served := make(chan error, 1)
			go func() { served <- s.Serve() }()
			if got := asksForTable(t, path, c.hello); got != c.want {
				t.Errorf("got the table %v, want %v", got, c.want)
			}
			if c.uid == -1 && !asksForTable(t, path, hello(1)) {
				t.Error("the server does not go on")
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// asksForTable reports whether the server answers a hello with two descriptors.
func asksForTable(t *testing.T, path string, hello []byte) bool {
	t.Helper()
	socket, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	if err := socket.SetDeadline(time.Now().Add(eventually.Limit)); err != nil {
		t.Fatal(err)
	}
	_, _ = socket.Write(hello) // the server may have closed already
	var m, control [64]byte
	n, controls, _, _, err := socket.ReadMsgUnix(m[:], control[:])
	if err != nil || n != 24 || !bytes.Equal(m[:8], words(messageTable)) {
		return false
	}
	messages, err := syscall.ParseSocketControlMessage(control[:controls])
	if err != nil || len(messages) != 1 {
		return false
	}
	descriptors, err := syscall.ParseUnixRights(&messages[0])
	for _, fd := range descriptors {
		_ = syscall.Close(fd)
	}
	return err == nil && len(descriptors) == 2
}

// FuzzMessage reads bytes of an Envoy that may do anything. The input is a row of
// messages, each behind a byte with its size. No input panics, makes a token known, or
// holds more than it sent.
func FuzzMessage(f *testing.F) {
	row := func(messages ...[]byte) (b []byte) {
		for _, m := range messages {
			b = append(append(b, byte(len(m))), m...)
		}
		return b
	}
	one := opened(1<<16, "default", "a.b.c")
	f.Add(row(hello(2)))
	f.Add(row(hello(2), one, words(messageStreamClosed, 1<<16, 0)))
	f.Add(row(hello(2), one, one))
	f.Add(row(hello(2), words(messageStreamOpened, 1, 1<<63), words(messageStreamEnd, 1, 0)))
	f.Add(row(words(messageHello, tableMagic, layout, 1<<63)))
	f.Add(row(hello(2), one[:streamMessageSize-1]))
	f.Add(row(hello(2), nil))
	f.Add(row(hello(2), words(messageStreamOpened, 1, 5)))
	table := newTestTable(f, 64)
	f.Fuzz(func(t *testing.T, b []byte) {
		streams := openedStreams{}
		s, c := newHeard(streams)
		mark, sent := table.Mark(), len(b)
		for first := true; len(b) > 0; first = false {
			n := min(int(b[0]), len(b)-1)
			m := slices.Clip(b[1 : 1+n])
			b = b[1+n:]
			var err error
			if first {
				var workers int
				if workers, err = readHello(m); err == nil && (workers < 0 || workers > maxWorkers+1) {
					t.Fatalf("got %d workers, want 0 to %d", workers, maxWorkers+1)
				}
			} else {
				err = s.heard(c, m)
			}
			if err != nil {
				break
			}
		}
		held := 0
		for id, texts := range streams {
			if id.Connection != c.number {
				t.Fatalf("the stream %v belongs to another connection", id)
			}
			held += len(texts)
		}
		if held > sent || len(streams)*streamMessageSize > sent || len(c.open.sizes) != len(streams) || c.open.bytes != held+len(streams)*streamMessageSize {
			t.Fatalf("%d bytes were sent, and %d streams hold %d (counted: %d streams, %d bytes)", sent, len(streams), held, len(c.open.sizes), c.open.bytes)
		}
		if table.Len() != 0 || table.Mark() != mark {
			t.Fatal("messages of an Envoy have changed the table")
		}
	})
}
