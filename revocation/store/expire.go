package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const expireInterval = 5 * time.Minute

// maintain works for as long as the log is open: it notices that JetStream has
// stopped, asks for the leaders, gives up expired hours, and takes appends
// again once the disk has room.
func (l *Log) maintain() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	next := time.Now().Add(rand.N(expireInterval)) //nolint:gosec // no secret: nodes take turns
	for {
		select {
		case <-l.stop.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		conn, outOfRoom := l.conn, l.outOfRoom
		l.mu.Unlock()
		if conn == nil {
			continue
		}
		if conn.server != nil && !conn.server.JetStreamEnabled() {
			l.detach(conn, fmt.Errorf("JetStream has given up: %s", conn.lastError))
			continue
		}
		if !l.standalone() {
			l.probeLeaders(conn)
		}
		if now := time.Now(); outOfRoom || now.After(next) {
			l.expireNow(now)
			next = now.Add(expireInterval + rand.N(expireInterval/5)) //nolint:gosec // likewise
		}
		if outOfRoom {
			l.restoreBallast()
		}
	}
}

func (l *Log) expireNow(now time.Time) {
	ctx, cancel := context.WithTimeout(l.stop, time.Minute)
	defer cancel()
	if err := l.Expire(ctx, now); err != nil {
		l.log.Warn("expired parts of the log could not be given up; tried again later", "error", err)
	}
}

// restoreBallast takes appends again if the disk has room for the ballast.
func (l *Log) restoreBallast() {
	err := l.dir.reserveBallast()
	l.mu.Lock()
	before := l.failure
	l.failure = err
	l.outOfRoom = err != nil
	l.mu.Unlock()
	switch {
	case err == nil && before != nil:
		l.log.Info("the durable log takes writes again")
	case err != nil && before == nil:
		l.log.Error("the durable log takes no writes", "error", err)
	}
}

// Expire gives up the hours that have passed at now and frees their space. It
// does nothing until the log has been read.
func (l *Log) Expire(ctx context.Context, now time.Time) error {
	conn, err := l.connected()
	if err != nil {
		return err
	}
	if err := l.giveUp(ctx, conn, now); err != nil {
		return err
	}
	l.mu.Lock()
	var hours []uint32
	if l.accounting.verified {
		hours = l.accounting.purgeable()
	}
	l.mu.Unlock()
	for _, h := range hours {
		if err := conn.batches.Purge(ctx, jetstream.WithPurgeSubject(hourSubject(h))); err != nil {
			return err
		}
		l.mu.Lock()
		delete(l.accounting.hours, h)
		l.mu.Unlock()
	}
	return nil
}

// giveUp writes that the hours passed at now are given up. That must be durable
// before any of them is purged.
func (l *Log) giveUp(ctx context.Context, conn *connection, now time.Time) error {
	l.appending.Lock()
	defer l.appending.Unlock()
	passed := hourOf(now.Add(-margin)) - 1
	l.mu.Lock()
	if !l.accounting.verified || !l.accounting.hasPassed(passed) {
		l.mu.Unlock()
		return nil
	}
	after := l.accounting.revision
	f := frame{givenUp: passed, noted: l.accounting.lastNote}
	for h, n := range l.accounting.hours {
		if h > passed {
			f.before += n
		}
	}
	l.mu.Unlock()
	_, err := l.publish(ctx, conn, after, passed+1, &f) // after a conflict another node, or the next call, does it
	return err
}
