package feed

import (
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
	"rescind/revocation/replica"
)

// Bounds on the announcements of a server.
const (
	maxRevision  = 1 << 20 // entries of one revision; the API takes a tenth of it
	maxExpect    = 1 << 27 // entries that room is made for before they come
	minHeartbeat = time.Millisecond
	maxHeartbeat = time.Minute
	missed       = 3 // heartbeats without a message, and the server is gone
)

// inbound turns the server's messages into calls of the follower. For every
// sequence of messages, the follower's set is a whole set at one revision. A
// snapshot is built beside the set and takes the set's place once the snapshot has
// proved complete. A revision counts when all its parts are in force, right after
// the revision before it.
//
// An inbound belongs to one goroutine.
type inbound struct {
	follower *replica.Follower
	logID    string
	holds    bool   // the follower has a set of this log,
	at       uint64 // at this revision, once ready is applied

	loading *snapshot
	partial *partial // revision at+1, if a part of that revision has come
	ready   []revocation.Change
	ahead   []uint64          // revisions after at that are in force already
	due     bool              // an acknowledgement
	minute  revocation.Minute // of a heartbeat that has not been acknowledged; 0: none
}

// partial is a revision that has come in part.
type partial struct {
	entries int // of the parts that have come
	removed []revocation.Entry
}

// snapshot is a snapshot that is being received.
type snapshot struct {
	*replica.Loading
	revision uint64
	count    uint64
	sum      uint32
}

// errNewerRules says that the entries of a control endpoint cannot be matched
// by this replica.
var errNewerRules = errors.New("the control endpoint is newer than this replica")

// greet takes the first message. silence is the time without a message after
// which the control endpoint is gone.
func (in *inbound) greet(g *feedpb.Greeting) (silence time.Duration, err error) {
	switch {
	case g == nil:
		return 0, errors.New("the control endpoint did not begin with a greeting")
	case g.LogId == "":
		return 0, errors.New("the greeting names no log")
	case g.Retention.CheckValid() != nil || g.Heartbeat.CheckValid() != nil || g.Time.CheckValid() != nil:
		return 0, errors.New("the greeting has a time or a duration outside of the range")
	}
	if g.Rules > revocation.Rules {
		err := fmt.Errorf("%w: it has version %d of the matching rules, and this replica has version %d; upgrade the replica", errNewerRules, g.Rules, revocation.Rules)
		in.follower.Refuse(err)
		return 0, err
	}
	beat := g.Heartbeat.AsDuration()
	if beat < minHeartbeat || beat > maxHeartbeat {
		return 0, fmt.Errorf("the greeting has a heartbeat every %v; it must be from %v to %v", beat, minHeartbeat, maxHeartbeat)
	}
	in.follower.Accept(g.Replaces)
	if err := in.follower.Compare(g.LogId, g.Mark); err != nil {
		return 0, err
	}
	if err := in.follower.Greet(g.LogId, g.Revision, g.Retention.AsDuration()); err != nil {
		return 0, err
	}
	logID, revision := in.follower.Position()
	in.logID = g.LogId
	if logID == g.LogId {
		in.holds, in.at = true, revision
	}
	return missed * beat, nil
}

// abandon gives up a snapshot that is not whole.
func (in *inbound) abandon() {
	if in.loading != nil {
		in.loading.Abandon()
		in.loading = nil
	}
}

// take takes in one message. After an error the stream must end.
func (in *inbound) take(m *feedpb.ServerMessage) error {
	switch m := m.GetKind().(type) {
	case *feedpb.ServerMessage_Changes:
		for _, c := range m.Changes.GetChanges() {
			if err := in.change(c); err != nil {
				return err
			}
		}
		return nil
	case *feedpb.ServerMessage_Heartbeat:
		return in.heartbeat(m.Heartbeat)
	case *feedpb.ServerMessage_SnapshotBegin:
		return in.begin(m.SnapshotBegin)
	case *feedpb.ServerMessage_SnapshotChunk:
		return in.chunk(m.SnapshotChunk)
	case *feedpb.ServerMessage_SnapshotEnd:
		return in.end(m.SnapshotEnd)
	case *feedpb.ServerMessage_Greeting:
		return errors.New("a second greeting came")
	}
	return errors.New("a message of an unknown kind came")
}

// change takes one part of a revision. change skips a revision that is in force
// already.
func (in *inbound) change(c *feedpb.Change) error {
	switch {
	case c.GetAhead():
		return errors.New("a change ahead of its turn came with others")
	case in.loading != nil || !in.holds:
		return errors.New("changes came before a snapshot, or within one")
	case c.GetRevision() <= in.at:
		return nil
	case c.Revision != in.at+1:
		return fmt.Errorf("revision %d came after %d", c.Revision, in.at)
	}
	added, err := revocation.ReadEntries(c.Added)
	if err != nil {
		return fmt.Errorf("revision %d: %w", c.Revision, err)
	}
	removed, err := revocation.ReadEntries(c.Removed)
	if err != nil {
		return fmt.Errorf("revision %d: %w", c.Revision, err)
	}
	p := in.partial
	if p == nil {
		p = &partial{}
	}
	if p.entries += len(added) + len(removed); p.entries > maxRevision {
		return fmt.Errorf("revision %d has more than %d entries", c.Revision, maxRevision)
	}
	p.removed = append(p.removed, removed...)
	if c.More {
		in.partial = p
		return in.part(c.Revision, added)
	}
	in.ready = append(in.ready, revocation.Change{Revision: c.Revision, Added: added, Removed: p.removed, Mark: c.Mark})
	in.partial, in.at = nil, c.Revision
	return nil
}

// overtake puts later changes in force before their turn. overtake skips a change
// whose turn has come, and does nothing while there is no set.
func (in *inbound) overtake(changes []*feedpb.Change) error {
	if in.loading != nil || !in.holds {
		return nil
	}
	var entries []revocation.Entry
	var early []uint64
	for _, c := range changes {
		if c.Revision <= in.at+1 || slices.Contains(in.ahead, c.Revision) || slices.Contains(early, c.Revision) || len(in.ahead)+len(early) >= maxAhead {
			continue
		}
		added, err := revocation.ReadEntries(c.Added)
		if err != nil {
			return fmt.Errorf("revision %d: %w", c.Revision, err)
		}
		entries, early = append(entries, added...), append(early, c.Revision)
	}
	if len(early) == 0 {
		return nil
	}
	if err := in.flush(); err != nil {
		return err
	}
	if err := in.follower.ApplyAhead(entries); err != nil {
		return fmt.Errorf("revisions ahead of %d: %w", in.at, err)
	}
	in.ahead, in.due = append(in.ahead, early...), true
	return nil
}

// aheadOf returns the revisions that are in force before their turn.
func (in *inbound) aheadOf() []uint64 {
	in.ahead = slices.DeleteFunc(in.ahead, func(revision uint64) bool { return revision <= in.at })
	return slices.Clone(in.ahead)
}

// part puts added entries of a revision in force while the rest of the revision is
// on its way. The entries that the revision removes wait for the rest.
func (in *inbound) part(revision uint64, added []revocation.Entry) error {
	if err := in.flush(); err != nil {
		return err
	}
	if err := in.follower.ApplyPart(revision, added); err != nil {
		return fmt.Errorf("revision %d: %w", revision, err)
	}
	return nil
}

// flush puts the received whole revisions in force.
func (in *inbound) flush() error {
	if len(in.ready) == 0 {
		return nil
	}
	if err := in.follower.Apply(in.ready); err != nil {
		return fmt.Errorf("revisions %d to %d: %w", in.ready[0].Revision, in.at, err)
	}
	in.ready, in.due = nil, true
	return nil
}

// heartbeat takes in the time at which the log had nothing beyond the received
// revision.
func (in *inbound) heartbeat(h *feedpb.Heartbeat) error {
	if err := in.flush(); err != nil {
		return err
	}
	switch {
	case in.loading != nil || !in.holds:
		return errors.New("a heartbeat came before a snapshot, or within one")
	case h.GetRevision() > in.at:
		return fmt.Errorf("a heartbeat of revision %d came after %d", h.Revision, in.at)
	case h.GetTime().CheckValid() != nil:
		return errors.New("a heartbeat has a time outside of the range")
	case h.Age.AsDuration() < 0 || h.Age != nil && h.Age.CheckValid() != nil:
		return errors.New("a heartbeat has a negative age, or one outside of the range")
	}
	if logID, revision := in.follower.Position(); logID != in.logID || revision != in.at {
		return errors.New("the set was discarded, loading all entries again")
	}
	in.follower.Contact(in.at, h.Time.AsTime(), h.Age.AsDuration())
	in.due, in.minute = true, revocation.MinuteOf(h.Time.AsTime())
	return nil
}

// begin takes the beginning of a snapshot.
func (in *inbound) begin(b *feedpb.SnapshotBegin) error {
	if err := in.flush(); err != nil {
		return err
	}
	switch {
	case in.loading != nil:
		return errors.New("a snapshot came within another")
	case in.partial != nil:
		return fmt.Errorf("a snapshot came within revision %d", in.at+1)
	case in.holds && b.GetRevision() < in.at:
		return fmt.Errorf("a snapshot of revision %d came after %d", b.Revision, in.at)
	}
	l, err := in.follower.Load(in.logID, b.GetRevision(), min(b.GetExpect(), maxExpect))
	if err != nil {
		return fmt.Errorf("a snapshot of revision %d: %w", b.Revision, err)
	}
	l.SetMark(b.Mark)
	in.loading = &snapshot{Loading: l, revision: b.Revision}
	return nil
}

// chunk takes a part of a snapshot.
func (in *inbound) chunk(c *feedpb.SnapshotChunk) error {
	if in.loading == nil {
		return errors.New("a part of a snapshot came outside of one")
	}
	entries, err := revocation.ReadEntries(c.GetEntries())
	if err != nil {
		return fmt.Errorf("a snapshot of revision %d: %w", in.loading.revision, err)
	}
	in.loading.count += uint64(len(entries))
	in.loading.sum = crc32.Update(in.loading.sum, crcTable, c.Entries)
	in.loading.Add(entries)
	return nil
}

// end takes the end of a snapshot, and puts a whole snapshot in force.
func (in *inbound) end(e *feedpb.SnapshotEnd) error {
	s := in.loading
	if s == nil {
		return errors.New("the end of a snapshot came outside of one")
	}
	if e.GetRevision() != s.revision || e.GetCount() != s.count || e.GetChecksum() != s.sum {
		return fmt.Errorf("the snapshot of revision %d is not whole: %d of %d entries, checksum %08x for %08x",
			s.revision, s.count, e.GetCount(), s.sum, e.GetChecksum())
	}
	if err := s.Commit(); err != nil {
		return fmt.Errorf("the snapshot of revision %d: %w", s.revision, err)
	}
	in.loading, in.holds, in.at, in.due = nil, true, s.revision, true
	return nil
}

// entriesOf returns the number of entries of the follower.
func entriesOf(f *replica.Follower) uint64 { return uint64(f.Status().Entries) }
