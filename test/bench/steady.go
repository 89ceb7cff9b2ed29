package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// steadily are the figures of one round of a load of half the maximum.
type steadily struct {
	perSecond         float64 // half of the maximum
	quiet, revoking   measured
	revoked, rebuilds int // in the phase with revocations
}

// revocationRate is how many revocations arrive in a second.
const revocationRate = 1000

// steady measures rounds of a load of half the maximum, with revocations and without
// them. Each round has a replica of its own, whose filter is nearly full when
// revocations begin to arrive, so the replica makes a new filter meanwhile.
func (d *product) steady(ctx context.Context, t *traffic, o options) (all []steadily, err error) {
	for round := range o.rounds {
		note("half the load, with %s revocations, round %d of %d", thousands(d.entries), round+1, o.rounds)
		s, err := d.replica(ctx)
		if err != nil {
			return nil, err
		}
		maximum, err := measure(ctx, s, t, seen, o)
		if err != nil {
			return nil, err
		}
		if err := d.fillFilter(ctx, s); err != nil {
			return nil, err
		}
		r := steadily{perSecond: maximum.perSecond / 2}
		phases := []func() error{
			func() (err error) { r.quiet, err = s.pace(ctx, t, r.perSecond, o.steady); return err },
			func() error { return d.revokeMeanwhile(ctx, s, &r, t, o.steady) },
		}
		if round%2 == 1 {
			slices.Reverse(phases)
		}
		for _, phase := range phases {
			if err := phase(); err != nil {
				return nil, err
			}
		}
		if err := d.end(s.process); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// leastFilter is the room of the smallest filter.
const leastFilter = 1 << 12

// fillFilter imports revocations until the filter of a new replica is nearly full. It
// had room for an eighth more than the set that came with it. A few entries need no
// room, because the filter takes them for others, so some room is left for the
// revocations that arrive later.
func (d *product) fillFilter(ctx context.Context, s *server) error {
	held, err := metric(s.metrics, "rescind_revocations")
	if err != nil {
		return err
	}
	n := int(held)
	if err := d.importEntries(ctx, false, d.imported, d.imported+max(n/8, leastFilter-n)); err != nil {
		return err
	}
	d.imported += max(n/8, leastFilter-n)
	return d.caughtUp(s)
}

// revokeMeanwhile is pace while revocations arrive.
func (d *product) revokeMeanwhile(ctx context.Context, s *server, r *steadily, t *traffic, turn time.Duration) (err error) {
	rebuilds := s.count(filterRebuilt)
	before, err := metric(s.metrics, "rescind_revocations")
	if err != nil {
		return err
	}
	revoker, err := d.revoker(ctx)
	if err != nil {
		return err
	}
	r.revoking, err = s.pace(ctx, t, r.perSecond, turn)
	if err != nil {
		return err
	}
	if err := d.end(revoker); err != nil {
		return err
	}
	if err := d.caughtUp(s); err != nil {
		return err
	}
	after, err := metric(s.metrics, "rescind_revocations")
	if err != nil {
		return err
	}
	// A new filter of ten million may take longer than the phase on a busy machine. It
	// must not fall into the next phase.
	for deadline := time.Now().Add(20 * time.Second); s.count(filterRebuilt) == rebuilds && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	r.revoked, r.rebuilds = int(after-before), s.count(filterRebuilt)-rebuilds
	return nil
}

// filterRebuilt is the message of a replica that has a new filter.
const filterRebuilt = `"msg":"revocation filter rebuilt"`

// pace sends requests with tokens that were seen at a constant rate. A latency begins
// at the time at which the request had to be sent, so a server that stands still
// delays all the requests of that time.
func (s *server) pace(ctx context.Context, t *traffic, perSecond float64, turn time.Duration) (measured, error) {
	all, err := dialAll(ctx, s, t, seen)
	defer closeAll(all)
	if err != nil {
		return measured{}, err
	}
	began, err := s.begin()
	if err != nil {
		return measured{}, err
	}
	sent := make(chan error, 1)
	go func() { sent <- sendAt(all, perSecond, turn) }()
	r, err := together(all, (*conn).listen)
	if err = errors.Join(err, <-sent); err != nil {
		return measured{}, err
	}
	m, err := began.end(r.took)
	if err != nil {
		return measured{}, err
	}
	return m, s.checkAnswers(seen, r)
}

// mostWaiting is how many Checks may be under way on a connection. gRPC takes 1024. A
// Check that must wait for its turn waits in the generator, and the time counts.
const mostWaiting = 1000

// sendAt sends requests at a constant rate, by turns on all connections.
func sendAt(all []*conn, perSecond float64, turn time.Duration) error {
	runtime.LockOSThread() // the goroutine sleeps in the system, more precisely than with a timer of Go
	defer runtime.UnlockOSThread()
	began := time.Now()
	scheduled := func(n int) time.Duration { return time.Duration(float64(n) / perSecond * float64(time.Second)) }
	var faults error
	for n := 0; scheduled(n) < turn && faults == nil; {
		for now := time.Since(began); scheduled(n) <= min(now, turn); n++ {
			c := all[n%len(all)]
			sent, err := c.sendIfRoom(began.Add(scheduled(n)))
			if faults = errors.Join(faults, err); !sent {
				break
			}
		}
		for _, c := range all {
			c.mu.Lock()
			faults = errors.Join(faults, c.flush())
			c.mu.Unlock()
		}
		if wait := scheduled(n) - time.Since(began); wait > 0 {
			sleep(wait)
		} else {
			sleep(50 * time.Microsecond)
		}
	}
	for _, c := range all {
		faults = errors.Join(faults, c.finish())
	}
	return faults
}

func (c *conn) sendIfRoom(at time.Time) (sent bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.room(mostWaiting) {
		return false, nil
	}
	return true, c.send(at)
}

// sleep sleeps to the microsecond. A timer of Go may be a millisecond late.
func sleep(d time.Duration) {
	limit := unix.NsecToTimeval(d.Nanoseconds())
	_, _ = unix.Select(0, nil, nil, nil, &limit) // a signal may wake it, and then it is asked again
}

// revoker starts a caller that revokes tokens until it is stopped.
func (d *product) revoker(ctx context.Context) (*process, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c, err := d.start(ctx, filepath.Join(d.dir, fmt.Sprintf("revoker-%d.log", d.replicas)), []string{asServer + "=revoker"},
		"nice", "-n", "10", path, "http://"+d.admin, strconv.Itoa(revocationRate))
	if err != nil {
		return nil, err
	}
	_, err = c.line("revoking", func(line string) string { return line })
	return c, err
}
