package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// opened is a log that has been read to its end.
type opened struct {
	*Log
	got  []string // "revision:body", bodies only
	head uint64
}

func open(t testing.TB, o Options) (*opened, error) {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	l, err := Open(t.Context(), o)
	if err != nil {
		return nil, err
	}
	return read(t, l)
}

func read(t testing.TB, l *Log) (*opened, error) {
	t.Helper()
	op := &opened{Log: l}
	whole, failed := make(chan struct{}), make(chan error, 1)
	caughtUp := false
	go func() {
		failed <- l.Read(context.Background(), 0, func(rev uint64, body []byte) error {
			if !caughtUp {
				if body != nil {
					op.got = append(op.got, fmt.Sprintf("%d:%s", rev, body))
				}
				op.head = rev
			}
			return nil
		}, func() { caughtUp = true; close(whole) })
	}()
	t.Cleanup(func() { _ = l.Close() })
	select {
	case <-whole:
		return op, nil
	case err := <-failed:
		_ = l.Close()
		return nil, err
	case <-time.After(20 * time.Second):
		t.Fatal("opening the log: got no end of it within 20 s, want the whole log")
		return nil, nil
	}
}

func mustOpen(t testing.TB, o Options) *opened {
	t.Helper()
	l, err := open(t, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (o *opened) add(t testing.TB, lasts time.Duration, body string) uint64 {
	t.Helper()
	rev, err := o.Append(t.Context(), o.head, time.Now().Add(lasts), []byte(body))
	if err != nil || rev != o.head+1 {
		t.Fatalf("Append after %d: got %d, %v, want %d", o.head, rev, err, o.head+1)
	}
	if _, err := o.Note(t.Context(), rev, []byte("note of "+body)); err != nil {
		t.Fatal(err)
	}
	o.head = rev
	return rev
}

func TestAppendedBatchesSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	id := l.ID()
	for i := range 5 {
		l.add(t, time.Hour, fmt.Sprint("b", i))
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, Options{Dir: dir})
	if got, want := strings.Join(l.got, " "), "2:b0 3:b1 4:b2 5:b3 6:b4"; got != want {
		t.Errorf("after a restart: got %q, want %q", got, want)
	}
	if l.ID() != id {
		t.Errorf("after a restart: got the log %s, want %s", l.ID(), id)
	}
	if n, err := l.Noted(t.Context()); n != 6 || err != nil {
		t.Errorf("Noted = %d, %v, want 6", n, err)
	}
	var notes []string
	if err := l.Notes(t.Context(), 0, func(_ uint64, _ time.Time, b []byte) bool { notes = append(notes, string(b)); return len(notes) < 2 }); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(notes, ", "), "note of b4, note of b3"; got != want {
		t.Errorf("notes %q, want %q", got, want)
	}
}

func TestAppendFollowsTheLastRevisionOnly(t *testing.T) {
	l := mustOpen(t, Options{Dir: t.TempDir()})
	l.add(t, time.Hour, "one")
	for _, after := range []uint64{0, 1, 3} {
		if rev, err := l.Append(t.Context(), after, time.Now(), []byte("two")); rev != 0 || err != nil {
			t.Errorf("Append after %d = %d, %v, want no revision and no error", after, rev, err)
		}
	}
}

func TestADirectoryIsOpenOnce(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, Options{Dir: dir})
	if _, err := Open(t.Context(), Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second Open: got %v, want an error that says in use by another process", err)
	}
}

func TestExpiredHoursAreGivenUpAndPurged(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	for i := range 20 {
		l.add(t, time.Duration(i%4)*time.Hour, fmt.Sprint("b", i))
	}
	now := time.Now().Add(2*time.Hour + margin)
	if err := l.Expire(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	if err := l.Expire(t.Context(), now); err != nil {
		t.Fatal(err)
	}
	l.head++ // one message gave the hours up, the second call found nothing
	l.add(t, 24*time.Hour, "last")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = mustOpen(t, Options{Dir: dir})
	if l.head != 23 {
		t.Errorf("head %d, want 23", l.head)
	}
	// b0 b4 b8 … are gone for certain; those of hour 3 are there for certain.
	got := strings.Join(l.got, " ")
	for i := range 20 {
		has := strings.Contains(got+" ", fmt.Sprintf(":b%d ", i))
		if i%4 == 0 && has || i%4 == 3 && !has {
			t.Errorf("b%d of hour %d: got it there: %v, want: %v; read %s", i, i%4, has, i%4 == 3, got)
		}
	}
}

// Everything expires and the log stands idle: it still knows itself whole.
func TestALogOfWhichAllExpiredOpens(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, Options{Dir: dir})
	l.add(t, time.Minute, "b")
	if err := l.Expire(t.Context(), time.Now().Add(100*time.Hour)); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	l = mustOpen(t, Options{Dir: dir})
	if l.head != 3 || len(l.got) != 0 {
		t.Errorf("a log that has expired: got head %d and batches %q, want 3 and none", l.head, l.got)
	}
	l.add(t, 200*time.Hour, "c")
}

func TestRefusedDirectories(t *testing.T) {
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   string
	}{
		{"foreign files", func(t *testing.T, dir string) {
			remove(t, dir)
			write(t, filepath.Join(dir, "holiday.jpg"), "x")
		}, `is not ours: it has "holiday.jpg"`},
		{"marker gone", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, markerName)) }, "is not ours"},
		{"marker garbled", func(t *testing.T, dir string) { write(t, filepath.Join(dir, markerName), "{") }, "cannot be read"},
		{"of a later version", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, markerName), `{"format":9,"log":"x","made":true}`)
		}, "has format 9"},
		{"data gone", func(t *testing.T, dir string) { remove(t, filepath.Join(dir, dataName)) }, "it has no rescind_log"},
		{"log gone", func(t *testing.T, dir string) { remove(t, stream(t, dir, batchStream)) }, "it has no rescind_log"},
		{"audit gone", func(t *testing.T, dir string) { remove(t, stream(t, dir, auditStream)) }, "it has no rescind_audit"},
		{"data of another log", func(t *testing.T, dir string) {
			other := t.TempDir()
			l := mustOpen(t, Options{Dir: other})
			_ = l.Close()
			remove(t, filepath.Join(dir, dataName))
			if err := os.CopyFS(filepath.Join(dir, dataName), os.DirFS(filepath.Join(other, dataName))); err != nil {
				t.Fatal(err)
			}
		}, "it has log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			l := mustOpen(t, Options{Dir: dir})
			l.add(t, time.Hour, "b")
			_ = l.Close()
			tt.damage(t, dir)
			l, err := open(t, Options{Dir: dir})
			if err == nil {
				t.Fatalf("got it opened with %q, want an error that says %q", l.got, tt.want)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got the error %q, want one that says %q", err, tt.want)
			}
		})
	}
}

// After any damage to the files of the log, either all that was acknowledged is
// read back, or the log is refused.
func TestDamageIsNeverPaperedOver(t *testing.T) {
	const n = 40
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string)
	}{
		{"block cut by a byte", func(t *testing.T, dir string) { cut(t, stream(t, dir, batchStream), 1) }},
		{"block cut by half", func(t *testing.T, dir string) { cut(t, stream(t, dir, batchStream), -1) }},
		{"block gone", func(t *testing.T, dir string) { remove(t, blocks(t, stream(t, dir, batchStream))[0]) }},
		{"block empty", func(t *testing.T, dir string) { write(t, blocks(t, stream(t, dir, batchStream))[0], "") }},
		{"block garbled at the start", func(t *testing.T, dir string) { garble(t, stream(t, dir, batchStream), 40) }},
		{"block garbled in the middle", func(t *testing.T, dir string) { garble(t, stream(t, dir, batchStream), 2000) }},
		{"block garbled at the end", func(t *testing.T, dir string) { garble(t, stream(t, dir, batchStream), -20) }},
		{"audit cut by half", func(t *testing.T, dir string) { cut(t, stream(t, dir, auditStream), -1) }},
		{"audit garbled", func(t *testing.T, dir string) { garble(t, stream(t, dir, auditStream), 1000) }},
	}
	for _, tt := range tests {
		for _, index := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, index kept %v", tt.name, index), func(t *testing.T) {
				dir := t.TempDir()
				l := mustOpen(t, Options{Dir: dir})
				for i := range n {
					l.add(t, time.Duration(i%3)*time.Hour, fmt.Sprintf("batch %d %s", i, strings.Repeat("x", 50)))
				}
				_ = l.Close()
				tt.damage(t, dir)
				if !index {
					for _, s := range []string{batchStream, auditStream} {
						remove(t, filepath.Join(stream(t, dir, s), "msgs", "index.db"))
					}
				}
				l, err := open(t, Options{Dir: dir})
				if err != nil {
					if !errors.Is(err, ErrDamaged) {
						t.Errorf("got the refusal %v, want %v", err, ErrDamaged)
					}
					t.Log(err)
					return
				}
				if len(l.got) != n {
					t.Errorf("got it opened with %d batches, want %d or a refusal", len(l.got), n)
				}
			})
		}
	}
}

// Last is the last revision known to the log.
func (o *opened) Last() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.accounting.revision
}

func stream(t *testing.T, dir, name string) string {
	t.Helper()
	return filepath.Join(dir, dataName, "jetstream", "$G", "streams", name)
}

func blocks(t *testing.T, stream string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(stream, "msgs", "*.blk"))
	if err != nil || len(found) == 0 {
		t.Fatalf("blocks of %s: got %v, %v, want at least one", stream, found, err)
	}
	return found
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func cut(t *testing.T, stream string, by int64) {
	t.Helper()
	path := blocks(t, stream)[0]
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if by < 0 {
		by = fi.Size() / 2
	}
	if err := os.Truncate(path, fi.Size()-by); err != nil {
		t.Fatal(err)
	}
}

func garble(t *testing.T, stream string, at int) {
	t.Helper()
	path := blocks(t, stream)[0]
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += len(b)
	}
	for i := range 8 {
		b[at+i] ^= 0xa5
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// A log that was restored from a backup goes by another name once an operator
// has said so, and the word is remembered.
func TestAcceptIsRemembered(t *testing.T) {
	o := Options{Dir: t.TempDir()}
	l, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	id := l.ID()
	if l.Replaces() != nil {
		t.Errorf("a new log: got that it replaces %q, want none", l.Replaces())
	}
	_ = l.Close()
	for _, step := range []struct {
		accept, id string
		replaces   []string
	}{
		{"elsewhere", id, []string{"elsewhere"}},
		{"", id, []string{"elsewhere"}},
		{id, id + ".1", []string{"elsewhere", id}},
		{id, id + ".1", []string{"elsewhere", id}},
		{"", id + ".1", []string{"elsewhere", id}},
		{id + ".1", id + ".2", []string{"elsewhere", id, id + ".1"}},
	} {
		o.Accept = step.accept
		l, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if l.ID() != step.id || !slices.Equal(l.Replaces(), step.replaces) {
			t.Errorf("after accepting %q: log %s replaces %q, want %s and %q", step.accept, l.ID(), l.Replaces(), step.id, step.replaces)
		}
		if err := l.Close(); err != nil {
			t.Errorf("closing after accepting %q: got %v, want no error", step.accept, err)
		}
	}
}
