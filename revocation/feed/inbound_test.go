package feed

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"rescind/revocation"
	"rescind/revocation/feed/feedpb"
	"rescind/revocation/replica"
)

func newGreeting(revision uint64) *feedpb.Greeting {
	return &feedpb.Greeting{
		LogId: "log-1", Revision: revision, Retention: durationpb.New(720 * time.Hour),
		Heartbeat: durationpb.New(time.Second), Time: timestamppb.Now(),
	}
}

// receiving is an inbound end that was greeted.
func receiving(t testing.TB, f *replica.Follower) *inbound {
	t.Helper()
	in := &inbound{follower: f}
	if _, err := in.greet(newGreeting(100)); err != nil {
		t.Fatalf("a greeting at revision 100: got %v, want no error", err)
	}
	return in
}

func add(revision uint64, subs ...string) *feedpb.Change {
	var entries []revocation.Entry
	for i, sub := range subs {
		entries = append(entries, entryOf(sub, revocation.ID{Revision: revision, Index: uint32(i)}))
	}
	return &feedpb.Change{Revision: revision, Added: revocation.AppendEntries(nil, entries)}
}

func more(c *feedpb.Change) *feedpb.Change { c.More = true; return c }

func changed(c ...*feedpb.Change) *feedpb.ServerMessage {
	return &feedpb.ServerMessage{Kind: &feedpb.ServerMessage_Changes{Changes: &feedpb.Changes{Changes: c}}}
}

func begun(revision, expect uint64) *feedpb.ServerMessage {
	return &feedpb.ServerMessage{Kind: &feedpb.ServerMessage_SnapshotBegin{SnapshotBegin: &feedpb.SnapshotBegin{Revision: revision, Expect: expect}}}
}

func chunk(b []byte) *feedpb.ServerMessage {
	return &feedpb.ServerMessage{Kind: &feedpb.ServerMessage_SnapshotChunk{SnapshotChunk: &feedpb.SnapshotChunk{Entries: b}}}
}

func ended(revision, count uint64, sum uint32) *feedpb.ServerMessage {
	return &feedpb.ServerMessage{Kind: &feedpb.ServerMessage_SnapshotEnd{SnapshotEnd: &feedpb.SnapshotEnd{Revision: revision, Count: count, Checksum: sum}}}
}

func aged(m *feedpb.ServerMessage, age time.Duration) *feedpb.ServerMessage {
	m.GetHeartbeat().Age = durationpb.New(age)
	return m
}

func beat(revision uint64, at *timestamppb.Timestamp) *feedpb.ServerMessage {
	return &feedpb.ServerMessage{Kind: &feedpb.ServerMessage_Heartbeat{Heartbeat: &feedpb.Heartbeat{Revision: revision, Time: at}}}
}

func takeAll(in *inbound, messages ...*feedpb.ServerMessage) error {
	for _, m := range messages {
		if err := in.take(m); err != nil {
			return err
		}
	}
	return in.flush()
}

// snapshotOf are the messages of a whole snapshot.
func snapshotOf(revision uint64, subs ...string) []*feedpb.ServerMessage {
	b := add(revision, subs...).Added
	return []*feedpb.ServerMessage{begun(revision, 1), chunk(b), ended(revision, uint64(len(subs)), crc32.Checksum(b, crcTable))}
}

// holding is a follower at revision 3 of log-1: alice is denied.
func holding(t testing.TB) *replica.Follower {
	t.Helper()
	f := openFollower(t)
	if err := takeAll(receiving(t, f), snapshotOf(3, "alice")...); err != nil {
		t.Fatalf("a snapshot of revision 3 with alice: got %v, want no error", err)
	}
	return f
}

func TestMessagesThatDoNotFit(t *testing.T) {
	alice := add(4, "alice").Added
	sum := crc32.Checksum(alice, crcTable)
	now := timestamppb.Now()
	for name, messages := range map[string][]*feedpb.ServerMessage{
		"nothing":                       {{}},
		"a second greeting":             {{Kind: &feedpb.ServerMessage_Greeting{Greeting: newGreeting(100)}}},
		"a hole":                        {changed(add(5, "bob"))},
		"a hole within":                 {changed(add(4, "bob"), add(6, "carol"))},
		"a hole after a part":           {changed(more(add(4, "dave"))), changed(add(5, "carol"))},
		"entries that are none":         {changed(&feedpb.Change{Revision: 4, Added: []byte("nonsense, and long enough for an entry")})},
		"entries cut off":               {changed(&feedpb.Change{Revision: 4, Added: alice[:len(alice)-1]})},
		"removed entries that are none": {changed(&feedpb.Change{Revision: 4, Removed: []byte{0xff}})},
		"revision without end":          {changed(add(math.MaxUint64, "bob"))},
		"a heartbeat from ahead":        {beat(4, now)},
		"a heartbeat without a time":    {beat(3, nil)},
		"a heartbeat out of time":       {beat(3, &timestamppb.Timestamp{Seconds: math.MaxInt64})},
		"a heartbeat from later":        {aged(beat(3, now), -time.Second)},
		"a heartbeat older than time":   {aged(beat(3, now), math.MinInt64)},
		"a chunk alone":                 {chunk(alice)},
		"an end alone":                  {ended(4, 1, sum)},
		"two begins":                    {begun(4, 1), begun(4, 1)},
		"an older snapshot":             {begun(2, 1)},
		"a snapshot within a revision":  {changed(more(add(4, "dave"))), begun(5, 1)},
		"changes within a snapshot":     {begun(4, 1), changed(add(4, "bob"))},
		"a heartbeat within":            {begun(4, 1), beat(3, now)},
		"a chunk of nonsense":           {begun(4, 1), chunk([]byte("nonsense, and long enough for an entry"))},
		"too few":                       {begun(4, 1), chunk(alice), ended(4, 2, sum)},
		"too many":                      {begun(4, 1), chunk(alice), chunk(alice), ended(4, 1, sum)},
		"another checksum":              {begun(4, 1), chunk(alice), ended(4, 1, sum+1)},
		"another revision":              {begun(4, 1), chunk(alice), ended(5, 1, sum)},
		"no chunk":                      {begun(4, 1), ended(4, 1, sum)},
	} {
		t.Run(name, func(t *testing.T) {
			f := holding(t)
			in := receiving(t, f)
			if err := takeAll(in, messages...); err == nil {
				t.Errorf("messages %v: got no error, want one", messages)
			}
			in.abandon()
			if id, revision := f.Position(); id != "log-1" || revision != 3 {
				t.Errorf("after messages that do not fit: the follower is at %q revision %d, want log-1 revision 3", id, revision)
			}
			if !denies(t, f, "alice") || denies(t, f, "bob") || denies(t, f, "carol") {
				t.Errorf("after messages that do not fit: alice denied %v, bob denied %v, carol denied %v; want true, false, false", denies(t, f, "alice"), denies(t, f, "bob"), denies(t, f, "carol"))
			}
		})
	}
}

func TestGreetingsThatDoNotFit(t *testing.T) {
	for name, change := range map[string]func(*feedpb.Greeting){
		"no log":             func(g *feedpb.Greeting) { g.LogId = "" },
		"another log":        func(g *feedpb.Greeting) { g.LogId = "log-2" },
		"an older revision":  func(g *feedpb.Greeting) { g.Revision = 2 },
		"no retention":       func(g *feedpb.Greeting) { g.Retention = nil },
		"endless retention":  func(g *feedpb.Greeting) { g.Retention = &durationpb.Duration{Seconds: math.MaxInt64} },
		"no heartbeat":       func(g *feedpb.Greeting) { g.Heartbeat = nil },
		"no heart":           func(g *feedpb.Greeting) { g.Heartbeat = durationpb.New(0) },
		"backwards":          func(g *feedpb.Greeting) { g.Heartbeat = durationpb.New(-time.Second) },
		"once an hour":       func(g *feedpb.Greeting) { g.Heartbeat = durationpb.New(time.Hour) },
		"no time":            func(g *feedpb.Greeting) { g.Time = nil },
		"a time out of time": func(g *feedpb.Greeting) { g.Time = &timestamppb.Timestamp{Nanos: -1} },
	} {
		g := newGreeting(100)
		change(g)
		f := holding(t)
		if _, err := (&inbound{follower: f}).greet(g); err == nil {
			t.Errorf("a greeting with %s: got no error, want one", name)
		}
		if id, revision := f.Position(); id != "log-1" || revision != 3 || !denies(t, f, "alice") {
			t.Errorf("after a greeting with %s: the follower is at %q revision %d, alice denied %v; want log-1 revision 3, true", name, id, revision, denies(t, f, "alice"))
		}
	}
	if _, err := (&inbound{follower: openFollower(t)}).greet(nil); err == nil {
		t.Error("no greeting: got no error, want one")
	}
}

func TestNothingBeforeASnapshot(t *testing.T) {
	for name, m := range map[string]*feedpb.ServerMessage{
		"changes": changed(add(1, "bob")), "heartbeat": beat(0, timestamppb.Now()),
	} {
		f := openFollower(t)
		if err := takeAll(receiving(t, f), m); err == nil {
			t.Errorf("%s before a snapshot: got no error, want one", name)
		}
		if f.Status().Ready {
			t.Errorf("%s before a snapshot: the follower is ready, want it not ready", name)
		}
	}
}

func TestRepeatsAndParts(t *testing.T) {
	f := holding(t)
	in := receiving(t, f)
	restored := &feedpb.Change{Revision: 6, Removed: add(4, "bob").Added}
	err := takeAll(in,
		changed(add(2, "mallory"), add(3, "mallory")), // held
		changed(add(4, "bob")), changed(add(4, "bob")),
		changed(more(add(5, "carol")), more(&feedpb.Change{Revision: 5}), &feedpb.Change{Revision: 5, Added: add(5, "dave").Added}),
		changed(add(4, "bob"), add(5, "carol"), restored, restored),
		changed(add(4, "bob")),
		beat(6, timestamppb.Now()),
	)
	if err != nil {
		t.Fatalf("revisions 4 to 6 in parts and repeats: got %v, want no error", err)
	}
	if _, revision := f.Position(); revision != 6 || in.at != 6 || !in.due {
		t.Errorf("after revisions 4 to 6: the follower is at revision %d, inbound at %d, an acknowledgement due: %v; want 6, 6, true", revision, in.at, in.due)
	}
	for sub, want := range map[string]bool{"alice": true, "bob": false, "carol": true, "dave": true, "mallory": false} {
		if denies(t, f, sub) != want {
			t.Errorf("after revisions 4 to 6: %s denied %v, want %v", sub, !want, want)
		}
	}
	// A whole snapshot of a later revision replaces the set.
	if err := takeAll(in, snapshotOf(9, "erin")...); err != nil {
		t.Fatalf("a snapshot of revision 9: got %v, want no error", err)
	}
	if _, revision := f.Position(); revision != 9 || denies(t, f, "alice") || !denies(t, f, "erin") {
		t.Errorf("after the snapshot of revision 9: at revision %d, alice denied %v, erin denied %v; want 9, false, true", revision, denies(t, f, "alice"), denies(t, f, "erin"))
	}
}

// TestHalfARevision shows that the entries which a revision adds are in force as
// its parts come. Until its last part the revision does not count, and the entries
// that the revision removes stay in force.
func TestHalfARevision(t *testing.T) {
	f := holding(t)
	in := receiving(t, f)
	half := []*feedpb.ServerMessage{changed(more(add(4, "bob")), more(&feedpb.Change{Revision: 4, Removed: add(3, "alice").Added}))}
	if err := takeAll(in, half...); err != nil {
		t.Fatalf("half of revision 4: got %v, want no error", err)
	}
	in.abandon()
	if _, revision := f.Position(); revision != 3 || !denies(t, f, "bob") || !denies(t, f, "alice") || in.due {
		t.Errorf("half of revision 4: at revision %d, bob denied %v, alice denied %v, an acknowledgement due: %v; want 3, true, true, false", revision, denies(t, f, "bob"), denies(t, f, "alice"), in.due)
	}
	if err := takeAll(receiving(t, f), changed(add(4, "bob", "carol"))); err != nil {
		t.Fatalf("all of revision 4: got %v, want no error", err)
	}
	if !denies(t, f, "bob") || !denies(t, f, "carol") {
		t.Errorf("after all of revision 4: bob denied %v, carol denied %v; want true, true", denies(t, f, "bob"), denies(t, f, "carol"))
	}
}

// FuzzInbound shows that no message makes the replica panic or leaves a set that is
// not whole. The revision never falls, and alice is denied until a proven snapshot
// lacks her.
func FuzzInbound(f *testing.F) {
	seed := func(messages ...*feedpb.ServerMessage) {
		var b []byte
		for _, m := range messages {
			one, err := proto.Marshal(m)
			if err != nil {
				f.Fatalf("encoding the seed %v: got %v, want no error", m, err)
			}
			b = binary.BigEndian.AppendUint16(b, uint16(len(one)))
			b = append(b, one...)
		}
		f.Add(b)
	}
	seed(changed(add(4, "bob")), beat(4, timestamppb.Now()))
	seed(snapshotOf(9, "erin", "frank")...)
	seed(changed(more(add(4, "bob")), add(4, "carol"), &feedpb.Change{Revision: 5, Removed: add(4, "bob").Added}))
	f.Fuzz(func(t *testing.T, b []byte) {
		follower := holding(t)
		in := receiving(t, follower)
		last, snapshots := uint64(3), false
		for len(b) >= 2 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			var m feedpb.ServerMessage
			err := proto.Unmarshal(b[2:2+n], &m)
			b = b[2+n:]
			if err != nil {
				continue
			}
			if err := takeAll(in, &m); err != nil {
				break
			}
			snapshots = snapshots || m.GetSnapshotEnd() != nil
			id, revision := follower.Position()
			if id != "log-1" || revision < last {
				t.Fatalf("after %v: the follower is at %q revision %d, want log-1 and at least revision %d", &m, id, revision, last)
			}
			last = revision
		}
		in.abandon()
		if _, revision := follower.Position(); revision < last {
			t.Fatalf("after abandon: the follower is at revision %d, want at least %d", revision, last)
		}
		removed := last > 3 // a change may have restored her
		if !snapshots && !removed && !denies(t, follower, "alice") {
			t.Fatalf("at revision %d without a snapshot: alice is allowed, want her denied", last)
		}
	})
}
