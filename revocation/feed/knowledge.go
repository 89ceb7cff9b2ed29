package feed

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rescind/revocation"
)

// settleTime is for how long after its start a control endpoint refuses no
// revocation for its issuer: the replicas are connecting again.
const settleTime = 5 * time.Second

// refreshTime is how often the time at which a connected replica was seen is
// brought up to date.
const refreshTime = time.Hour

// publishPause is the least time between two views. It bounds the cost of
// replicas that make up issuers.
const publishPause = 20 * time.Millisecond

// maxKnown bounds the records that the replicas of one credential can cause, in
// bytes. Beyond this bound the oldest record of that credential is forgotten.
const maxKnown = 1 << 20

// knowledge holds the issuers that replicas accept, for as long as a revocation
// may last. The issuers of replicas that are gone are among them. A replica that
// reports its issuers is remembered by its profile alone, and many replicas share
// one profile. A replica that reports no issuers is remembered by its name, until
// a replica of that name reports issuers.
type knowledge struct {
	retention time.Duration
	started   time.Time
	changed   func() // is called after a change that is worth writing down; does not wait

	mu        sync.Mutex
	records   map[knownKey]*knownRecord
	sizes     map[string]int // of the records, by credential
	published time.Time      // when the view was made
	pending   bool           // a view will be made soon
	view      atomic.Pointer[revocation.KnownIssuers]
}

type knownKey struct {
	credential string
	profile    string // key of the profile; empty for a replica without one
	name       string // of the replica without a profile
}

// knownRecord is one record in the document and in messages between nodes.
type knownRecord struct {
	Credential string           `json:"credential"`
	Replica    string           `json:"replica,omitzero"` // a replica that does not report its issuers
	Issuers    []acceptedIssuer `json:"issuers,omitzero"` // not nil if Replica is empty
	Seen       time.Time        `json:"seen"`

	profile *profile
}

func newKnowledge(retention time.Duration) *knowledge {
	k := &knowledge{
		retention: retention, started: time.Now(), changed: func() {},
		records: make(map[knownKey]*knownRecord), sizes: make(map[string]int),
	}
	k.view.Store(&revocation.KnownIssuers{})
	return k
}

// issuers returns the knowledge for other packages, and takes no lock.
func (k *knowledge) issuers() revocation.KnownIssuers {
	view := *k.view.Load()
	view.Settled = time.Since(k.started) >= settleTime
	return view
}

// see notes that a replica with this profile is there now.
func (k *knowledge) see(credential, name string, p *profile) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.note(&knownRecord{Credential: credential, Replica: name, Seen: time.Now(), profile: p}) {
		k.publishSoon()
		k.changed()
	}
}

// note takes in a record and reports whether the record changes the view. A record
// with a profile replaces the record of the same replica without a profile. The
// caller holds mu.
func (k *knowledge) note(r *knownRecord) (fresh bool) {
	key := knownKey{credential: r.Credential, name: r.Replica}
	if r.profile != nil {
		if old := k.records[key]; old != nil && !old.Seen.After(r.Seen) {
			k.drop(key, old)
			fresh = true
		}
		key = knownKey{credential: r.Credential, profile: r.profile.key}
		r.Replica, r.Issuers = "", r.profile.issuers
	}
	if old := k.records[key]; old != nil {
		if r.Seen.After(old.Seen) {
			old.Seen = r.Seen
		}
		return fresh
	}
	k.records[key] = r
	k.sizes[r.Credential] += r.size()
	for k.sizes[r.Credential] > maxKnown {
		k.dropOldest(r.Credential)
	}
	return true
}

func (r *knownRecord) size() int {
	if r.profile == nil {
		return len(r.Replica) + 64
	}
	return r.profile.size + 64
}

func (k *knowledge) drop(key knownKey, r *knownRecord) {
	delete(k.records, key)
	if k.sizes[r.Credential] -= r.size(); k.sizes[r.Credential] == 0 {
		delete(k.sizes, r.Credential)
	}
}

func (k *knowledge) dropOldest(credential string) {
	var oldest knownKey
	var found *knownRecord
	for key, r := range k.records {
		if r.Credential == credential && (found == nil || r.Seen.Before(found.Seen)) {
			oldest, found = key, r
		}
	}
	k.drop(oldest, found)
}

// refresh forgets the records that are older than the retention.
func (k *knowledge) refresh() {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := time.Now().Add(-k.retention)
	for key, r := range k.records {
		if r.Seen.Before(before) {
			k.drop(key, r)
		}
	}
	k.publish()
	k.changed()
}

// publishSoon makes the view now, or publishPause after the last one. The caller
// holds mu.
func (k *knowledge) publishSoon() {
	wait := publishPause - time.Since(k.published)
	switch {
	case k.pending:
	case wait <= 0:
		k.publish()
	default:
		k.pending = true
		time.AfterFunc(wait, func() {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.pending = false
			k.publish()
		})
	}
}

// publish makes the view of the records. The caller holds mu.
func (k *knowledge) publish() {
	k.published = time.Now()
	view := &revocation.KnownIssuers{AnyReplica: len(k.records) > 0}
	distinct := make(map[[16]byte]acceptedIssuer)
	for _, r := range k.records {
		if r.profile == nil {
			view.Every = true
			continue
		}
		for i, sum := range r.profile.sums {
			distinct[sum] = r.profile.issuers[i]
		}
	}
	for _, a := range distinct {
		view.Issuers = append(view.Issuers, revocation.AcceptedIssuer(a))
	}
	slices.SortFunc(view.Issuers, func(a, b revocation.AcceptedIssuer) int { return cmp.Compare(a.Issuer, b.Issuer) })
	k.view.Store(view)
}

// all returns a copy of every record, for a file or another node.
func (k *knowledge) all() []knownRecord {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]knownRecord, 0, len(k.records))
	for _, r := range k.records {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b knownRecord) int {
		return cmp.Or(cmp.Compare(a.Credential, b.Credential), a.Seen.Compare(b.Seen), cmp.Compare(a.Replica, b.Replica))
	})
	return out
}

// messages returns the messages that carry all records to other nodes.
func (k *knowledge) messages() (messages []*gossip) {
	var current *gossip
	bytes := 0
	for _, r := range k.all() {
		if current == nil || len(current.Known) >= maxGossipRows || bytes >= maxGossipBytes {
			current, bytes = &gossip{}, 0
			messages = append(messages, current)
		}
		current.Known = append(current.Known, r)
		bytes += r.size()
	}
	return messages
}

// learn takes in records of a file or of another node. learn skips a
// record that makes no sense, and a record older than the retention.
func (k *knowledge) learn(records []knownRecord) {
	k.mu.Lock()
	defer k.mu.Unlock()
	fresh := false
	now := time.Now()
	for i := range records {
		r := records[i]
		if r.Seen.Before(now.Add(-k.retention)) || !goodName(r.Credential) || (r.Replica == "") == (r.Issuers == nil) {
			continue
		}
		if r.Seen.After(now) { // written by a clock that was ahead
			r.Seen = now
		}
		if r.Issuers != nil {
			p, err := newProfile(r.Issuers)
			if err != nil {
				continue
			}
			r.profile = p
		}
		fresh = k.note(&r) || fresh
	}
	if fresh {
		k.publishSoon()
		k.changed()
	}
}
