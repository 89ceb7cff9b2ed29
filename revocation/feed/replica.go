package feed

import (
	"time"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
)

// Replica is a replica that follows now, or was lost less than a minute ago.
type Replica struct {
	Credential string // the name of its feed token
	Name       string
	Connected  bool
	Revision   uint64 // the last revision that the replica has in force
	Behind     uint64 // how many revisions the replica lacks
	Entries    uint64
	LastAck    time.Time // zero if there was none yet

	// Incomplete reports whether the replica holds other entries than the log.
	// An incomplete replica has no revision in force, and loads all entries
	// again.
	Incomplete bool

	Version string // of the product; empty for a replica of the first edition
	Rules   int    // version of digests and matching rules
	// Issuers are the issuers that the replica accepts. Issuers is nil if the
	// replica reports no issuers, and then counts as accepting every issuer.
	Issuers []revocation.AcceptedIssuer
}

// identity distinguishes replicas. A credential speaks for its own replicas alone.
// Two processes that were given one name are two replicas, because both decide.
type identity struct {
	credential string
	name       string
	instance   [16]byte
}

// description is a replica by its own words.
type description struct {
	version string
	rules   int
	profile *profile
}

// replicaState is the state of one replica. replicas.mu guards its fields.
type replicaState struct {
	identity
	description
	node      string   // the other control node that the replica follows; empty: this node
	session   *session // the stream that speaks for the replica here; nil once lost
	connected bool
	joined    time.Time // by the clock of its node
	lost      time.Time // when the replica was lost; set while not connected
	remote    string
	revision  uint64          // the last one that the replica has acknowledged
	held      uint64          // the revision of its hello
	known     bool            // held belongs to this log, and is not the 0 of a new replica
	ahead     map[uint64]bool // later revisions that are in force already
	entries   uint64
	lastAck   time.Time
	losses    int
	audit     audit
	changed   bool // the present state has not been sent to other nodes
}

// outside returns the state of p for other packages. The caller holds mu.
func (p *replicaState) outside(head uint64) Replica {
	return Replica{
		Credential: p.credential, Name: p.name, Connected: p.connected, Revision: p.revision,
		Behind: head - min(head, p.inForce()), Entries: p.entries, LastAck: p.lastAck,
		Incomplete: p.audit.failed, Version: p.version, Rules: max(p.rules, 1), Issuers: p.profile.accepted(),
	}
}

// overtaken removes from p.ahead the revisions whose turn has come, and returns
// these revisions. The caller holds mu.
func (p *replicaState) overtaken(a *feedpb.Ack) map[uint64]bool {
	if p.ahead == nil {
		p.ahead = make(map[uint64]bool)
	}
	early := make(map[uint64]bool)
	for revision := range p.ahead {
		if revision <= a.Revision {
			early[revision] = true
			delete(p.ahead, revision)
		}
	}
	return early
}
