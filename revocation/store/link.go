package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxMessage bounds one batch in the embedded server.
const maxMessage = 32 << 20

// link is one life of the connection to JetStream, with the server itself
// where it is embedded.
type link struct {
	server  *server.Server // nil with NATS
	conn    *nats.Conn
	js      jetstream.JetStream
	batches jetstream.Stream
	audit   jetstream.Stream
	trouble *trouble // what the server has logged of late
}

func (k *link) close() {
	if k.conn != nil {
		k.conn.Close()
	}
	if k.server != nil {
		k.server.Shutdown()
		k.server.WaitForShutdown()
	}
}

// connect starts the server, if it is ours, and finds the streams, or makes
// them if there is no log yet.
func (l *Log) connect(ctx context.Context) (_ *link, err error) {
	k := &link{trouble: &trouble{logged: make(chan struct{}, 1)}}
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	if l.opt.NATS != nil {
		err = k.dial(l.opt.NATS)
	} else {
		err = l.embed(k)
	}
	if err != nil {
		return nil, err
	}
	if k.js, err = jetstream.New(k.conn); err != nil {
		return nil, err
	}
	if err := l.find(ctx, k); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *link) dial(o *NATS) (err error) {
	opts := []nats.Option{nats.Name("rescind control"), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1)}
	if o.CredentialsFile != "" {
		opts = append(opts, nats.UserCredentials(o.CredentialsFile))
	}
	if k.conn, err = nats.Connect(o.URL, opts...); err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	return nil
}

func (l *Log) embed(k *link) error {
	opts, err := l.serverOptions()
	if err != nil {
		return err
	}
	if k.server, err = server.NewServer(opts); err != nil {
		return fmt.Errorf("embedded NATS: %w", err)
	}
	k.server.SetLoggerV2(&natsLogger{l.log.With("component", "nats"), k.trouble}, false, false, false)
	k.server.Start()
	if !k.server.JetStreamEnabled() || !k.server.ReadyForConnections(10*time.Second) {
		return fmt.Errorf("embedded NATS did not start: %s", k.trouble)
	}
	k.conn, err = nats.Connect("", nats.InProcessServer(k.server), nats.Name("rescind control"),
		nats.UserInfo(opts.Username, opts.Password), nats.IgnoreDiscoveredServers(), nats.MaxReconnects(-1), nats.ReconnectBufSize(-1), nats.ReconnectWait(50*time.Millisecond))
	return err
}

func (l *Log) serverOptions() (*server.Options, error) {
	opts := &server.Options{
		ServerName:             "rescind-" + l.writer,
		DontListen:             true,
		JetStream:              true,
		JetStreamMaxStore:      1 << 60, // not what happens to be free now: the disk says itself when it is full
		StoreDir:               l.dir.data(),
		SyncAlways:             true,
		NoSigs:                 true,
		NoSystemAccount:        l.opt.Cluster == nil,
		DisableJetStreamBanner: true,
		MaxPayload:             maxMessage,
		MaxPending:             8 * maxMessage,
	}
	if c := l.opt.Cluster; c != nil {
		host, port, err := splitHostPort(c.Listen)
		if err != nil {
			return nil, fmt.Errorf("store.cluster.listen: %w", err)
		}
		opts.Cluster = server.ClusterOpts{Name: "rescind", Host: host, Port: port, Username: "rescind", Password: c.Secret, NoAdvertise: true, TLSConfig: c.TLS}
		// A server that does not listen for clients never begins to listen for
		// routes. So it does, where nobody else comes, with a password that
		// only this process knows.
		opts.DontListen, opts.Host, opts.Port = false, "127.0.0.1", server.RANDOM_PORT
		opts.Username, opts.Password = "control", rand.Text()
		for _, peer := range c.Peers {
			opts.Routes = append(opts.Routes, &url.URL{Scheme: "nats-route", Host: peer, User: url.UserPassword("rescind", c.Secret)})
		}
	}
	return opts, nil
}

func splitHostPort(s string) (string, int, error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil {
		return "", 0, err
	}
	port, err := strconv.Atoi(p)
	return host, port, err
}

// trouble is the last error that the server logged: all that it tells of a
// failed start or a failed write.
type trouble struct {
	logged chan struct{} // has one while nobody has looked
	last   atomic.Pointer[string]
}

func (t *trouble) String() string {
	if last := t.last.Load(); last != nil {
		return *last
	}
	return "it does not say why"
}

// notMeant are warnings meant for a server with many clients and a file of
// passwords.
var notMeant = []string{"Maximum payloads over", "Plaintext passwords detected"}

// natsLogger carries the server's log to ours.
type natsLogger struct {
	log     *slog.Logger
	trouble *trouble
}

func (n *natsLogger) Noticef(format string, v ...any) { n.log.Debug(fmt.Sprintf(format, v...)) }
func (n *natsLogger) Debugf(string, ...any)           {}
func (n *natsLogger) Tracef(string, ...any)           {}
func (n *natsLogger) Warnf(format string, v ...any) {
	for _, wrong := range notMeant {
		if strings.HasPrefix(format, wrong) {
			return
		}
	}
	n.log.Warn(fmt.Sprintf(format, v...))
}
func (n *natsLogger) Errorf(format string, v ...any) {
	if strings.HasPrefix(format, "Error trying to connect to route") || // a node that is down, or not up yet
		strings.Contains(format, "handshake error") { // a stranger, or a node with another authority
		n.log.Warn(fmt.Sprintf(format, v...))
		return
	}
	n.error(fmt.Sprintf(format, v...))
}
func (n *natsLogger) Fatalf(format string, v ...any) { n.error(fmt.Sprintf(format, v...)) }

func (n *natsLogger) error(msg string) {
	n.log.Error(msg)
	n.trouble.last.Store(&msg)
	select {
	case n.trouble.logged <- struct{}{}:
	default:
	}
}

// find opens the streams. Where there is no log it makes one, unless there has
// been one before.
func (l *Log) find(ctx context.Context, k *link) error {
	had := l.id != "" && (l.dir == nil || l.dir.marker.Made)
	if l.opt.Cluster == nil {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		return l.findOnce(ctx, k, had)
	}
	for {
		err := errNoMajority
		if k.server.JetStreamIsCurrent() {
			asking, cancel := context.WithTimeout(ctx, unanswered)
			err = l.findOnce(asking, k, had)
			cancel()
		}
		if err == nil || errors.Is(err, ErrDamaged) {
			return err
		}
		l.log.Debug("waiting for a majority of the control nodes", "error", err)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", errNoMajority, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

var errNoMajority = errors.New("there is no majority of the control nodes")

// unanswered is after how long a question is asked again: where there is no
// leader nobody says so.
const unanswered = time.Second

func (l *Log) findOnce(ctx context.Context, k *link, had bool) (err error) {
	k.batches, err = k.js.Stream(ctx, batchStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if had {
			return l.lost("it has no " + batchStream)
		}
		k.batches, err = l.create(ctx, k, batchStream, l.newID())
	}
	if err != nil {
		return err
	}
	info := k.batches.CachedInfo()
	id := info.Config.Metadata[logKey]
	switch {
	case id == "":
		return fmt.Errorf("%w: the stream %s is there but is not ours", ErrDamaged, batchStream)
	case had && id != l.id:
		return l.lost(fmt.Sprintf("it has log %s instead of %s", id, l.id))
	case info.Config.Metadata[formatKey] != fmt.Sprint(format):
		return fmt.Errorf("the log has format %q, this program knows format %d: use the version of rescind that wrote it", info.Config.Metadata[formatKey], format)
	}
	k.audit, err = k.js.Stream(ctx, auditStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if had || info.State.LastSeq > 0 {
			return l.lost("it has no " + auditStream)
		}
		k.audit, err = l.create(ctx, k, auditStream, id)
	}
	if err != nil {
		return err
	}
	if got := k.audit.CachedInfo().Config.Metadata[logKey]; got != id {
		return l.lost(fmt.Sprintf("its audit belongs to log %q", got))
	}
	l.boundAudit(ctx, k)
	if !had && info.State.LastSeq == 0 {
		if err := l.begin(ctx, k, id); err != nil {
			return err
		}
	}
	l.id = id
	if l.dir != nil {
		return l.dir.made(id)
	}
	return nil
}

func (l *Log) newID() string {
	if l.id != "" {
		return l.id
	}
	return newID()
}

func (l *Log) lost(what string) error {
	where := "the NATS server"
	if l.dir != nil {
		where = "store directory " + l.dir.path
	}
	return fmt.Errorf("%w: %s holds log %s, but %s; restore it from a backup, or move it away to begin an empty log, which allows every token that was revoked",
		ErrDamaged, where, l.id, what)
}

func (l *Log) create(ctx context.Context, k *link, name, id string) (jetstream.Stream, error) {
	replicas := 1
	switch {
	case l.opt.Cluster != nil:
		replicas = 1 + len(l.opt.Cluster.Peers)
	case l.opt.NATS != nil:
		replicas = max(1, l.opt.NATS.Replicas)
	}
	config := l.streamConfig(name, id, replicas)
	config.AllowDirect = name == batchStream && !l.alone()
	s, err := k.js.CreateStream(ctx, config)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another node was first
		return k.js.Stream(ctx, name)
	}
	if err != nil {
		return nil, fmt.Errorf("stream %s cannot be made: %w", name, err)
	}
	return s, nil
}

// begin writes the first message, so that a log never is without one.
func (l *Log) begin(ctx context.Context, k *link, id string) error {
	givenUp := hourOf(time.Now().Add(-margin)) - 1
	f := frame{givenUp: givenUp}
	m := nats.NewMsg(hourSubject(givenUp + 1))
	m.Data = f.encode(id, 1)
	_, err := k.js.PublishMsg(ctx, m, jetstream.WithExpectLastSequence(0))
	if isConflict(err) {
		return nil // another node was first
	}
	return err
}

func isConflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}
