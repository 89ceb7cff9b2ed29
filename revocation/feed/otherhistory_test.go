package feed

import (
	"strings"
	"testing"

	"rescind/revocation/replica"
	"rescind/test/eventually"
)

// A log that was restored from an older copy goes on under its old name, and grows
// beyond the revision of a replica. The replica has revocations that the log lacks,
// and lacks revocations that the log has. It must refuse the log, keep its set, and
// count as pending: a hello confirms nothing.
func TestRestoredLogUnderItsOldNameIsRefused(t *testing.T) {
	for _, c := range []struct {
		name          string
		after, copied uint64 // revisions of the log, and of the copy
		grows         int    // revisions that the copy gets
		refused       bool
	}{
		{"it is still older", 6, 3, 2, true},
		{"it has as many revisions", 6, 3, 3, true},
		{"it has more", 6, 3, 5, true},
		{"only the last revision is another one", 6, 5, 1, true},
		{"the copy has all that the replica has", 6, 6, 2, false},
	} {
		for _, kept := range []bool{false, true} { // the replica begins anew, from its disk
			name := c.name
			if kept {
				name += ", after a start from disk"
			}
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				open := func() *replica.Follower {
					f, err := replica.Open(replica.Options{Dir: dir})
					if err != nil {
						t.Fatal(err)
					}
					return f
				}
				log := newLog("log")
				log.revoke("of the copy")
				f := open()
				defer func() { _ = f.Close() }()
				s := serve(t, log, ServerOptions{})
				stop := following(t, f, options(s.addr))
				eventually.True(t, "the replica follows", at(f, 1))
				for log.Revision() < c.after {
					log.revoke("of the log")
				}
				eventually.True(t, "the replica is up to date", at(f, c.after))
				stop()
				s.stop()
				if kept {
					if err := f.Close(); err != nil {
						t.Fatal(err)
					}
					f = open()
				}

				other := log.restored(c.copied)
				for range c.grows {
					other.revoke("of the restored log")
				}
				s = serve(t, other, ServerOptions{})
				following(t, f, options(s.addr))
				head := other.Revision()
				if !c.refused {
					eventually.True(t, "the replica follows the copy", func() bool { return len(s.Replicas()) == 1 })
					everywhere(t, s.Server, head, 1)
					return
				}
				eventually.True(t, "the replica says that it refuses the log", func() bool {
					why := f.Status().Refused
					return strings.Contains(why, replica.ErrOtherHistory.Error()) || strings.Contains(why, replica.ErrOlderRevision.Error())
				})
				eventually.True(t, "the control endpoint knows the replica", func() bool { return len(s.Replicas()) == 1 })
				for revision := uint64(1); revision <= head; revision++ {
					w := s.replicas.wait(Wanted{Revision: revision})
					if a := s.replicas.giveUp(w); a.Applied != 0 || len(a.Pending) != 1 {
						t.Errorf("revision %d of the restored log: got %+v, want the replica pending", revision, a)
					}
				}
				if _, revision := f.Position(); revision != c.after || !denies(t, f, "of the log") {
					t.Errorf("the replica is at revision %d, and denies a token that only the lost log revoked: %v; want %d, true", revision, denies(t, f, "of the log"), c.after)
				}
			})
		}
	}
}

// A replica whose set cannot be used, for example after an upgrade of the matching
// rules, still knows the revision that it had. It does not load the set of a restored
// log.
func TestRestoredLogIsNotLoadedInThePlaceOfAnUnusableSet(t *testing.T) {
	log := newLog("log")
	for range 4 {
		log.revoke("of the log")
	}
	other := log.restored(2)
	for range 4 {
		other.revoke("of the restored log")
	}
	s := serve(t, other, ServerOptions{})
	h := newHello("replica-a", "", 0)
	h.Marked, h.Mark = 4, log.Mark(4)
	if got, want := call(t, s.addr, h).receive().GetGreeting().GetMark(), other.Mark(4); got != want || got == h.Mark {
		t.Errorf("the greeting has mark %d of revision 4, want %d, which is not the replica's %d", got, want, h.Mark)
	}
}
