package decisionlog

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"rescind/authz"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	jwt    = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
)

// blocked is an output whose Write waits until release is closed.
type blocked struct {
	mu      sync.Mutex
	records int
	largest int
	release chan struct{}
	entered chan struct{}
	fails   error
}

func (b *blocked) Write(ctx context.Context, records []*Record) (int, error) {
	if b.release != nil {
		select {
		case b.entered <- struct{}{}:
		default:
		}
		select {
		case <-b.release:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails != nil {
		return 0, b.fails
	}
	b.records += len(records)
	b.largest = max(b.largest, len(records))
	return len(records), nil
}

func (b *blocked) Close(context.Context) error { return nil }

func (b *blocked) written() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.records
}

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
		t.Errorf("Close: got %v, want nil", err)
	}
}

func (l *Log) droppedFor(reason string) float64 {
	return testutil.ToFloat64(l.dropped.WithLabelValues(reason))
}

// An output that takes nothing loses records, and Record does not wait for it.
func TestRecordNeverWaits(t *testing.T) {
	out := &blocked{release: make(chan struct{}), entered: make(chan struct{}, 1)}
	l, _ := started(t, Options{Rates: Rates{Denied: 1, MaxPerSecond: 10_000}, Output: out, Queue: 10})
	r, d := denied()
	l.Record(r, d, time.Now(), 0, trace.SpanContext{})
	<-out.entered // the writer holds this one
	for range 1000 {
		l.Record(r, d, time.Now(), 0, trace.SpanContext{})
	}
	if got := l.droppedFor(queueFull); got != 990 {
		t.Errorf("%v dropped, want 990", got)
	}
	close(out.release)
	closed(t, l)
	if out.records != 11 || testutil.ToFloat64(l.lines) != 11 {
		t.Errorf("%d records written, want 11", out.records)
	}
	l.Record(r, d, time.Now(), 0, trace.SpanContext{})
	if l.droppedFor(logClosed) != 1 {
		t.Errorf("%v dropped after Close, want 1", l.droppedFor(logClosed))
	}
}

// A batch is written when its delay is over, or earlier when the queue is half full.
func TestBatchesGather(t *testing.T) {
	for name, c := range map[string]struct {
		records int
		want    time.Duration
	}{
		"one record":           {1, time.Hour},
		"less than half":       {7, time.Hour},
		"a queue half full":    {9, 0}, // the writer holds one
		"a queue that is full": {17, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := &blocked{}
				l, _ := started(t, Options{Rates: Rates{Denied: 1, MaxPerSecond: 10_000}, Output: out, Queue: 16, BatchDelay: time.Hour})
				r, d := denied()
				began := time.Now()
				l.Record(r, d, began, 0, trace.SpanContext{})
				synctest.Wait() // the writer has begun to wait
				for range c.records - 1 {
					l.Record(r, d, began, 0, trace.SpanContext{})
				}
				synctest.Wait()
				if early := out.written(); (early > 0) != (c.want == 0) {
					t.Errorf("%d records at once: got %d written at once, want the batch after %v", c.records, early, c.want)
				}
				time.Sleep(c.want)
				synctest.Wait()
				if got := out.written(); got != c.records {
					t.Errorf("%d records, after %v: got %d written", c.records, c.want, got)
				}
				closed(t, l)
			})
		})
	}
}

func TestCloseIsBounded(t *testing.T) {
	out := &blocked{release: make(chan struct{}), entered: make(chan struct{}, 1)}
	l, _ := started(t, Options{Rates: Rates{Denied: 1}, Output: out})
	r, d := denied()
	l.Record(r, d, time.Now(), 0, trace.SpanContext{})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := l.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close: %v, want %v", err, context.DeadlineExceeded)
	}
	<-l.done // its context has ended
	if l.droppedFor(writeFailed) != 1 {
		t.Errorf("%v dropped, want 1", l.droppedFor(writeFailed))
	}
}

func TestFailuresAreCountedAndLoggedOnce(t *testing.T) {
	var logged bytes.Buffer
	out := &blocked{fails: errors.New("disk full")}
	l, _ := started(t, Options{Rates: Rates{Denied: 1}, Output: out, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	r, d := denied()
	for range 100 {
		l.Record(r, d, time.Now(), 0, trace.SpanContext{})
	}
	closed(t, l)
	if l.droppedFor(writeFailed) != 100 || strings.Count(logged.String(), "disk full") != 1 {
		t.Errorf("%v dropped, want 100, and one error in the log:\n%s", l.droppedFor(writeFailed), &logged)
	}
}

func TestRates(t *testing.T) {
	for _, c := range []struct {
		rates        Rates
		allow, would bool
		fewest, most int
	}{
		{Rates{1, 0, 10000}, false, false, 10000, 10000}, {Rates{1, 0, 10000}, true, false, 0, 0}, {Rates{0, 1, 10000}, false, false, 0, 0},
		{Rates{0, .01, 1}, true, false, 50, 160}, {Rates{.5, 0, 10000}, false, false, 4700, 5300}, {Rates{1, 0, 10000}, true, true, 10000, 10000},
	} {
		out := &blocked{}
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
			t.Errorf("%+v, allow %t, would deny %t: %d of 10000 recorded, want %d to %d", c.rates, c.allow, c.would, out.records, c.fewest, c.most)
		}
	}
}

// A million different decisions leave no memory in use.
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
	for range 5000 { // the allocations that are made once
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
		t.Errorf("%d bytes more in use, want at most 4 MiB", grown)
	}
	if total := testutil.ToFloat64(l.lines) + l.droppedFor(queueFull) + l.suppressedFor(authz.Revoked); total != float64(n+5000) {
		t.Errorf("%v written, suppressed or dropped, want %d", total, n+5000)
	}
	if series, err := testutil.GatherAndCount(registry); err != nil || series != 5 {
		t.Errorf("%d series, %v, want 5", series, err)
	}
}
