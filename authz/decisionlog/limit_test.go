package decisionlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.opentelemetry.io/otel/attribute"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"

	"rescind/authz"
)

func (l *Log) suppressedFor(r authz.Reason) float64 {
	return testutil.ToFloat64(l.limit.total.WithLabelValues(string(r)))
}

// deny records n denials of one reason from one network.
func (l *Log) deny(n int, reason authz.Reason, from string) {
	r := &authz.Request{Path: "/orders/17", Host: "api.example"}
	if from != "" {
		r.Source = netip.MustParseAddr(from)
	}
	for range n {
		l.Record(r, &authz.Decision{ID: "D", Reason: reason, Policy: "default"}, time.Now(), time.Microsecond, trace.SpanContext{})
	}
}

// counts are the decisions of some lines.
type counts struct {
	lines, summaries, suppressed int
	by                           map[string]int // suppressed, by network
}

// countsOf reads lines, and checks each summary against the schema.
func countsOf(t *testing.T, text string) counts {
	t.Helper()
	s := published(t)
	c := counts{by: map[string]int{}}
	for l := range strings.Lines(text) {
		if strings.Contains(l, `"event.name":"`+EventName+`"`) {
			c.lines++
			continue
		}
		var m struct {
			Network    string `json:"client.address"`
			Elsewhere  bool   `json:"rescind.decisions.other_networks"`
			Suppressed int    `json:"rescind.decisions.suppressed"`
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(l))
		if err != nil || s.Validate(value) != nil || json.Unmarshal([]byte(l), &m) != nil || m.Suppressed == 0 {
			t.Fatalf("got the line %s, want a summary that the schema accepts: %v", l, s.Validate(value))
		}
		if m.Elsewhere {
			m.Network = "elsewhere"
		}
		c.summaries++
		c.suppressed += m.Suppressed
		c.by[m.Network] += m.Suppressed
	}
	return c
}

// Ten seconds of 100,000 denials a second write less than 1 MB, and the lines and
// summaries have every denial.
func TestFloodWritesLittleAndLosesNoCount(t *testing.T) {
	seconds, each := 10, 100 // a millisecond
	if raceEnabled {
		each = 5
	}
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l, _ := started(t, Options{Rates: Rates{Denied: 1}, Output: Lines(&out, "replica-a")})
		for range seconds*1000 + 300 { // it closes within a second
			l.deny(each, authz.BadSignature, "203.0.113.77")
			time.Sleep(time.Millisecond)
		}
		closed(t, l)
		c := countsOf(t, out.String())
		total := (seconds*1000 + 300) * each
		if c.lines+c.suppressed != total || l.suppressedFor(authz.BadSignature) != float64(c.suppressed) {
			t.Errorf("%d lines and %d suppressed (metric: %v), want %d together", c.lines, c.suppressed, l.suppressedFor(authz.BadSignature), total)
		}
		if out.Len() >= 1_000_000 || c.lines > (seconds+1)*100 || c.summaries != seconds+1 {
			t.Errorf("%d bytes, %d lines, %d summaries, want less than 1 MB, at most %d lines, and %d summaries", out.Len(), c.lines, c.summaries, (seconds+1)*100, seconds+1)
		}
	})
}

func TestLimitOfDenials(t *testing.T) {
	from := func(l *Log, networks, each int, reason authz.Reason) {
		for i := range networks {
			l.deny(each, reason, netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 7}).String())
		}
	}
	for _, c := range []struct {
		name  string
		rates Rates
		deny  func(*Log)
		lines int
		by    map[string]int
	}{
		{"at the limit", Rates{Denied: 1}, func(l *Log) { l.deny(100, authz.Expired, "10.0.0.1") }, 100, nil},
		{"above the limit", Rates{Denied: 1}, func(l *Log) { l.deny(103, authz.Expired, "10.0.0.1") }, 100, map[string]int{"10.0.0.0/24": 3}},
		{"one network with two addresses", Rates{Denied: 1}, func(l *Log) {
			l.deny(100, authz.Expired, "10.0.0.1")
			l.deny(5, authz.Expired, "10.0.0.2")
		}, 100, map[string]int{"10.0.0.0/24": 5}},
		{"two networks", Rates{Denied: 1}, func(l *Log) { from(l, 2, 101, authz.Expired) }, 200, map[string]int{"10.0.0.0/24": 1, "10.0.1.0/24": 1}},
		{"one site of IPv6", Rates{Denied: 1}, func(l *Log) {
			l.deny(100, authz.Expired, "2001:db8:1:2::1")
			l.deny(4, authz.Expired, "2001:db8:1:ffff::1")
		}, 100, map[string]int{"2001:db8:1::/48": 4}},
		{"two reasons", Rates{Denied: 1}, func(l *Log) {
			l.deny(101, authz.Expired, "10.0.0.1")
			l.deny(102, authz.NoToken, "10.0.0.1")
		}, 200, map[string]int{"10.0.0.0/24": 3}},
		{"a limit of the configuration", Rates{Denied: 1, MaxPerSecond: 7}, func(l *Log) { l.deny(10, authz.Expired, "10.0.0.1") }, 7, map[string]int{"10.0.0.0/24": 3}},
		{"revoked", Rates{Denied: 1}, func(l *Log) { l.deny(1002, authz.Revoked, "10.0.0.1") }, 1000, map[string]int{"10.0.0.0/24": 2}},
		{"revoked under a high limit", Rates{Denied: 1, MaxPerSecond: 1500}, func(l *Log) { l.deny(1502, authz.Revoked, "10.0.0.1") }, 1500, map[string]int{"10.0.0.0/24": 2}},
		{"all networks of a reason", Rates{Denied: 1}, func(l *Log) {
			from(l, 10, 100, authz.Expired)
			l.deny(1, authz.Expired, "192.0.2.1")
			l.deny(1, authz.NoToken, "192.0.2.1")
		}, 1001, map[string]int{"192.0.2.0/24": 1}},
		{"more networks than are told apart", Rates{Denied: 1, MaxPerSecond: 30}, func(l *Log) {
			from(l, maxOrigins, 1, authz.Expired)
			l.deny(50, authz.Expired, "192.0.2.1")
			l.deny(50, authz.Expired, "198.51.100.1")
		}, 300, map[string]int{"elsewhere": maxOrigins + 100 - 300}},
		{"no address", Rates{Denied: 1}, func(l *Log) { l.deny(105, authz.NoToken, "") }, 100, map[string]int{"": 5}},
		{"a policy that observes", Rates{Denied: 1}, func(l *Log) {
			for range 102 {
				l.Record(nil, &authz.Decision{ID: "D", Allow: true, Reason: authz.OK, WouldDeny: authz.TooOld}, time.Now(), 0, trace.SpanContext{})
			}
		}, 100, map[string]int{"": 2}},
		{"allowed", Rates{Allowed: 1}, func(l *Log) {
			for range 2000 {
				l.Record(nil, &authz.Decision{ID: "D", Allow: true, Reason: authz.OK}, time.Now(), 0, trace.SpanContext{})
			}
		}, 2000, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			l, _ := started(t, Options{Rates: c.rates, Output: Lines(&out, "a")})
			c.deny(l)
			closed(t, l)
			if got := countsOf(t, out.String()); got.lines != c.lines || fmt.Sprint(got.by) != fmt.Sprint(c.by) {
				t.Errorf("%s: %d lines, suppressed %v, want %d and %v", c.name, got.lines, got.by, c.lines, c.by)
			}
		})
	}
}

// Clients choose their networks, so the memory and the summaries of many networks
// are bounded.
func TestManyNetworksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l, _ := started(t, Options{Rates: Rates{Denied: 1}, Output: Lines(&out, "a")})
		const networks, each = 20_000, 5
		for i := range networks {
			l.deny(each, authz.BadSignature, netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1}).String())
		}
		if n := len(l.limit.of); n > maxOrigins+1 {
			t.Errorf("%d origins are remembered, want at most %d", n, maxOrigins+1)
		}
		closed(t, l)
		c := countsOf(t, out.String())
		if c.lines != allNetworks*defaultPerSecond || c.lines+c.suppressed != networks*each || c.summaries > maxOrigins+1 {
			t.Errorf("%d lines, %d suppressed in %d summaries, want %d lines, %d together, at most %d summaries",
				c.lines, c.suppressed, c.summaries, allNetworks*defaultPerSecond, networks*each, maxOrigins+1)
		}
	})
}

// failing is an output that fails at first.
type failing struct {
	Output
	failures int
}

func (f *failing) Write(ctx context.Context, records []*Record) (int, error) {
	if f.failures > 0 {
		f.failures--
		return 0, errors.New("disk full")
	}
	return f.Output.Write(ctx, records)
}

// The number of a summary that could not be written is in the next one.
func TestSummaryThatFailsIsWrittenLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l, _ := started(t, Options{Rates: Rates{Denied: 1, MaxPerSecond: 1}, Output: &failing{Lines(&out, "a"), 3}})
		l.deny(11, authz.Expired, "10.0.0.1")
		time.Sleep(2500 * time.Millisecond) // the line and two summaries fail
		l.deny(6, authz.Expired, "10.0.0.1")
		closed(t, l)
		c := countsOf(t, out.String())
		if c.lines != 1 || c.suppressed != 15 || l.suppressedFor(authz.Expired) != 15 || l.droppedFor(writeFailed) != 1 {
			t.Errorf("%d lines, %d suppressed (metric: %v), %v dropped, want 1, 15, 15 and 1", c.lines, c.suppressed, l.suppressedFor(authz.Expired), l.droppedFor(writeFailed))
		}
	})
}

// exporting is an exporter that keeps the records.
type exporting struct {
	sdklog.Exporter
	records []sdklog.Record
}

func (e *exporting) Export(_ context.Context, records []sdklog.Record) error {
	for i := range records {
		e.records = append(e.records, records[i].Clone())
	}
	return nil
}

func (e *exporting) Shutdown(context.Context) error { return nil }

// A collector gets the summaries too, under their own event name.
func TestSummaryIsExported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &exporting{}
		l, _ := started(t, Options{Rates: Rates{Denied: 1, MaxPerSecond: 1}, Output: Exported(e, resource.Empty())})
		l.deny(5, authz.Expired, "10.0.0.1")
		closed(t, l)
		if len(e.records) != 2 || e.records[0].EventName() != EventName || e.records[1].EventName() != SummaryName {
			t.Fatalf("%d records are exported, want a decision and a summary: %v", len(e.records), e.records)
		}
		got := map[string]string{}
		e.records[1].WalkAttributes(func(kv attribute.KeyValue) bool { got[string(kv.Key)] = kv.Value.String(); return true })
		for name, want := range map[string]string{"rescind.decisions.suppressed": "4", "rescind.decision.reason": "expired", "client.address": "10.0.0.0/24", "rescind.decision.outcome": "deny"} {
			if got[name] != want {
				t.Errorf("%s is %q, want %q", name, got[name], want)
			}
		}
	})
}

// Many callers at once lose no count, with a writer that is behind.
func TestConcurrentDenialsLoseNoCount(t *testing.T) {
	var out bytes.Buffer
	l, _ := started(t, Options{Rates: Rates{Denied: 1, MaxPerSecond: 50}, Output: Lines(&out, "a"), Queue: 16, BatchDelay: time.Millisecond})
	const callers, each = 8, 5_000
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() { l.deny(each, authz.BadSignature, fmt.Sprintf("10.0.%d.1", i%4)) })
	}
	all.Wait()
	closed(t, l)
	c := countsOf(t, out.String())
	if got := c.lines + c.suppressed + int(l.droppedFor(queueFull)); got != callers*each {
		t.Errorf("%d lines, %d suppressed, %v dropped, want %d together", c.lines, c.suppressed, l.droppedFor(queueFull), callers*each)
	}
}

// Windows without a denial turn while the first denials of the next one arrive.
func TestEmptyWindowsTurnBesideDenials(t *testing.T) {
	l := newLimit()
	l.set(1)
	const each = 2_000
	var all sync.WaitGroup
	all.Go(func() {
		for i := range each {
			l.admit(origin{cause: cause{reason: authz.Expired, rate: float64(i)}}, time.Now())
			l.admit(origin{cause: cause{reason: authz.Expired, rate: float64(i)}}, time.Now())
		}
	})
	suppressed := 0
	count := func(last bool) {
		for _, r := range l.take(time.Now(), last) {
			suppressed += r.suppressed
		}
	}
	for range each {
		count(false)
	}
	all.Wait()
	count(true)
	if suppressed > each {
		t.Errorf("%d denials in pairs: got %d suppressed, want at most %d", 2*each, suppressed, each)
	}
}

// A denial after the last summary is counted as dropped.
func TestDenialAfterTheLastSummary(t *testing.T) {
	l := newLimit()
	l.set(1)
	o := origin{cause: cause{reason: authz.Expired, rate: 1}}
	l.admit(o, time.Now())
	l.admit(o, time.Now())
	if s := l.take(time.Now(), true); len(s) != 1 || s[0].suppressed != 1 {
		t.Errorf("the last window has %d summaries, want 1", len(s))
	}
	if got := l.admit(o, time.Now()); got != ended {
		t.Errorf("after the last window: %v, want %v", got, ended)
	}
}

func BenchmarkSuppressed(b *testing.B) {
	l, err := New(Options{Rates: Rates{Denied: 1, MaxPerSecond: 1}, Output: Lines(discard{}, "a")})
	if err != nil {
		b.Fatal(err)
	}
	r, d := denied()
	d.Reason = authz.BadSignature
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.Record(r, d, time.Now(), 0, trace.SpanContext{})
		}
	})
	if err := l.Close(b.Context()); err != nil {
		b.Fatal(err)
	}
}
