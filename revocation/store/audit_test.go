package store

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
)

// noteOf returns the text of note i, 4 KiB long.
func noteOf(i int) []byte {
	return append(fmt.Appendf(nil, "%06d ", i), bytes.Repeat([]byte{'x'}, 4<<10)...)
}

func (o *opened) addNotes(t *testing.T, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if _, err := o.Note(t.Context(), 0, noteOf(i)); err != nil {
			t.Fatalf("note %d: got %v, want no error", i, err)
		}
	}
}

// listed returns the numbers that the texts of all notes begin with, newest
// first.
func (o *opened) listed(t *testing.T) (out []string) {
	t.Helper()
	if err := o.Notes(t.Context(), 0, func(_ uint64, _ time.Time, body []byte) bool {
		number, _, _ := strings.Cut(string(body), " ")
		out = append(out, number)
		return true
	}); err != nil {
		t.Fatalf("listing the notes: got %v, want no error", err)
	}
	return out
}

func auditSize(t *testing.T, l *Log) uint64 {
	t.Helper()
	info, err := l.conn.audit.Info(t.Context())
	if err != nil {
		t.Fatalf("the size of the audit: got %v, want no error", err)
	}
	return info.State.Bytes
}

// The audit has a size in bytes. At the bound the oldest notes go, the newest
// stay, and the log opens again.
func TestAuditIsBoundedInBytes(t *testing.T) {
	const bound = 64 << 10
	o := Options{Dir: t.TempDir(), auditBytes: bound}
	l := mustOpen(t, o)
	l.addNotes(t, 0, 40)
	check := func(newest int) {
		t.Helper()
		if size := auditSize(t, l.Log); size > bound {
			t.Errorf("the audit has %d bytes, want at most %d", size, bound)
		}
		got := l.listed(t)
		if len(got) < 10 || len(got) >= 40 {
			t.Fatalf("the audit has %d notes of 4 KiB in %d bytes, want 10 or more, and not all 40: %v", len(got), bound, got)
		}
		for i, number := range got {
			if want := fmt.Sprintf("%06d", newest-i); number != want {
				t.Fatalf("note %d from the end is %s, want %s", i, number, want)
			}
		}
	}
	check(39)
	_ = l.Close()
	l = mustOpen(t, o)
	check(39)
	l.addNotes(t, 40, 43)
	check(42)
}

// An audit that was made without a size gets one when the log is opened.
func TestAuditOfTheFirstEditionGetsItsBound(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir, auditBytes: -1})
	l.addNotes(t, 0, 40)
	if got := l.listed(t); len(got) != 40 {
		t.Fatalf("without a bound the audit has %d notes, want 40", len(got))
	}
	_ = l.Close()
	l = mustOpen(t, Options{Dir: dir, auditBytes: 64 << 10})
	if size := auditSize(t, l.Log); size > 64<<10 {
		t.Errorf("the audit has %d bytes, want at most %d", size, 64<<10)
	}
	if got := l.listed(t); len(got) < 10 || got[0] != "000039" {
		t.Errorf("the newest notes are %v, want 000039 first and at least 10", got)
	}
}

// A note that goes while somebody lists the notes is the end of the list. It is
// not damage.
func TestNotesGoWhileTheyAreListed(t *testing.T) {
	l := mustOpen(t, Options{Dir: t.TempDir(), auditBytes: 64 << 10})
	l.addNotes(t, 0, 15)
	listed := 0
	err := l.Notes(t.Context(), 0, func(uint64, time.Time, []byte) bool {
		if listed++; listed == 3 {
			l.addNotes(t, 15, 40) // all 15 make room
		}
		return true
	})
	if err != nil || listed != 3 {
		t.Errorf("listed %d notes, %v; want 3 and no error", listed, err)
	}
	if _, err := l.Append(t.Context(), l.Last(), time.Now().Add(time.Hour), []byte("b")); err != nil {
		t.Errorf("an append after notes went: got %v, want no error", err)
	}
}
