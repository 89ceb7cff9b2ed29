package feed

import (
	"context"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
)

// pulse is the end of the log at a time.
type pulse struct {
	revision uint64
	time     time.Time
	age      time.Duration
}

// maxAge stands for an age that is not known.
const maxAge = 10 * 365 * 24 * time.Hour

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// put sends one message to the replica.
func (ss *session) put(m *feedpb.ServerMessage) error {
	return ss.watched.put(func() error { return ss.stream.Send(m) })
}

// send greets the replica, brings the replica up to date and keeps it up to date
// until the stream ends.
func (ss *session) send(resumes bool) error {
	if err := ss.greet(resumes); err != nil {
		return err
	}
	if !resumes {
		if err := ss.snapshot(); err != nil {
			return err
		}
	}
	turn, beats := ss.lane.next()
	ss.takePulse()
	for {
		if ss.reload.Swap(false) {
			if err := ss.snapshot(); err != nil {
				return err
			}
		}
		more, err := ss.step()
		if err != nil {
			return err
		}
		if !more {
			select {
			case <-turn:
			case <-ss.ctx.Done():
				return context.Cause(ss.ctx)
			}
		}
		before := beats
		if turn, beats = ss.lane.next(); beats != before {
			ss.takePulse()
		}
	}
}

// step sends the next parts, or the short revisions that overtake if there are no
// parts, and then the heartbeat that is due. step reports whether there may be more
// to send now.
func (ss *session) step() (more bool, err error) {
	parts, more, err := ss.more()
	switch {
	case err != nil:
	case len(parts) > 0:
		err = ss.changes(parts)
	default: // a long revision may be on its way into the tail
		err = ss.overtake(ss.at)
	}
	if err == nil {
		err = ss.pulse()
	}
	return more, err
}

// greet sends the greeting, and fails if the replica does not fit this log. A node of a cluster may be a moment behind the
// node that the replica followed before, and the replica would refuse such a node.
// So greet waits for catchUp at most until the node has the replica's revision.
func (ss *session) greet(resumes bool) error {
	src := ss.server.src
	if resumes && ss.at > src.Revision() {
		ctx, cancel := context.WithTimeout(ss.ctx, catchUp)
		_ = src.Wait(ctx, ss.at-1) // the greeting has the revision that was reached
		cancel()
	}
	revision, mark := src.Revision(), src.Mark(ss.marked)
	err := ss.put(&feedpb.ServerMessage{Kind: &feedpb.ServerMessage_Greeting{Greeting: &feedpb.Greeting{
		LogId: src.LogID(), Replaces: src.Replaces(), Revision: revision, Retention: durationpb.New(src.Retention()),
		Heartbeat: durationpb.New(ss.server.heartbeat), Time: timestamppb.Now(), Rules: revocation.Rules, Mark: mark,
	}}})
	switch {
	case err != nil || !resumes:
		return err
	case ss.at > revision:
		return status.Errorf(codes.FailedPrecondition, "this control endpoint is at revision %d of the log, before revision %d of the replica", revision, ss.at)
	case mark != 0 && ss.mark != 0 && mark != ss.mark:
		return status.Errorf(codes.FailedPrecondition, "revision %d of this log is another one than that of the replica: this log was restored from an older copy, and the replica has revocations that the log lacks; see OPERATIONS.md, \"All control nodes are lost\"", ss.marked)
	}
	return nil
}

// more returns the next parts to send, and reports whether there may be further
// parts now.
func (ss *session) more() (next []*feedpb.Change, more bool, err error) {
	recent, held := ss.server.tail.after(ss.at)
	if held {
		return recent, len(recent) > 0, nil
	}
	changes, held := ss.server.src.Changes(ss.at, readChanges)
	if !held {
		return nil, true, ss.snapshot()
	}
	for _, c := range changes {
		next = append(next, partsOf(c, nil)...)
	}
	return next, len(next) > 0, nil // a source that breaks its promise must not make the loop of send spin
}

// changes sends parts, each message with as many parts as fit. The last part ends
// a revision. Short revisions overtake between two messages of a long one.
func (ss *session) changes(parts []*feedpb.Change) error {
	last := parts[len(parts)-1].Revision
	for len(parts) > 0 {
		n, bytes := 0, 0
		for limit := maxMessage; n < len(parts) && bytes < limit; n++ {
			bytes += size(parts[n])
			if parts[n].More {
				limit = maxSlice
			}
		}
		if err := ss.putChanges(parts[:n:n]); err != nil {
			return err
		}
		if sent := parts[n-1]; sent.More {
			if err := ss.overtake(sent.Revision); err != nil {
				return err
			}
		}
		parts = parts[n:]
	}
	ss.at = last
	return nil
}

// overtake sends the short revisions after a long revision ahead of the rest of the
// long revision.
// A revision that removes entries keeps its turn.
func (ss *session) overtake(long uint64) error {
	if ss.rules < aheadRules {
		return nil
	}
	t := ss.server.tail
	later, _ := t.after(max(long, ss.ahead))
	later = slices.Concat(later, t.overtaking(max(long, ss.ahead)))
	var short []*feedpb.Change
	for bytes := 0; len(later) > 0 && bytes < maxAheadBytes; {
		n := 1
		for n < len(later) && later[n].Revision == later[0].Revision {
			n++
		}
		if c := later[0]; canOvertake(later[:n]) {
			short = append(short, &feedpb.Change{Revision: c.Revision, Added: c.Added, Ahead: true})
			bytes += size(c)
		}
		ss.ahead = later[0].Revision
		later = later[n:]
	}
	if short == nil {
		return nil
	}
	return ss.putChanges(short)
}

// putChanges sends parts of revisions in one message.
func (ss *session) putChanges(changes []*feedpb.Change) error {
	return ss.put(&feedpb.ServerMessage{Kind: &feedpb.ServerMessage_Changes{Changes: &feedpb.Changes{Changes: changes}}})
}

// snapshot sends all entries. The entries are the set at the revision that the
// source had before snapshot began, once the changes after that revision are
// applied. Some of these changes may be among the entries already.
func (ss *session) snapshot() error {
	src := ss.server.src
	revision := src.Revision()
	err := ss.put(&feedpb.ServerMessage{Kind: &feedpb.ServerMessage_SnapshotBegin{SnapshotBegin: &feedpb.SnapshotBegin{
		Revision: revision, Expect: uint64(src.Len()), Mark: src.Mark(revision),
	}}})
	if err != nil {
		return err
	}
	var count uint64
	var sum uint32
	taken, err := src.Snapshot(func(entries []revocation.Entry) error {
		return pack(entries, packEntries, func(part []byte, n int) error {
			count += uint64(n)
			sum = crc32.Update(sum, crcTable, part)
			return ss.put(&feedpb.ServerMessage{Kind: &feedpb.ServerMessage_SnapshotChunk{SnapshotChunk: &feedpb.SnapshotChunk{Entries: part}}})
		})
	})
	if err != nil {
		return err
	}
	if taken < revision {
		return fmt.Errorf("the source gave a snapshot at revision %d after it was at %d", taken, revision)
	}
	ss.at = revision
	return ss.put(&feedpb.ServerMessage{Kind: &feedpb.ServerMessage_SnapshotEnd{SnapshotEnd: &feedpb.SnapshotEnd{
		Revision: revision, Count: count, Checksum: sum,
	}}})
}

// takePulse prepares a heartbeat with the present end of the log. pulse sends the
// heartbeat once the replica has been sent that revision.
func (ss *session) takePulse() {
	if ss.beat == nil {
		age := ss.server.src.Age() // read first, so that the age is not younger than the revision
		ss.beat = &pulse{ss.server.src.Revision(), time.Now(), min(age, maxAge)}
	}
}

// pulse sends the heartbeat that is due, if any.
func (ss *session) pulse() error {
	if ss.beat == nil || ss.at < ss.beat.revision {
		return nil
	}
	if err := ss.server.src.Ready(); err != nil {
		return status.Error(codes.Unavailable, "this control endpoint cannot serve its log now: "+err.Error())
	}
	b := ss.beat
	ss.beat = nil
	return ss.put(&feedpb.ServerMessage{Kind: &feedpb.ServerMessage_Heartbeat{Heartbeat: &feedpb.Heartbeat{
		Revision: b.revision, Time: timestamppb.New(b.time), Age: durationpb.New(b.age + time.Since(b.time)),
	}}})
}
