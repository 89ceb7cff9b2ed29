package watch

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/puzpuzpuz/xsync/v4"

	"rescind/authz"
	"rescind/revocation"
	"rescind/revocation/insight"
)

// heap returns the bytes of live objects.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

var nasty = strings.Repeat("\x1b[31m\x00\n", 1200)

// hostile returns event n of an attacker that gets any number of tokens with any
// claims, and comes from everywhere.
func hostile(n int, at time.Time) event {
	rnd := rand.New(rand.NewPCG(uint64(n), 7))
	long := func(claim string) string { return fmt.Sprint(claim, n) + nasty[:300] }
	var from [16]byte
	from[0], from[1] = 0x20, 0x01
	for i := 2; i < 8; i++ {
		from[i] = byte(rnd.Uint32())
	}
	s := seen{
		issuer: idp, policy: fmt.Sprint("p", n%20), subject: long("sub") + nasty, jti: long("jti"), session: long("sid"), client: long("client"), kid: long("kid"),
		from: netip.AddrFrom16(from).String(), life: time.Duration(rnd.IntN(1e6)+1) * time.Second,
		reason: []authz.Reason{authz.OK, authz.Revoked, authz.Expired, authz.BadSignature}[n%4],
	}
	s.nothing = s.reason == authz.BadSignature
	r, d := s.decision(at)
	return eventOf(r, d, at)
}

// floods are the kinds of traffic that take the most memory.
var floods = []struct {
	name string
	make func(n int, at time.Time) event
}{
	{"everything differs", hostile},
	{"many networks and policies each", func(n int, at time.Time) event {
		e := hostile(n/3, at)
		e.network = network(n)&0xffffff | familyV4
		return e
	}},
	{"plain", func(n int, at time.Time) event {
		_, d := seen{subject: fmt.Sprint("user", n/2), jti: fmt.Sprint("jti", n), session: fmt.Sprint("sid", n/2), client: "web", kid: "k1"}.decision(at)
		return eventOf(nil, d, at)
	}},
}

// flooded returns the memory after so many verified events of a flood, and its
// size in bytes.
func flooded(s *Settings, events int, flood func(int, time.Time) event) (*memory, int64) {
	before := heap()
	queue := xsync.NewMPMCQueue[event](queueSize) // full too
	for n := range queueSize {
		queue.TryEnqueue(flood(n, time.Now()))
	}
	now := time.Now()
	m := newMemory(s, now, func(insight.Alert, uint64) {})
	for n, verified := 0, 0; verified < events; n++ {
		at := now.Add(time.Duration(n) * time.Millisecond)
		m.event = flood(n, at)
		if m.event.verified {
			verified++
		}
		m.note(&m.event)
		if n%1000 == 0 {
			m.tick(at)
		}
	}
	used := heap() - before
	runtime.KeepAlive(queue)
	return m, used
}

// A few hundredths of the promised tokens, and three times as many events as there
// is room for. BenchmarkMemory measures the promise itself.
func TestHostileMemory(t *testing.T) {
	for _, f := range floods {
		t.Run(f.name, func(t *testing.T) {
			s := Defaults()
			s.Tokens = 30_000
			events := 3 * s.Tokens
			if raceEnabled {
				s.Tokens, events = 4_000, 8_000
			}
			m, used := flooded(&s, events, f.make)
			t.Logf("%d tokens of %d events remembered in %.1f MiB", m.tokens.n, events, float64(used)/(1<<20))
			if limit := int64(72*s.Tokens + 10<<20); used > limit || m.tokens.n > s.Tokens {
				t.Errorf("%s: got %d bytes for %d tokens, want at most %d for %d", f.name, used, m.tokens.n, limit, s.Tokens)
			}
			runtime.KeepAlive(m)
		})
	}
}

// BenchmarkMemory measures a million tokens of the kinds that take most.
func BenchmarkMemory(b *testing.B) {
	for _, f := range floods {
		b.Run(f.name, func(b *testing.B) {
			for range b.N {
				s := Defaults()
				m, used := flooded(&s, s.Tokens, f.make)
				b.ReportMetric(float64(used)/(1<<20), "MiB")
				b.ReportMetric(float64(m.tokens.n), "tokens")
				b.ReportMetric(0, "ns/op")
				if used > 72<<20 {
					b.Fatalf("%s: got %d bytes, want at most %d", f.name, used, 72<<20)
				}
				runtime.KeepAlive(m)
			}
		})
	}
}

// TestFullMemoryIsPartial fills the memory. It forgets, reports partial answers and does not grow.
func TestFullMemoryIsPartial(t *testing.T) {
	bubble(t, func(s *Settings) { s.Tokens = MinTokens }, func(r *rig) {
		for n := range 2 * MinTokens {
			r.see(seen{jti: fmt.Sprint(n), subject: "alice"})
		}
		r.settle()
		a, err := r.Activity(insight.ActivityQuery{By: insight.BySubject, Value: "alice"})
		if err != nil || a.Count != MinTokens || !a.Partial {
			t.Errorf("twice as many tokens as fit: got %+v and error %v, want %d requests, partial", a, err, MinTokens)
		}
		time.Sleep(2 * time.Hour)
		a, err = r.Activity(insight.ActivityQuery{By: insight.BySubject, Value: "alice"})
		if err != nil || a.Count != 0 || a.Partial {
			t.Errorf("two hours later: got %+v and error %v, want no request, complete", a, err)
		}
		if n := r.figure("rescind_watch_tokens"); n != 0 {
			t.Errorf("two hours later: got %v tokens remembered, want none", n)
		}
	})
}

// TestNothingUnprintableComesOut sees hostile claims. No text that leaves the
// watcher can change the display of a terminal, a log or a page.
func TestNothingUnprintableComesOut(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		evil := "\x1b]0;pwned\x07\u202egnp.exe\x00\r\n\xff" + strings.Repeat("界", 3000)
		hostile := seen{subject: evil, jti: evil, session: evil, client: evil, kid: evil}
		for n := range 400 { // something of every detector
			s := hostile
			s.from = fmt.Sprintf("198.51.%d.1", n%7)
			s.jti += fmt.Sprint(n % 50)
			r.see(s)
		}
		for _, by := range []revocation.Kind{revocation.KindClaims, revocation.KindKeyID} {
			s := hostile
			s.reason, s.by = authz.Revoked, by
			r.see(s)
		}
		time.Sleep(2 * time.Second)
		hostile.life = 10000 * time.Hour
		hostile.jti += "long"
		r.see(hostile)
		for range 15 {
			r.see(seen{subject: evil, jti: "x", repeat: 10})
			time.Sleep(time.Minute)
		}
		r.see(seen{subject: evil, jti: "x", repeat: 1000})
		r.settle()
		if len(r.handed) < 10 {
			t.Fatalf("traffic for every detector: got %d alerts, want at least 10", len(r.handed))
		}
		for _, a := range r.handed {
			for _, s := range []string{a.Summary, a.Subject, a.TokenID, a.Session, a.Client, a.KeyID} {
				if strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) || len(s) > 2*insight.MaxText {
					t.Errorf("alert of %s: got the text %q, want printable text of at most %d bytes", a.Detector, s, 2*insight.MaxText)
				}
			}
		}
		query, err := json.Marshal(insight.ActivityQuery{By: insight.BySubject, Value: evil})
		if err != nil {
			t.Fatal(err)
		}
		for kind, q := range map[string][]byte{"activity": query, "advice": nil} {
			b, err := r.Answer(kind, q)
			if err != nil || strings.ContainsFunc(string(b), func(c rune) bool { return !unicode.IsPrint(c) }) {
				t.Errorf("answer to %s: got %q and error %v, want printable text", kind, b, err)
			}
		}
		a, err := r.Activity(insight.ActivityQuery{By: insight.ByClient, Value: evil})
		if err != nil || a.Count != 403 {
			t.Errorf("activity of a client with a long name: got %+v and error %v, want 403 requests", a, err)
		}
	})
}
