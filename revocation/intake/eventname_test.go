package intake

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rescind/revocation"
	"rescind/revocation/printable"
)

func TestEventName(t *testing.T) {
	now := time.Date(2026, 11, 26, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	for _, c := range []struct {
		name string
		e    Event
		want string
	}{
		{"plain", Event{Type: "https://schemas.openid.net/secevent/caep/event-type/session-revoked", ID: "4d3559ec", At: now.Add(-time.Hour)},
			"event https://schemas.openid.net/secevent/caep/event-type/session-revoked; id 4d3559ec; at 2026-11-26T10:00:00.123456Z"},
		{"no ID", Event{Type: "t"}, "event t; id -; at 2026-11-26T11:00:00.123456Z"},
		{"later than now", Event{Type: "t", ID: "1", At: now.Add(time.Hour)}, "event t; id 1; at 2026-11-26T11:00:00.123456Z"},
		{"a dash as the ID", Event{Type: "t", ID: "-"}, "event t; id sha256:" + sum("-") + "; at 2026-11-26T11:00:00.123456Z"},
		{"an ID that ends the name", Event{Type: "t", ID: "x; at 2020-01-01T00:00:00Z"}, "event t; id sha256:" + sum("x; at 2020-01-01T00:00:00Z") + "; at 2026-11-26T11:00:00.123456Z"},
		{"an ID like a hash", Event{Type: "t", ID: "sha256:ab"}, "event t; id sha256:" + sum("sha256:ab") + "; at 2026-11-26T11:00:00.123456Z"},
		{"a long ID", Event{Type: "t", ID: strings.Repeat("x", 161)}, "event t; id sha256:" + sum(strings.Repeat("x", 161)) + "; at 2026-11-26T11:00:00.123456Z"},
		{"no type", Event{ID: "1"}, "event sha256:" + sum("") + "; id 1; at 2026-11-26T11:00:00.123456Z"},
	} {
		if got := nameOf(&c.e, now).String(); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
}

func sum(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestEventNameOfAnotherEventHasAnotherKey(t *testing.T) {
	a, b := nameOf(&Event{Type: "a;b", ID: "c"}, begin), nameOf(&Event{Type: "a", ID: "b;c"}, begin)
	if a.key("kc") == b.key("kc") {
		t.Errorf("%s and %s: got one key, want two", a, b)
	}
}

// Every name reads back as it was written, fits into a reason, and is the same for
// the same event alone.
func TestEventNameReadsBack(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "-", "a", "a;", "a; b", "a;b", ";", "b", "sha256:00", strings.Repeat("é", 200)}))
	draw := func(t *rapid.T) (Event, time.Time) {
		e := Event{Type: text.Draw(t, "type"), ID: text.Draw(t, "id")}
		if at := rapid.Int64Range(0, 4e15).Draw(t, "at"); at > 0 {
			e.At = time.UnixMicro(at)
		}
		return e, time.UnixMicro(rapid.Int64Range(1e15, 4e15).Draw(t, "now"))
	}
	rapid.Check(t, func(t *rapid.T) {
		e, now := draw(t)
		n := nameOf(&e, now)
		got, ok := parseEventName(n.String())
		if !ok || got != n {
			t.Fatalf("%q reads as %+v (%v), want %+v", n.String(), got, ok, n)
		}
		if len(n.String()) > revocation.MaxReason || !printable.Valid(n.String()) {
			t.Fatalf("%q has %d bytes, want a printable reason of at most %d", n.String(), len(n.String()), revocation.MaxReason)
		}
		o, _ := draw(t)
		other := nameOf(&o, now)
		same := e.Type == o.Type && e.ID == o.ID && (e.ID != "" || n.at.Equal(other.at))
		if n.same(other) != same || (n.key("a") == other.key("a")) != same || n.key("a") == n.key("b") {
			t.Fatalf("%q and %q: got the same event %v, want %v", n, other, n.same(other), same)
		}
	})
}

func FuzzEventName(f *testing.F) {
	for _, s := range []string{"", "event t; id -; at 2026-11-26T11:00:00Z", "event t; id x; at 2026-11-26T11:00:00+01:00", "event t; id x; id y; at z", "alert a0123: revoked_token_used"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, reason string) {
		if n, ok := parseEventName(reason); ok && n.String() != reason {
			t.Fatalf("%q reads as a name that is written %q", reason, n.String())
		}
	})
}
