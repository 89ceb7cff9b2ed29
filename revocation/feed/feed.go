// Package feed carries a log of revocations from the control endpoint to its
// replicas: both ends of the stream that feed.proto describes.
//
// # Promises
//
// A replica's set has every revision of one log up to its own, and never half a
// snapshot. An acknowledgement of a revision means that the revision is in force
// on that replica and survives a restart of the replica. So [Server.WaitApplied] can say
// "in force everywhere". Everywhere means every replica that follows now, at any
// control node, and every replica that was lost less than a minute ago: a lost
// replica still decides by its last set. A replica that says goodbye
// decides no more, and does not count.
//
// # Identity
//
// A replica is known by its feed credential, its name and its process. Another
// credential cannot speak for it, and one credential has a bounded number of
// replicas. With its hello the replica reports its version, the version of its
// matching rules, and its accepted issuers. A replica of earlier rules
// counts as pending for every revocation that it cannot match in full. The
// issuers are remembered for as long as a revocation may last.
//
// A replica also acknowledges how many of its entries have not ended. The log
// has that number too. A difference that lasts means that the replica has lost
// or kept something. Such a replica counts as pending, and is sent all entries
// again.
//
// # Waiting
//
// Every replica has a goroutine at the server that reads the [Source] by
// position and sends. The newest changes are packed once for all replicas
// (tail). A replica that is behind the tail is sent changes from the source, and
// one that is too far behind is sent a snapshot. A replica that does not read
// blocks its own goroutine, which holds a bounded piece of the log. The server
// drops the replica when one message has been stuck for sendTimeout. Nothing else
// waits for such a replica.
//
// The replicas of one connection are woken together (lane), and the lanes of one
// credential at a pace (pace). A message to a replica then shares its packet with
// others, and so does the acknowledgement. A packet costs more than its messages.
//
// Changes that come within two milliseconds of each other travel in one message
// and are acknowledged in one, because with many replicas the messages cost more
// than the changes. A revision of many entries travels in parts, and each part is
// in force when the part comes. A short revision behind a long one overtakes: the
// short revision is sent, applied and acknowledged ahead of its turn, and comes
// again in its turn.
//
// # Trust
//
// Every call on the server needs a credential, for every method. The TLS of
// the connection belongs to the caller of this package. The server believes a
// replica about the revisions that this replica has in force, and bounds the cost
// of the replica. The client believes the server about the log, because
// the control endpoint decides about revocations. The client does not believe the
// server about the protocol: a message that does not fit ends the stream, and the set
// stays as it was.
package feed

import (
	"context"
	"time"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
)

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate

// Source is the log that a server feeds to its replicas. All methods are safe
// for concurrent use.
type Source interface {
	// Ready returns why the log cannot be followed now, or nil.
	Ready() error
	LogID() string
	// Replaces returns the logs that this one takes the place of.
	Replaces() []string
	// Retention returns the longest time that a revocation may last.
	Retention() time.Duration
	// Revision returns the last revision, which never falls.
	Revision() uint64
	// Mark returns the mark of a revision, which the revision's record determines: two
	// logs that differ there have different marks. 0: not known.
	Mark(revision uint64) uint64
	// Age returns the time since the source was last certain that nothing is
	// beyond Revision.
	Age() time.Duration
	// Len returns about how many entries a snapshot has.
	Len() int
	// Lasting returns the last revision, and how many entries of it end after
	// the minute: as many as a replica at that revision holds. ok is false if
	// the minute is long over.
	Lasting(m revocation.Minute) (revision uint64, entries int, ok bool)
	// Snapshot yields every entry in force in parts, and holds no lock while
	// yield runs. The entries are the set at the returned revision once the
	// changes after that revision are applied. Some of these changes may be among
	// the entries already.
	Snapshot(yield func([]revocation.Entry) error) (revision uint64, err error)
	// Changes returns the revisions after the given one, each once and none left
	// out, at most so many, at least one if there is one. held is false if the
	// source does not go back that far.
	Changes(after uint64, most int) (changes []revocation.Change, held bool)
	// Wait returns nil once Revision() > after, or the error of ctx.
	Wait(ctx context.Context, after uint64) error
}

// Sizes. A message stays below the 4 MiB that gRPC takes by default.
const (
	packEntries = 4096      // of a snapshot that are packed into one part, if they fit
	partEntries = 1024      // of a long revision, likewise: others overtake between two parts
	maxPart     = 256 << 10 // bytes of packed entries in one chunk or change
	maxMessage  = 512 << 10 // bytes of changes in one message, but for the last
	maxSlice    = 64 << 10  // likewise of a long revision
	maxName     = 256       // bytes of a replica's name
	maxVersion  = 64        // bytes of the version that a replica names
	maxRules    = 1 << 16   // version of the rules that a replica may name

	maxAheadBytes = 64 << 10 // bytes of changes that are sent ahead at once, but for the last
	maxAhead      = 4096     // revisions that a replica may have in force ahead of their turn

	// aheadRules is the first version of the rules whose replicas take changes
	// ahead of their turn.
	aheadRules = 2

	// readChanges is how many revisions are taken from the source at once.
	readChanges = 1024
)

// pack calls emit with the entries in order, packed in parts of at most so many
// entries and at most maxPart bytes.
func pack(entries []revocation.Entry, most int, emit func(part []byte, n int) error) error {
	for len(entries) > 0 {
		n := min(len(entries), most)
		part := revocation.AppendEntries(nil, entries[:n])
		for len(part) > maxPart && n > 1 { // long issuers, long names
			n = max(1, n*maxPart/(2*len(part)))
			part = revocation.AppendEntries(nil, entries[:n])
		}
		if err := emit(part, n); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// partsOf returns the parts of c for a message: one part, or several parts if c is
// large. partsOf calls between, if between is not nil, after each part of several.
func partsOf(c revocation.Change, between func()) []*feedpb.Change {
	var out []*feedpb.Change
	several := len(c.Added)+len(c.Removed) > partEntries
	add := func(part *feedpb.Change) {
		part.Revision, part.More = c.Revision, true
		out = append(out, part)
		if several && between != nil {
			between()
		}
	}
	_ = pack(c.Added, partEntries, func(b []byte, _ int) error { add(&feedpb.Change{Added: b}); return nil })
	_ = pack(c.Removed, partEntries, func(b []byte, _ int) error { add(&feedpb.Change{Removed: b}); return nil })
	if out == nil {
		out = []*feedpb.Change{{Revision: c.Revision}}
	}
	out[len(out)-1].More, out[len(out)-1].Mark = false, c.Mark
	return out
}

// size returns about how many bytes a part takes in a message.
func size(part *feedpb.Change) int { return len(part.Added) + len(part.Removed) + 16 }
