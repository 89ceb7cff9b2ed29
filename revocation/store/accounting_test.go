package store

import (
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// counted is a message of the log, as a reader meets it.
type counted struct {
	revision uint64
	hour     uint32
	frame    frame
}

// readAll returns the accounting of a reader that begins with nothing, and
// whether the last message agrees with it.
func readAll(messages []counted) (a accounting, agreed bool) {
	a.hours = map[uint32]uint64{}
	for _, m := range messages {
		agreed = a.count(m.revision, m.hour, &m.frame)
	}
	return a, agreed
}

// TestAccountingFindsEachLostMessage appends, gives hours up and purges, in any
// order. A reader of the whole log agrees with its last message. A reader from
// whom any messages are hidden that were not given up disagrees.
func TestAccountingFindsEachLostMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		writer := accounting{hours: map[uint32]uint64{}}
		var log []counted
		write := func(hour uint32, f frame) {
			revision := writer.revision + 1
			if !writer.count(revision, hour, &f) {
				t.Fatalf("revision %d: got that the writer disagrees with its own count, want it to agree", revision)
			}
			log = append(log, counted{revision, hour, f})
		}
		write(1, frame{})
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1, 2:
				note := writer.lastNote + rapid.Uint64Range(0, 2).Draw(t, "notes")
				write(writer.givenUp+rapid.Uint32Range(1, 5).Draw(t, "hour"), frame{givenUp: writer.givenUp, before: writer.remaining, noted: note})
			case 3:
				passed := writer.givenUp + rapid.Uint32Range(1, 3).Draw(t, "passed")
				f := frame{givenUp: passed, noted: writer.lastNote}
				open := false
				for _, m := range log {
					if m.hour > passed {
						f.before++
					}
					open = open || m.hour > writer.givenUp && m.hour <= passed
				}
				if open != writer.hasPassed(passed) {
					t.Fatalf("hours up to %d: got that some may be given up: %v, want %v", passed, !open, open)
				}
				if open {
					write(passed+1, f)
				}
			case 4:
				gone := writer.purgeable()
				log = slices.DeleteFunc(log, func(m counted) bool { return slices.Contains(gone, m.hour) })
				for _, hour := range gone {
					delete(writer.hours, hour)
				}
			}
		}
		got, agreed := readAll(log)
		if !agreed || got.revision != writer.revision || got.givenUp != writer.givenUp || got.remaining != writer.remaining || got.lastNote != writer.lastNote || !maps.Equal(got.hours, writer.hours) {
			t.Fatalf("reading the whole log: got %+v, agreed %v, want %+v", got, agreed, writer)
		}
		lost := 0
		damaged := slices.DeleteFunc(slices.Clone(log[:len(log)-1]), func(m counted) bool {
			hidden := m.hour > writer.givenUp && rapid.Bool().Draw(t, "hidden")
			if hidden {
				lost++
			}
			return hidden
		})
		if _, agreed := readAll(append(damaged, log[len(log)-1])); agreed != (lost == 0) {
			t.Fatalf("reading a log that lost %d messages: got agreed %v, want %v", lost, agreed, lost == 0)
		}
	})
}

// TestReaderChecksEachMessage gives a reader messages with wrong counts, before
// and after it has verified the log.
func TestReaderChecksEachMessage(t *testing.T) {
	for _, c := range []struct {
		name           string
		verified       bool
		head, revision uint64
		before         uint64
		want           error
		delivered      int
	}{
		{"the last message, which agrees", false, 5, 5, 3, nil, 1},
		{"the last message, which disagrees", false, 5, 5, 4, ErrDamaged, 0},
		{"a message before the last, after which more may be given up", false, 9, 5, 4, nil, 1},
		{"a message beyond the last, which disagrees", false, 4, 5, 4, ErrDamaged, 0},
		{"a later message, which agrees", true, 4, 5, 3, nil, 1},
		{"a later message, which disagrees", true, 4, 5, 2, ErrDamaged, 0},
		{"a message that was delivered before", true, 4, 4, 9, nil, 0},
	} {
		delivered := 0
		l := &Log{id: "log", accounting: accounting{revision: 4, givenUp: 6, hours: map[uint32]uint64{7: 3}, remaining: 3, verified: c.verified}}
		r := &reader{Log: l, next: 5, head: c.head, deliver: func(uint64, []byte) error { delivered++; return nil }, caughtUp: func() {}}
		l.conn = &connection{audit: streamOf{err: errors.New("the test has no audit")}}
		l.stop = t.Context()
		f := frame{givenUp: 6, before: c.before, body: []byte("b")}
		err := r.take(c.revision, hourSubject(7), f.encode(l.id, c.revision))
		if c.want != nil && !errors.Is(err, c.want) || c.want == nil && errors.Is(err, ErrDamaged) || delivered != c.delivered {
			t.Errorf("%s: got %v and %d deliveries, want %v and %d", c.name, err, delivered, c.want, c.delivered)
		}
	}
}

// TestABatchOfAGivenUpHour appends a batch that is over already, after its hour was
// given up. It is the end of the log, which must stay until another one follows.
func TestABatchOfAGivenUpHour(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	later := time.Now().Add(100 * time.Hour)
	l.add(t, time.Hour, "a")
	for range 2 {
		if err := l.Expire(t.Context(), later); err != nil {
			t.Fatalf("Expire: got %v, want no error", err)
		}
		l.head = l.Last()
		l.add(t, time.Hour, "late")
	}
	if err := l.Expire(t.Context(), later); err != nil {
		t.Fatalf("Expire: got %v, want no error", err)
	}
	_ = l.Close()
	l = mustOpen(t, Options{Dir: dir})
	if want := []string{"4:late", "5:late"}; !slices.Equal(l.got, want) {
		t.Errorf("after a restart: got %q, want %q", l.got, want)
	}
}

// TestABatchNamesTheLastNote reads, after a restart, the note that a batch names.
// Without it an audit that lost its end would not be found out.
func TestABatchNamesTheLastNote(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	l.add(t, time.Hour, "before note 1")
	l.add(t, time.Hour, "before note 2")  // names note 1
	for _, want := range []uint64{1, 3} { // the revision that gives all up names note 3
		_ = l.Close()
		l = mustOpen(t, Options{Dir: dir})
		l.mu.Lock()
		got := l.accounting.lastNote
		l.mu.Unlock()
		if got != want {
			t.Errorf("after a restart: got that revision %d and those before it name note %d, want %d", l.head, got, want)
		}
		if want == 1 {
			l.addNotes(t, 3, 4)
			if err := l.Expire(t.Context(), time.Now().Add(100*time.Hour)); err != nil {
				t.Fatalf("Expire: got %v, want no error", err)
			}
		}
	}
}

// TestTheLastRoomIsForAcceptedBatches notes while there is no room for the
// ballast. A note about accepted batches is taken, another one and an append are
// not. With room the log takes all of them.
func TestTheLastRoomIsForAcceptedBatches(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	ballast := filepath.Join(dir, ballastName)
	remove(t, ballast)
	write(t, filepath.Join(ballast, "in the way"), "x")
	l.restoreBallast()
	if number, err := l.Note(t.Context(), 0, []byte("refused")); number != 0 || !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "is full") {
		t.Errorf("a note about nothing accepted: got number %d, %v, want %v and its reason", number, err, ErrUnavailable)
	}
	if rev, err := l.Append(t.Context(), l.head, time.Now().Add(time.Hour), []byte("b")); rev != 0 || !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "is full") {
		t.Errorf("an append: got revision %d, %v, want %v and its reason", rev, err, ErrUnavailable)
	}
	if number, err := l.Note(t.Context(), 1, []byte("accepted")); number != 1 || err != nil {
		t.Errorf("a note about an accepted batch: got number %d, %v, want 1", number, err)
	}
	remove(t, ballast)
	l.restoreBallast()
	if err := l.Err(); err != nil {
		t.Errorf("with room again: got %v, want that the log takes writes", err)
	}
	l.add(t, time.Hour, "b")
}
