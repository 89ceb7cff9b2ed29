package feed

import (
	"time"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
)

// A replica acknowledges with the number of its entries that end after a
// minute, and the log has that number too. The two numbers are compared only
// where the replica and the log are at one revision. An entry that ends at that
// moment, or a clock that was set, may make the numbers differ for a moment. So a
// difference counts once the difference has lasted for auditTime and was found
// auditFailures times in a row.
const (
	auditTime     = 10 * time.Second
	auditFailures = 3
	// reloadTime is the least time between two snapshots that are sent because
	// of a difference.
	reloadTime = 10 * time.Minute
)

// audit holds the findings about one replica. replicas.mu guards it.
type audit struct {
	failures int       // in a row
	since    time.Time // when the first of these failures was found
	failed   bool      // the replica lacks entries that the replica acknowledges, or has others
	reloaded time.Time // when a snapshot was ordered last
}

// compare compares the replica's number of entries with the log's number, and
// orders a snapshot for the replica if the audit asks for one.
func (ss *session) compare(p *replicaState, a *feedpb.Ack) {
	if a.Minute == 0 {
		return
	}
	revision, entries, ok := ss.server.src.Lasting(revocation.Minute(a.Minute))
	if !ok || revision != a.Revision {
		return
	}
	if ss.server.replicas.audit(p, ss, entries, int(a.Lasting)) {
		ss.reload.Store(true)
	}
}

// audit takes in a comparison, and reports whether the replica is to be sent a
// snapshot.
func (r *replicas) audit(p *replicaState, s *session, want, got int) (reload bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := &p.audit
	now := time.Now()
	log := r.logger.With("replica", p.name, "credential", p.credential, "revision", p.revision, "entries", got, "want", want)
	switch {
	case p.session != s:
		return false
	case got == want:
		if a.failed {
			log.Info("replica complete again")
		}
		recovered := a.failed
		*a = audit{reloaded: a.reloaded}
		if recovered {
			r.markChanged(p)
			r.settle()
		}
		return false
	case a.failures == 0:
		a.since = now
	}
	a.failures++
	if a.failures < auditFailures || now.Sub(a.since) < auditTime {
		return false
	}
	if !a.failed {
		a.failed = true
		r.figures.incomplete.Inc()
		r.markChanged(p)
		r.settle()
	}
	if now.Sub(a.reloaded) < reloadTime {
		return false
	}
	a.reloaded = now
	log.Error("replica incomplete, sending all entries again; the replica counts as pending until they are in force")
	return true
}

// inForce returns the last revision that p has in force, or 0 while p is
// incomplete. The caller holds replicas.mu.
func (p *replicaState) inForce() uint64 {
	if p.audit.failed {
		return 0
	}
	return p.revision
}
