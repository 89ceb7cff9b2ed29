package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"rescind/revocation"
	"rescind/revocation/ledger/ledgertest"
	"rescind/test/eventually"
)

const (
	issuerA   = "https://a.example/"
	issuerB   = "https://b.example/"
	retention = 720 * time.Hour
)

// run starts a ledger and returns it with a function that stops it.
func run(t testing.TB, log Log, now func() time.Time, changes ...func(*Ledger)) (*Ledger, func()) {
	t.Helper()
	l := New(log, Options{Retention: retention, Now: now})
	for _, change := range changes {
		change(l)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	eventually.Succeeds(t, "the ledger becomes ready", l.Ready)
	return l, func() { cancel(); <-done }
}

// parts returns the members of an outcome that most tests look at.
func (o outcome) parts() (revision uint64, ids []revocation.ID, fresh int, err error) {
	return o.revision, o.ids, o.fresh, o.err
}

// made returns the revocation that a request asks for, as by accepts it now.
func made(t testing.TB, by, claims string) revocation.Revocation {
	t.Helper()
	r, faults := revocation.ParseRequest(fmt.Appendf(nil, `{"issuer":%q,"claims":%s}`, issuerA, claims))
	if faults != nil {
		t.Fatalf("ParseRequest of claims %s: got %v, want no fault", claims, faults)
	}
	rev, faults := r.Accept(time.Now(), retention, by)
	if faults != nil {
		t.Fatalf("Accept of claims %s: got %v, want no fault", claims, faults)
	}
	return rev
}

// batchOf returns a batch of the log with these revocations.
func batchOf(writer string, all ...revocation.Revocation) []byte {
	ops := make([]operation, len(all))
	for i := range all {
		ops[i].packed = pack(&all[i])
	}
	return packBatch(writer, ops)
}

// A node may be asked about a revocation that another node accepted a moment
// ago.
func TestCatchUpWaitsForAnotherNode(t *testing.T) {
	log := ledgertest.New()
	l, stop := run(t, log, nil)
	defer stop()
	log.Late = [][]byte{batchOf("other", made(t, "elsewhere", `{"jti":"x"}`))}
	time.AfterFunc(50*time.Millisecond, func() {
		log.Lock()
		defer log.Unlock()
		log.Add(log.Late[0])
		log.Late = nil
	})
	if err := l.CatchUp(t.Context(), 2); err != nil || l.Revision() != 2 {
		t.Errorf("CatchUp(2) = %v at revision %d, want nil at revision 2", err, l.Revision())
	}
	if err := l.CatchUp(t.Context(), 99); err != nil {
		t.Errorf("CatchUp(99), which no node has given = %v, want nil", err)
	}
	log.FailHead = errors.New("there is no majority")
	if err := l.CatchUp(t.Context(), 99); !errors.Is(err, ErrNotReady) {
		t.Errorf("CatchUp(99) without a majority = %v, want %v", err, ErrNotReady)
	}
	if err := l.CatchUp(t.Context(), 2); err != nil {
		t.Errorf("CatchUp(2) without a majority = %v, want nil: revision 2 is here", err)
	}
}

// The age of a ledger counts from the last time at which it was certain, and
// read, that nothing was beyond its revision.
func TestAge(t *testing.T) {
	log := ledgertest.New()
	l, stop := run(t, log, nil)
	defer stop()
	if age := l.Age(); age < 1000*time.Hour {
		t.Errorf("age before the nodes agreed = %v, want more than 1000h", age)
	}
	agree := func(ago time.Duration, late ...[]byte) {
		log.Lock()
		defer log.Unlock()
		log.LastAgreed, log.Late = time.Now().Add(-ago), late
	}
	between := func(when string, least, most time.Duration) {
		t.Helper()
		if age := l.Age(); age < least || age > most {
			t.Errorf("%s: age %v, want %v to %v", when, age, least, most)
		}
	}
	agree(time.Hour)
	between("agreed an hour ago", time.Hour, time.Hour+time.Minute)
	agree(0, []byte("not read yet"))
	between("agreed now, with a batch that is not read", time.Hour, time.Hour+time.Minute)
	agree(0)
	between("agreed now", 0, time.Minute)
	agree(time.Hour)
	between("told of an earlier agreement", 0, time.Minute)
}

// Another node appends the same first. The request is decided again and finds
// the revocation of that node.
func TestAnotherNodeAppendsFirst(t *testing.T) {
	log := ledgertest.New()
	l, stop := run(t, log, nil)
	defer stop()
	once := true
	log.FailAppend = func() error {
		if once {
			once = false
			log.Add(batchOf("other", made(t, "elsewhere", `{"jti":"x"}`)))
		}
		return nil
	}
	mine := made(t, "here", `{"jti":"x"}`)
	revision, ids, fresh, err := l.revoke(t.Context(), []Candidate{newCandidate(mine, revocation.MicrosOf(time.Now()))}, false, AuditEntry{}).parts()
	if err != nil || revision != 2 || fresh != 0 || ids[0] != (revocation.ID{Revision: 2}) {
		t.Errorf("Revoke = revision %d, %v, %d new, %v; want revision 2, [r2.0], 0 new", revision, ids, fresh, err)
	}
	if item, err := l.Find(ids[0]); err != nil || item.CreatedBy != "elsewhere" {
		t.Errorf("Find(%v) = %+v, %v; want the revocation that elsewhere made", ids[0], item, err)
	}
}

// A batch of this writer without a note gets its note when the log is read
// again. A batch that has a note does not get a second one.
func TestCrashBeforeTheNote(t *testing.T) {
	log := ledgertest.New()
	l, stop := run(t, log, nil)
	noted := made(t, "revoker", `{"jti":"noted"}`)
	if _, _, _, err := l.revoke(t.Context(), []Candidate{newCandidate(noted, 0)}, false, AuditEntry{By: "revoker"}).parts(); err != nil {
		t.Fatal(err)
	}
	stop()
	unnoted := made(t, "victim", `{"jti":"unnoted"}`)
	log.Lock()
	log.Add(batchOf("test", unnoted))
	log.Add(batchOf("other", unnoted))
	log.Unlock()
	for range 2 {
		l, stop := run(t, log, nil)
		var got []string
		eventually.True(t, "two entries of the audit are there", func() bool {
			got = nil
			if err := l.Audit(t.Context(), AuditCursor{}, time.Time{}, func(_ AuditCursor, e AuditEntry) bool {
				got = append(got, e.By+" "+e.ID+" "+e.Outcome)
				return true
			}); err != nil {
				t.Fatal(err)
			}
			return len(got) >= 2
		})
		if want := []string{"victim r3.0 accepted", "revoker r2.0 accepted"}; !slices.Equal(got, want) {
			t.Errorf("audit %q, want %q", got, want)
		}
		stop()
	}
}

// TestTheClockSetBack sets the clock back. An expired revocation stays gone.
func TestTheClockSetBack(t *testing.T) {
	clock := ledgertest.NewClock()
	l, stop := run(t, ledgertest.New(), clock.Now)
	defer stop()
	r := revocation.Request{Issuer: issuerA, All: true, ExpiresAt: clock.Now().Add(time.Minute)}
	rev, faults := r.Accept(clock.Now(), retention, "x")
	if faults != nil {
		t.Fatalf("Accept of %+v: got %v, want no fault", r, faults)
	}
	_, ids, _, err := l.revoke(t.Context(), []Candidate{newCandidate(rev, rev.ExpiresAt)}, false, AuditEntry{}).parts()
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(2 * time.Minute)
	l.dropExpired()
	clock.Advance(-time.Hour)
	if _, err := l.Find(ids[0]); !errors.Is(err, ErrUnknown) {
		t.Errorf("Find of %s, expired, after the clock was set back: got %v, want %v", ids[0], err, ErrUnknown)
	}
}

// FuzzBatch reads hostile batches. Reading ends in order and loses no operation.
func FuzzBatch(f *testing.F) {
	r, _ := revocation.ParseRequest([]byte(`{"issuer":"https://a.example/","claims":{"sub":"a","n":1.5,"b":true}}`))
	rev, _ := r.Accept(time.Now(), retention, "x")
	f.Add(packBatch("w", []operation{{packed: pack(&rev)}, {restore: restoration{ID: revocation.ID{Revision: 3}, By: "y"}}}))
	f.Add([]byte{1, 1, 'w', 200})
	f.Fuzz(func(t *testing.T, b []byte) {
		writer, ops, err := readBatch(b, 7, newInterner())
		if err != nil {
			return
		}
		if _, again, err := readBatch(packBatch(writer, ops), 7, newInterner()); err != nil || len(again) != len(ops) {
			t.Errorf("the batch %x: got %d operations and error %v after writing it again, want %d", b, len(again), err, len(ops))
		}
	})
}
