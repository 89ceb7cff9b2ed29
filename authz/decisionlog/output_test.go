package decisionlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.opentelemetry.io/otel/trace"
)

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// scarce is a writer that fails once room is used up.
type scarce struct {
	bytes.Buffer
	room int
}

func (s *scarce) Write(p []byte) (int, error) {
	if len(p) > s.room {
		n, _ := s.Buffer.Write(p[:s.room])
		s.room = 0
		return n, errors.New("no space left")
	}
	s.room -= len(p)
	return s.Buffer.Write(p)
}

func TestTornLinesTearNoOthers(t *testing.T) {
	w := &scarce{room: 100}
	out := Lines(w, "a")
	r, d := denied()
	record := NewRecord(r, d, time.Now(), 0)
	for range 2 {
		if n, err := out.Write(t.Context(), []*Record{record}); n != 0 || err == nil {
			t.Errorf("a write without room: %d records, %v, want 0 and an error", n, err)
		}
	}
	w.room = 1 << 20
	if n, err := out.Write(t.Context(), []*Record{record, record}); n != 2 || err != nil {
		t.Errorf("a write with room: %d records, %v, want 2", n, err)
	}
	whole := 0
	for l := range strings.Lines(w.String()) {
		if json.Valid([]byte(l)) {
			whole++
		}
	}
	if whole != 2 {
		t.Errorf("%d whole lines, want 2, in %s", whole, w)
	}
}

func TestFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs", "decisions.log")
	file, err := OpenFile(path, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := started(t, Options{Rates: Rates{Denied: 1, MaxPerSecond: 100_000}, Output: Lines(file, "a"), Queue: 16})
	s := published(t)
	r, d := denied()
	d.Detail = strings.Repeat("x", 256)
	for l.droppedFor(queueFull)+testutil.ToFloat64(l.lines) < 6000 { // some 5 MB
		if len(l.queue) < cap(l.queue) {
			l.Record(r, d, time.Now(), 0, trace.SpanContext{})
		} else {
			runtime.Gosched()
		}
	}
	closed(t, l)
	files, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("files %v, %v, want 2", files, err)
	}
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil || info.Size() > 1<<20 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %d bytes, mode %v, %v, want at most 1 MiB and 0600", name, info.Size(), info.Mode(), err)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(first))
		if err != nil || s.Validate(value) != nil || !strings.HasSuffix(string(text), "}\n") {
			t.Errorf("%s begins with %s, want a line of the schema, and a whole line at the end", name, first)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	r, d := denied()
	b.ReportAllocs()
	for b.Loop() {
		NewRecord(r, d, time.Now(), time.Millisecond)
	}
}

func BenchmarkLine(b *testing.B) {
	r, d := denied()
	out := Lines(discard{}, "replica-a")
	records := []*Record{NewRecord(r, d, time.Now(), time.Millisecond)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := out.Write(b.Context(), records); err != nil {
			b.Fatal(err)
		}
	}
}
