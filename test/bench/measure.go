package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"
)

// measured are the figures of one turn.
type measured struct {
	perSecond float64
	p50, p99  time.Duration
	cpu       float64 // of the server, seconds for 100,000 requests
	resident  float64 // MiB of the server
	hits      float64 // share of the requests whose token was in the cache
	own       float64 // processor time of the generator, seconds for 100,000 requests
}

// connections is the number of connections among which the Checks under way are
// divided. An Envoy has one for each of its workers.
const connections = 4

// dialAll connects to a server, for one kind of traffic.
func dialAll(ctx context.Context, s *server, t *traffic, kind string) (all []*conn, err error) {
	for n := range connections {
		c, err := dial(ctx, s.addr, func(n int) []byte { return t.next(kind, s, n) }, n*7)
		if err != nil {
			return all, err
		}
		all = append(all, c)
	}
	return all, nil
}

func closeAll(all []*conn) {
	for _, c := range all {
		_ = c.Close()
	}
}

// measure sends one kind of traffic to a server for one turn, after a short one that
// does not count.
func measure(ctx context.Context, s *server, t *traffic, kind string, o options) (measured, error) {
	all, err := dialAll(ctx, s, t, kind)
	defer closeAll(all)
	if err != nil {
		return measured{}, err
	}
	drive := func(turn time.Duration) (result, error) {
		end := time.Now().Add(turn)
		return together(all, func(c *conn) (result, error) { return c.run(end, o.inFlight/connections) })
	}
	if _, err := drive(o.turn / 8); err != nil {
		return measured{}, err
	}
	began, err := s.begin()
	if err != nil {
		return measured{}, err
	}
	r, err := drive(o.turn)
	if err != nil {
		return measured{}, err
	}
	m, err := began.end(r.took)
	if err != nil {
		return measured{}, err
	}
	return m, s.checkAnswers(kind, r)
}

// checkAnswers fails if a server allowed a token that it must deny, or the other way
// round.
func (s *server) checkAnswers(kind string, r result) error {
	want := len(r.took)
	if kind == revoked && s.denies {
		want = 0
	}
	if r.allowed != want {
		return fmt.Errorf("%d of %d Checks were allowed, want %d", r.allowed, len(r.took), want)
	}
	return nil
}

// beginning is the state of a server at the beginning of a turn.
type beginning struct {
	*server
	at           time.Time
	ran, own     time.Duration
	hits, misses float64
}

func (s *server) begin() (b beginning, err error) {
	b.server = s
	if b.hits, b.misses, err = s.hits(); err != nil {
		return b, err
	}
	if b.ran, err = s.processorTime(); err != nil {
		return b, err
	}
	b.own, b.at = ownTime(), time.Now()
	return b, nil
}

// end returns the figures of a turn from the times that its requests took.
func (b *beginning) end(took []time.Duration) (m measured, err error) {
	n := float64(len(took))
	if n == 0 {
		return m, errors.New("no request was answered")
	}
	lasted, own := time.Since(b.at), ownTime()-b.own
	ran, err := b.processorTime()
	if err != nil {
		return m, err
	}
	hits, misses, err := b.server.hits()
	if err != nil {
		return m, err
	}
	slices.Sort(took)
	per := func(d time.Duration) float64 { return d.Seconds() / n * 100_000 }
	m = measured{perSecond: n / lasted.Seconds(), p50: took[len(took)/2], p99: took[len(took)*99/100], cpu: per(ran - b.ran), own: per(own), resident: b.resident()}
	if all := hits + misses - b.hits - b.misses; all > 0 {
		m.hits = (hits - b.hits) / all
	}
	return m, nil
}

// ownTime returns the processor time that this program has used.
func ownTime() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used) // it fails for wrong arguments alone
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// together calls do for all connections at once, and returns all results as one.
func together[C any](all []C, do func(C) (result, error)) (total result, err error) {
	results, faults := make([]result, len(all)), make([]error, len(all))
	var done sync.WaitGroup
	for n, c := range all {
		done.Go(func() { results[n], faults[n] = do(c) })
	}
	done.Wait()
	for _, r := range results {
		total.allowed += r.allowed
		total.took = append(total.took, r.took...)
	}
	return total, errors.Join(faults...)
}
