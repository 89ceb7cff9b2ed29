package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxMessage bounds one batch in the embedded server.
const maxMessage = 32 << 20

// connection is one life of the connection to JetStream. Where the server is
// embedded, the connection owns it.
type connection struct {
	server    *server.Server // nil with NATS
	nats      *nats.Conn
	js        jetstream.JetStream
	batches   jetstream.Stream
	audit     jetstream.Stream
	lastError *lastServerError
	shared    atomic.Pointer[jetstream.Stream] // nil until a shared document is used
}

func (c *connection) close() {
	if c.nats != nil {
		c.nats.Close()
	}
	if c.server != nil {
		c.server.Shutdown()
		c.server.WaitForShutdown()
	}
}

// connect starts the embedded server, or dials the NATS elsewhere, and finds
// the streams. It makes the streams if there is no log yet.
func (l *Log) connect(ctx context.Context) (_ *connection, err error) {
	conn := &connection{lastError: &lastServerError{logged: make(chan struct{}, 1)}}
	defer func() {
		if err != nil {
			conn.close()
		}
	}()
	if l.opt.NATS != nil {
		err = l.dial(conn, l.opt.NATS)
	} else {
		err = l.embed(conn)
	}
	if err != nil {
		return nil, err
	}
	if conn.js, err = jetstream.New(conn.nats); err != nil {
		return nil, err
	}
	if err := l.findStreams(ctx, conn); err != nil {
		return nil, err
	}
	return conn, nil
}

func (l *Log) dial(c *connection, o *NATS) (err error) {
	opts := []nats.Option{nats.Name("rescind control"), nats.ErrorHandler(l.asyncError), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1)}
	if o.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(o.CredentialsFile))
	}
	if c.nats, err = nats.Connect(o.URL, opts...); err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	return nil
}

// asyncError logs an error that the client of NATS met outside of any call. By
// default the client writes it to standard error.
func (l *Log) asyncError(_ *nats.Conn, _ *nats.Subscription, err error) {
	l.log.Warn("the connection to NATS has an error", "component", "nats", "error", err)
}

// embed starts the embedded server and connects to it within the process.
func (l *Log) embed(conn *connection) error {
	opts, err := l.serverOptions()
	if err != nil {
		return err
	}
	if conn.server, err = server.NewServer(opts); err != nil {
		return fmt.Errorf("embedded NATS: %w", err)
	}
	conn.server.SetLoggerV2(&natsLogger{l.log.With("component", "nats"), conn.lastError}, false, false, false)
	conn.server.Start()
	if !conn.server.JetStreamEnabled() || !conn.server.ReadyForConnections(10*time.Second) {
		return fmt.Errorf("embedded NATS did not start: %s", conn.lastError)
	}
	conn.nats, err = nats.Connect("", nats.InProcessServer(conn.server), nats.Name("rescind control"), nats.ErrorHandler(l.asyncError),
		nats.UserInfo(opts.Username, opts.Password), nats.IgnoreDiscoveredServers(), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1), nats.ReconnectWait(50*time.Millisecond))
	return err
}

func (l *Log) serverOptions() (*server.Options, error) {
	opts := &server.Options{
		ServerName:             "rescind-" + l.writer,
		DontListen:             true,
		JetStream:              true,
		JetStreamMaxStore:      1 << 60, // by default the room that is free now; the disk itself says when it is full
		StoreDir:               l.dir.data(),
		SyncAlways:             true,
		NoSigs:                 true,
		NoSystemAccount:        l.opt.Cluster == nil,
		DisableJetStreamBanner: true,
		MaxPayload:             maxMessage,
		MaxPending:             8 * maxMessage,
	}
	if c := l.opt.Cluster; c != nil {
		if err := c.addTo(opts); err != nil {
			return nil, err
		}
	}
	return opts, nil
}

// addTo makes the server a node of the cluster.
func (c *Cluster) addTo(opts *server.Options) error {
	host, port, err := splitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("store.cluster.listen: %w", err)
	}
	opts.Cluster = server.ClusterOpts{Name: "rescind", Host: host, Port: port, Username: "rescind", Password: c.Secret, NoAdvertise: true, TLSConfig: c.TLS}
	// A server that does not listen for clients never listens for routes. So it
	// listens for clients on loopback, with a password that only this process
	// knows.
	opts.DontListen, opts.Host, opts.Port = false, "127.0.0.1", server.RANDOM_PORT
	opts.Username, opts.Password = "control", rand.Text()
	for _, peer := range c.Peers {
		opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: peer, User: url.UserPassword("rescind", c.Secret)})
	}
	return nil
}

func splitHostPort(s string) (string, int, error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.Atoi(p)
	return host, port, err
}
