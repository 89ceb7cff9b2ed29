package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/dchest/siphash"

	"rescind/envoy/known"
)

// writer is a table of this program and the server that hands it to Envoy. It stands
// for the replica, so that the time of a store is known.
type writer struct {
	table  *known.Table
	server *known.Server
	stop   context.CancelFunc
}

// noStreams is a replica that ends no streams.
type noStreams struct{}

func (noStreams) Opened(known.StreamID, string, string, func()) {}
func (noStreams) Closed(known.StreamID)                         {}
func (noStreams) Gone(uint64)                                   {}

func newWriter(ctx context.Context, socket string) (*writer, error) {
	table, err := known.NewTable(known.Options{
		Entries: 4096, Prefix: "x-jwt-", Names: []string{"x-jwt-id", "x-jwt-issuer", "x-jwt-subject"}, Policies: []known.Policy{{Name: "default"}},
	})
	if err != nil {
		return nil, err
	}
	w := &writer{table: table}
	w.server, err = known.Listen(known.ServerOptions{
		Socket: socket, UID: os.Getuid(), Streams: noStreams{}, Uses: func([]known.Use) {}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		table.Close()
		return nil, err
	}
	w.server.Replace(table)
	table.Open(true)
	ctx, w.stop = context.WithCancel(ctx)
	go func() { _ = w.server.Serve() }()
	go func() {
		for ctx.Err() == nil {
			table.Beat(0)
			w.server.Drain()
			time.Sleep(known.BeatInterval)
		}
	}()
	return w, nil
}

func (w *writer) close() {
	w.stop()
	_ = w.server.Close()
	w.table.Close()
}

// admit makes a token known, which a digest takes out.
func (w *writer) admit(token string, digest uint64) error {
	a, b := siphash.Hash128(0, 0, []byte(token))
	now := time.Now()
	if !w.table.Admit(&known.Token{
		Policy: "default", Key: known.Key{a, b}, Mark: w.table.Mark(), Ends: now.Add(time.Hour), Digests: []uint64{digest},
		Set:    []known.Header{{Name: "x-jwt-issuer", Value: issuerName}, {Name: "x-jwt-subject", Value: "alice"}, {Name: "x-jwt-id", Value: "1"}},
		Issuer: issuerName, Subject: "alice", TokenID: "1",
	}, now) {
		return errors.New("the table does not take the token")
	}
	return nil
}

// victims is how many connections send the token that is taken out.
const victims = 4

// firstDenials measures how long it takes from the stores that take a token out of the
// table until a client is denied, while the worker of Envoy is full of known requests.
func (b *bench) firstDenials(ctx context.Context) error {
	if !b.known {
		return nil
	}
	environment, err := buildModule(ctx, filepath.Join(b.dir, "module"))
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "denials")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	socket := filepath.Join(dir, "known.sock")
	w, err := newWriter(ctx, socket)
	if err != nil {
		return err
	}
	defer w.close()
	server, err := b.plain(ctx, dir, denies, b.issuer.file)
	if err != nil {
		return err
	}
	signed, err := b.issuer.tokens(b.algorithms[0], 1)
	if err != nil {
		return err
	}
	for _, token := range signed.few {
		if err := w.admit(token, 0); err != nil {
			return err
		}
	}
	traffic, err := signed.traffic(browserRequest)
	if err != nil {
		return err
	}
	r := &route{name: denies, server: server, module: &module{socket: socket, policy: "default"}}
	g, err := b.newGateway(ctx, dir, environment, []*route{r}, traffic.few[0])
	if err != nil {
		return err
	}
	took, perSecond, err := b.takeOut(ctx, w, r, &traffic)
	if err != nil {
		return err
	}
	b.tables.add("denials", denialsMarkdown(b.options, took, perSecond))
	return errors.Join(b.end(g.process), b.end(server.process))
}

// takeOut makes tokens known and takes them out, while other connections send known
// tokens as fast as Envoy answers them. It returns the times until the first denial.
func (b *bench) takeOut(ctx context.Context, w *writer, r *route, t *traffic) (took []time.Duration, perSecond float64, err error) {
	note("%d tokens are taken out of the table under load", b.denials)
	clients, err := dialRoute(ctx, r, victims)
	defer closeRoute(clients)
	if err != nil {
		return nil, 0, err
	}
	loading, stop := context.WithCancel(ctx)
	defer stop()
	loaded := make(chan loaded, 1)
	go func() { loaded <- loadRoute(loading, r, t) }()
	began := time.Now()
	for n := 0; n < b.denials && err == nil; n++ {
		var one time.Duration
		one, err = w.untilDenied(clients, fmt.Sprintf("victim-%d", n), uint64(n+1))
		took = append(took, one)
	}
	lasted := time.Since(began)
	stop()
	load := <-loaded
	return took, float64(load.allowed) / lasted.Seconds(), errors.Join(err, load.err)
}

func dialRoute(ctx context.Context, r *route, n int) (all []*httpConn, err error) {
	for range n {
		c, err := dialHTTP(ctx, r.addr)
		if err != nil {
			return all, err
		}
		all = append(all, c)
	}
	return all, nil
}

func closeRoute(all []*httpConn) {
	for _, c := range all {
		_ = c.Close()
	}
}

// loaded is the outcome of a load.
type loaded struct {
	allowed int
	err     error
}

// loadRoute sends seen tokens on all connections until ctx ends.
func loadRoute(ctx context.Context, r *route, t *traffic) loaded {
	all, err := dialRoute(ctx, r, throughConnections)
	defer closeRoute(all)
	if err != nil {
		return loaded{err: err}
	}
	var number atomic.Int64
	request := func() []byte { return t.few[int(number.Add(1))%len(t.few)] }
	total, err := together(all, func(c *httpConn) (total result, err error) {
		for ctx.Err() == nil && err == nil {
			var part result
			part, err = c.run(time.Now().Add(50*time.Millisecond), request)
			total.allowed += part.allowed
		}
		return total, err
	})
	return loaded{total.allowed, err}
}

// untilDenied makes a token known, takes it out while all clients send it, and returns
// the time from the first store until the first client is denied. It fails if a request
// that began after the last store is allowed.
func (w *writer) untilDenied(clients []*httpConn, token string, digest uint64) (took time.Duration, err error) {
	request, err := browserRequest(token)
	if err != nil {
		return 0, err
	}
	if err := w.admit(token, digest); err != nil {
		return 0, err
	}
	var taken atomic.Pointer[time.Time] // the time after the last store
	var allowed, late atomic.Int64
	denied := make(chan time.Time, len(clients))
	failed := make(chan error, len(clients))
	for _, c := range clients {
		go func() {
			for first := true; ; first = false {
				begun := time.Now()
				status, err := c.do(request)
				switch end := taken.Load(); {
				case err != nil:
					failed <- err
					return
				case status != 200:
					denied <- time.Now()
					return
				case end != nil && begun.After(*end):
					late.Add(1)
				case first:
					allowed.Add(1)
				}
			}
		}()
	}
	for allowed.Load() < int64(len(clients)) && len(denied) == 0 && len(failed) == 0 {
		sleep(100 * time.Microsecond)
	}
	began := time.Now()
	w.table.Revoke(slices.Values([]uint64{digest}), digest)
	end := time.Now()
	taken.Store(&end)
	took = time.Hour
	for range clients {
		select {
		case at := <-denied:
			took = min(took, at.Sub(began))
		case fault := <-failed:
			err = errors.Join(err, fault)
		}
	}
	if n := late.Load(); n > 0 {
		err = errors.Join(err, fmt.Errorf("%d requests that began after the stores were allowed", n))
	}
	if took <= 0 {
		err = errors.Join(err, errors.New("a known token was denied before it was taken out"))
	}
	return took, err
}

// mostDenial is the goal for the time until the first denial.
const mostDenial = 5 * time.Millisecond

func denialsMarkdown(o options, took []time.Duration, perSecond float64) string {
	slices.Sort(took)
	at := func(share int) float64 { return milliseconds(took[(len(took)-1)*share/100]) }
	return taken(o, "The benchmark writes the table itself, so that it knows the time of the stores. %d connections send known tokens as fast as Envoy answers. %d others send one more token, which is taken out of the table. The time runs from the first store until the first of them is denied, which ext_authz and a server that denies everything do. No request that began after the last store was allowed.", throughConnections, victims) +
		fmt.Sprintf("| tokens taken out | known requests/s meanwhile | p50 ms | p99 ms | most ms | wanted |\n|---|---|---|---|---|---|\n| %d | %.0f | %.2f | %.2f | %.2f | p99 ≤ %.0f |\n",
			len(took), perSecond, at(50), at(99), at(100), milliseconds(mostDenial))
}
