package store

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

const expireInterval = 5 * time.Minute

// tend looks after the log for as long as it is open.
func (l *Log) tend() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	next := time.Now().Add(rand.N(expireInterval)) //nolint:gosec // so that nodes take turns
	for {
		select {
		case <-l.stop.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		k, short := l.link, l.short
		l.mu.Unlock()
		if k == nil {
			continue
		}
		if k.server != nil && !k.server.JetStreamEnabled() {
			l.detach(k, fmt.Errorf("JetStream has given up: %s", k.trouble))
			continue
		}
		if !l.alone() {
			l.probe(k)
		}
		if now := time.Now(); short || now.After(next) {
			l.tidy(now)
			next = now.Add(expireInterval + rand.N(expireInterval/5)) //nolint:gosec // likewise
		}
		if short {
			l.refill()
		}
	}
}

// probe finds out whether a log on several nodes has a leader, before anybody
// needs it, and keeps the two streams with one leader: the loss of another node
// then stops nothing.
func (l *Log) probe(k *link) {
	ctx, cancel := context.WithTimeout(l.stop, unanswered)
	defer cancel()
	log, err := led(ctx, k.batches)
	if err == nil {
		l.agree(log)
		var audit state
		if audit, err = led(ctx, k.audit); err == nil {
			l.unite(ctx, k, log.ClusterInfo, audit.ClusterInfo)
		}
	}
	if l.stop.Err() == nil {
		l.answered(err)
	}
}

// state is what the leader of a stream says of it.
type state struct {
	*jetstream.ClusterInfo // nil: one server, elsewhere
	agreement
}

// agreement is an instant, and the last revision that there was then, or a
// later one.
type agreement struct {
	at   time.Time
	head uint64
}

// led asks the leader of a stream; it is an error if there is none, or one
// with no majority behind it. A leader that was deposed and does not know it
// yet has not heard of a majority since: that is what at tells.
func led(ctx context.Context, s jetstream.Stream) (state, error) {
	asked := time.Now()
	info, err := s.Info(ctx)
	if err != nil {
		return state{}, err
	}
	out := state{info.Cluster, agreement{asked, info.State.LastSeq}}
	if info.Cluster == nil {
		return out, nil
	}
	var silent []time.Duration
	for _, r := range info.Cluster.Replicas {
		if r.Offline || r.Active <= 0 { // 0: not heard of since this leader leads
			r.Active = time.Hour
		}
		silent = append(silent, r.Active)
	}
	slices.Sort(silent)
	if n := (1 + len(silent)) / 2; n > 0 { // with the leader they are a majority
		if silent[n-1] >= 3*time.Second { // they say something every second
			return state{}, errNoMajority
		}
		out.at = asked.Add(-silent[n-1])
	}
	if info.Cluster.Leader == "" {
		return state{}, errNoMajority
	}
	return out, nil
}

func (l *Log) agree(s state) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.agreed = s.agreement
}

// Agreed is an instant, and a revision: nothing was beyond it then, on any
// node. Without a majority the instant stays where it was.
func (l *Log) Agreed() (at time.Time, head uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.alone() {
		return time.Now(), l.tally.revision
	}
	return l.agreed.at, l.agreed.head
}

// unite asks, on the node that leads the log, for the lead of the audit.
func (l *Log) unite(ctx context.Context, k *link, log, audit *jetstream.ClusterInfo) {
	if k.server == nil || log == nil || audit == nil || log.Leader != k.server.Name() || audit.Leader == log.Leader || audit.Leader == "" {
		return
	}
	request, err := json.Marshal(server.JSApiLeaderStepdownRequest{Placement: &server.Placement{Preferred: log.Leader}})
	if err == nil {
		_, err = k.conn.RequestWithContext(ctx, fmt.Sprintf(server.JSApiStreamLeaderStepDownT, auditStream), request)
	}
	if err != nil {
		l.log.Debug("the audit keeps its leader", "error", err)
	}
}

func (l *Log) tidy(now time.Time) {
	ctx, cancel := context.WithTimeout(l.stop, time.Minute)
	defer cancel()
	if err := l.Expire(ctx, now); err != nil {
		l.log.Warn("expired parts of the log could not be given up; tried again later", "error", err)
	}
}

// refill takes appends again if there is room.
func (l *Log) refill() {
	err := l.dir.reserve()
	l.mu.Lock()
	before := l.cause
	l.cause = err
	l.short = err != nil
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
	k, err := l.current()
	if err != nil {
		return err
	}
	if err := l.giveUp(ctx, k, now); err != nil {
		return err
	}
	l.mu.Lock()
	var hours []uint32
	if l.tally.whole {
		hours = l.tally.purgeable()
	}
	l.mu.Unlock()
	for _, h := range hours {
		if err := k.batches.Purge(ctx, jetstream.WithPurgeSubject(hourSubject(h))); err != nil {
			return err
		}
		l.mu.Lock()
		delete(l.tally.hours, h)
		l.mu.Unlock()
	}
	return nil
}

// giveUp writes down that hours are given up, before any of them is purged.
func (l *Log) giveUp(ctx context.Context, k *link, now time.Time) error {
	l.appending.Lock()
	defer l.appending.Unlock()
	passed := hourOf(now.Add(-margin)) - 1
	l.mu.Lock()
	if !l.tally.whole || !l.tally.passed(passed) {
		l.mu.Unlock()
		return nil
	}
	after := l.tally.revision
	f := frame{givenUp: passed, noted: l.tally.noted}
	for h, n := range l.tally.hours {
		if h > passed {
			f.before += n
		}
	}
	l.mu.Unlock()
	_, err := l.publish(ctx, k, after, passed+1, &f) // a conflict: the next time, or another node
	return err
}
