// Package feed carries a log of revocations from the control endpoint to its
// replicas: both ends of the stream that feed.proto describes.
//
// # What it promises
//
// A replica's set is that of one log at one revision, or the one before it:
// never half a snapshot, never a revision with a hole before it. An
// acknowledgement of a revision means that it is in force on that replica and
// survives its restart. So [Server.WaitApplied] can say "in force everywhere",
// where everywhere is every replica connected now or lost less than a minute
// ago: one that was cut off still decides, by what it had.
//
// # Who waits for whom
//
// Every follower has a goroutine that reads the [Source] by position and sends.
// The newest changes are packed once for all of them (tail); one that is
// behind reads the source itself, and one that is too far behind gets a
// snapshot. A follower that does not read blocks its own goroutine, which
// holds a bounded piece of the log, and is dropped when a send has been stuck
// for too long. Nobody else waits for it, the source least of all.
//
// Changes that come within a couple of milliseconds of each other travel in
// one message and are acknowledged in one: with many replicas it is messages
// that cost, not changes.
//
// # Trust
//
// Every call on the server needs the credential, whatever its method; the
// connection's TLS is the caller's. A follower with the credential is believed
// about what it has in force, and can cost no more than its share. The client
// believes the server about the log, since whoever holds that end decides what
// is revoked, but not about the protocol: what does not fit ends the stream,
// and the set stays as it was.
package feed

import (
	"context"
	"time"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
)

//go:generate go run github.com/bufbuild/buf/cmd/buf@v1.75.0 generate

// Source is the log that a server feeds to its followers. All methods are safe
// for concurrent use.
type Source interface {
	// Ready says why the log cannot be followed yet, or any more; else nil.
	Ready() error
	LogID() string
	// Replaces are the logs that this one takes the place of.
	Replaces() []string
	// Retention is the longest that a revocation may last.
	Retention() time.Duration
	// Revision is the last one; it never falls.
	Revision() uint64
	// Age is how long ago it was certain that nothing was beyond Revision.
	Age() time.Duration
	// Len is about how many entries a snapshot has.
	Len() int
	// Lasting returns the last revision, and how many entries of it end after
	// the minute: as many as a replica at that revision holds. ok is false if
	// the minute is long over.
	Lasting(m revocation.Minute) (revision uint64, entries int, ok bool)
	// Snapshot yields every entry in force in parts, and holds no lock while
	// yield runs. The result is the set at the revision returned once the
	// changes after it are applied; it may have some of them already.
	Snapshot(yield func([]revocation.Entry) error) (revision uint64, err error)
	// Changes are those of the revisions after the given one, each once and
	// none left out, at most so many, at least one if there is one. held is false
	// if the log does not go back that far.
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

// partsOf returns c as it travels: one part, or several if it is large. It calls
// between, if that is not nil, after each part of several.
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
	out[len(out)-1].More = false
	return out
}

// size is about what a part takes in a message.
func size(part *feedpb.Change) int { return len(part.Added) + len(part.Removed) + 16 }
