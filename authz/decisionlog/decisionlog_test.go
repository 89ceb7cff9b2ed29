package decisionlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"rescind/authz"
	"rescind/revocation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	jwt    = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
)

// published is the schema as others will read it.
func published(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("line", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("line")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// line is the one line that r makes, checked against the schema.
func line(t testing.TB, s *jsonschema.Schema, r *Record) (text string, members map[string]any) {
	t.Helper()
	text = string(appendLine(nil, r, "replica-a"))
	if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") {
		t.Fatalf("not one line: %q", text)
	}
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if err := s.Validate(value); err != nil {
		t.Errorf("%v\n%s", err, text)
	}
	if err := json.Unmarshal([]byte(text), &members); err != nil {
		t.Fatal(err)
	}
	return text, members
}

func denied() (*authz.Request, *authz.Decision) {
	return &authz.Request{
			Headers: []authz.Header{
				{Name: ":method", Value: "POST"}, {Name: ":path", Value: "/secret?access_token=" + jwt}, {Name: "Authorization", Value: "Bearer " + jwt},
				{Name: "X-Request-Id", Value: "r-1"}, {Name: "traceparent", Value: parent},
			},
			Source: netip.MustParseAddr("203.0.113.77"),
		}, &authz.Decision{
			Reason: authz.Revoked, ID: "D1", Policy: "default", Issuer: "https://idp.example/", Subject: "alice", TokenID: "t1",
			Facts:    &authz.Facts{KeyID: "k", Session: "s1", Client: "phone"},
			Revision: 17, RevocationID: revocation.ID{}, Stale: true,
		}
}

func TestLine(t *testing.T) {
	s := published(t)
	r, d := denied()
	record := NewRecord(r, d, time.Date(2026, 11, 24, 7, 0, 0, 123456789, time.UTC), 30*time.Microsecond)
	record.Trace, record.Rate = Parent(r.Headers), 1
	text, got := line(t, s, record)
	for name, want := range map[string]any{
		"timestamp": "2026-11-24T07:00:00.123456Z", "event.name": "rescind.decision", "severity_text": "WARN",
		"service.name": "rescind-authz", "service.instance.id": "replica-a",
		"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331",
		"rescind.decision.id": "D1", "rescind.decision.outcome": "deny", "rescind.decision.reason": "revoked",
		"rescind.decision.duration": 3e-05, "rescind.decision.sample_rate": 1.0, "rescind.policy": "default",
		"rescind.token.issuer": "https://idp.example/", "rescind.token.id": "t1", "rescind.token.key_id": "k", "rescind.token.client_id": "phone",
		"user.id": "alice", "session.id": "s1", "client.address": "203.0.113.0/24", "http.request.method": "POST", "http.response.status_code": 401.0,
		"rescind.revocations.revision": 17.0, "rescind.revocations.stale": true, "rescind.revocations.id": revocation.ID{}.String(),
	} {
		if got[name] != want {
			t.Errorf("%s: %v, want %v", name, got[name], want)
		}
		delete(got, name)
	}
	if id, _ := got["http.request.header.x-request-id"].([]any); len(id) != 1 || id[0] != "r-1" || len(got) != 1 {
		t.Errorf("and %v", got)
	}
	if strings.Contains(text, "secret") || strings.Contains(text, "eyJ") {
		t.Errorf("it has what it must not have: %s", text)
	}
}

func TestLineOfAnythingFitsTheSchema(t *testing.T) {
	s := published(t)
	for _, reason := range authz.Reasons() {
		allow := reason == authz.OK || reason == authz.NoTokenAllowed
		_, got := line(t, s, &Record{Rate: .5, reason: reason, allow: allow, id: "x"})
		if got["rescind.decision.reason"] != string(reason) {
			t.Errorf("%v", got)
		}
		d := authz.Decision{ID: "x", Reason: reason, Allow: allow, Facts: &authz.Facts{Hash: [32]byte{0xab, 0xcd}}, WouldDeny: authz.TooOld}
		r := NewRecord(&authz.Request{Source: netip.MustParseAddr("2001:db8:1:2::3")}, &d, time.Now(), time.Second)
		r.Rate = 1
		_, got = line(t, s, r)
		if got["rescind.token.id"] != "sha256:abcd000000000000" || got["client.address"] != "2001:db8:1::/48" || got["rescind.decision.would_deny"] != "too_old" {
			t.Errorf("%v", got)
		}
		if status, there := got["http.response.status_code"]; there == allow {
			t.Errorf("%s: status %v", reason, status)
		}
	}
	d := authz.Decision{ID: "x", Reason: authz.Internal} // a request that could not be read
	r := NewRecord(nil, &d, time.Now(), 0)
	r.Rate = 1
	if _, got := line(t, s, r); got["severity_text"] != "ERROR" {
		t.Errorf("%v", got)
	}
}

// hostile is a decision that is made of text wherever it can be.
func hostile(text string) *Record {
	r := &authz.Request{Headers: []authz.Header{
		{Name: ":method", Value: text}, {Name: "x-request-id", Value: text}, {Name: "traceparent", Value: text}, {Name: text, Value: text},
	}, Source: netip.MustParseAddr("10.0.0.1")}
	d := &authz.Decision{
		ID: "x", Reason: authz.Revoked, Policy: text, Detail: text, Subject: text, TokenID: text,
		Facts: &authz.Facts{KeyID: text, Session: text, Client: text},
	}
	record := NewRecord(r, d, time.Now(), time.Millisecond)
	record.Rate, record.Trace = 1, Parent(r.Headers)
	return record
}

var attacks = []string{
	strings.Repeat("a", 8<<10), strings.Repeat("\"", 8<<10), strings.Repeat("\xff", 8<<10), strings.Repeat("é", 4<<10),
	"a\nb\r\n{\"user.id\":\"root\"}", "\x1b[31mred\x1b]0;title\a", "ev\u202eil", "\u2028\u2029\x00\x7f", `","user.id":"root`, `\u000a`, "\xc3\x28", "</script>",
	jwt, "eyJ.." + strings.Repeat("x", 300),
}

func TestNothingIsInjected(t *testing.T) {
	s := published(t)
	for _, text := range attacks {
		out, got := line(t, s, hostile(text))
		if len(out) > 12<<10 {
			t.Errorf("%.20q makes %d bytes", text, len(out))
		}
		if subject, _ := got["user.id"].(string); subject == "" || subject == "root" {
			t.Errorf("%.40q became %q", text, got["user.id"])
		}
		for _, r := range strings.TrimSuffix(out, "\n") {
			if !unicode.IsPrint(r) {
				t.Fatalf("%.40q: %q is in the line", text, r)
			}
		}
		if strings.Contains(out, jwt) {
			t.Errorf("a token is in the line: %s", out)
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, text := range attacks {
		f.Add(text)
	}
	f.Add(parent)
	s := published(f)
	f.Fuzz(func(t *testing.T, text string) { line(t, s, hostile(text)) })
}

// held is an output that waits until it is let go.
type held struct {
	mu      sync.Mutex
	records int
	largest int
	let     chan struct{}
	entered chan struct{}
	fails   error
}

func (h *held) Write(ctx context.Context, records []*Record) (int, error) {
	if h.let != nil {
		select {
		case h.entered <- struct{}{}:
		default:
		}
		select {
		case <-h.let:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fails != nil {
		return 0, h.fails
	}
	h.records += len(records)
	h.largest = max(h.largest, len(records))
	return len(records), nil
}

func (h *held) Close(context.Context) error { return nil }

func started(t *testing.T, o Options) (*Log, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	o.Registerer = registry
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return l, registry
}

func closed(t *testing.T, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := l.Close(ctx); err != nil {
		t.Error(err)
	}
}

func (l *Log) droppedFor(reason string) float64 {
	return testutil.ToFloat64(l.dropped.WithLabelValues(reason))
}

// An output that does not take anything costs records, and nobody's time.
func TestRecordNeverWaits(t *testing.T) {
	out := &held{let: make(chan struct{}), entered: make(chan struct{}, 1)}
	l, _ := started(t, Options{Rates: Rates{Denied: 1}, Output: out, Queue: 10})
	r, d := denied()
	l.Record(r, d, time.Now(), 0, trace.SpanContext{})
	<-out.entered // the writer holds this one
	for range 1000 {
		l.Record(r, d, time.Now(), 0, trace.SpanContext{})
	}
	if got := l.droppedFor(queueFull); got != 990 {
		t.Errorf("%v dropped, want 990", got)
	}
	close(out.let)
	closed(t, l)
	if out.records != 11 || testutil.ToFloat64(l.lines) != 11 {
		t.Errorf("%d recorded", out.records)
	}
	l.Record(r, d, time.Now(), 0, trace.SpanContext{})
	if l.droppedFor(isClosed) != 1 {
		t.Error("what comes after Close is not counted")
	}
}

func TestCloseIsBounded(t *testing.T) {
	out := &held{let: make(chan struct{}), entered: make(chan struct{}, 1)}
	l, _ := started(t, Options{Rates: Rates{Denied: 1}, Output: out})
	r, d := denied()
	l.Record(r, d, time.Now(), 0, trace.SpanContext{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	<-l.done // its context has ended
	if l.droppedFor(writeFailed) != 1 {
		t.Error("what was given up is not counted")
	}
}

func TestFailuresAreCountedAndSaidOnce(t *testing.T) {
	var said bytes.Buffer
	out := &held{fails: errors.New("disk full")}
	l, _ := started(t, Options{Rates: Rates{Denied: 1}, Output: out, Logger: slog.New(slog.NewTextHandler(&said, nil))})
	r, d := denied()
	for range 100 {
		l.Record(r, d, time.Now(), 0, trace.SpanContext{})
	}
	closed(t, l)
	if l.droppedFor(writeFailed) != 100 || strings.Count(said.String(), "disk full") != 1 {
		t.Errorf("%v dropped; said:\n%s", l.droppedFor(writeFailed), &said)
	}
}

func TestRates(t *testing.T) {
	for _, c := range []struct {
		rates                  Rates
		allow, would           bool
		fewest, most, recorded int
	}{
		{Rates{1, 0}, false, false, 10000, 10000, 0}, {Rates{1, 0}, true, false, 0, 0, 0}, {Rates{0, 1}, false, false, 0, 0, 0},
		{Rates{0, .01}, true, false, 50, 160, 0}, {Rates{.5, 0}, false, false, 4700, 5300, 0}, {Rates{1, 0}, true, true, 10000, 10000, 0},
	} {
		out := &held{}
		l, _ := started(t, Options{Output: out, Queue: 10000})
		l.SetRates(c.rates)
		_, d := denied()
		d.Allow = c.allow
		if c.would {
			d.WouldDeny = authz.TooOld
		}
		for range 10000 {
			l.Record(nil, d, time.Now(), 0, trace.SpanContext{})
		}
		closed(t, l)
		if out.records < c.fewest || out.records > c.most {
			t.Errorf("%+v, allow %t: %d of 10000 recorded", c.rates, c.allow, out.records)
		}
	}
}

// A million different decisions leave nothing behind.
func TestNothingGrows(t *testing.T) {
	n := 1_000_000
	if raceEnabled || testing.Short() {
		n = 100_000
	}
	l, registry := started(t, Options{Rates: Rates{Denied: 1}, Output: Lines(discard{}, "a")})
	var before, after runtime.MemStats
	record := func(i uint64) {
		text := strings.Repeat(string(rune('a'+i%26)), 1+int(i%400))
		r := &authz.Request{Headers: []authz.Header{{Name: "x-request-id", Value: text}}, Source: netip.AddrFrom4([4]byte{byte(i), byte(i >> 8), byte(i >> 16), 1})}
		l.Record(r, &authz.Decision{ID: "x", Reason: authz.Revoked, Policy: text, Subject: text, TokenID: text}, time.Now(), 0, trace.SpanContext{})
	}
	for range 5000 { // what is allocated once
		record(rand.Uint64())
	}
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		record(rand.Uint64())
	}
	closed(t, l)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("%d bytes more in use", grown)
	}
	if total := testutil.ToFloat64(l.lines) + l.droppedFor(queueFull); total != float64(n+5000) {
		t.Errorf("%v are accounted for", total)
	}
	if series, err := testutil.GatherAndCount(registry); err != nil || series != 4 {
		t.Errorf("%d series, %v", series, err)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// scarce takes so many bytes and fails then, until there is room again.
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
			t.Errorf("%d %v", n, err)
		}
	}
	w.room = 1 << 20
	if n, err := out.Write(t.Context(), []*Record{record, record}); n != 2 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	whole := 0
	for l := range strings.Lines(w.String()) {
		if json.Valid([]byte(l)) {
			whole++
		}
	}
	if whole != 2 {
		t.Errorf("%d whole lines in %s", whole, w)
	}
}

func TestFileRotates(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs", "decisions.log")
	file, err := OpenFile(path, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	l, _ := started(t, Options{Rates: Rates{Denied: 1}, Output: Lines(file, "a"), Queue: 16})
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
		t.Fatalf("%v %v", files, err)
	}
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil || info.Size() > 1<<20 || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %d bytes, %v, %v", name, info.Size(), info.Mode(), err)
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(first))
		if err != nil || s.Validate(value) != nil || !strings.HasSuffix(string(text), "}\n") {
			t.Errorf("%s begins with %s", name, first)
		}
	}
}
