package decisionlog

import (
	"math/rand/v2"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"rescind/authz"
)

func TestParent(t *testing.T) {
	headers := func(values ...string) (out []authz.Header) {
		for _, v := range values {
			out = append(out, authz.Header{Name: "TraceParent", Value: v})
		}
		return out
	}
	for _, c := range []struct {
		name           string
		headers        []authz.Header
		valid, sampled bool
	}{
		{"none", nil, false, false},
		{"sampled", headers(parent), true, true},
		{"not sampled", headers(parent[:54] + "0"), true, false},
		{"other flags", headers(parent[:53] + "fe"), true, false},
		{"twice", headers(parent, parent), false, false},
		{"upper case", headers(strings.ToUpper(parent)), false, false},
		{"longer", headers(parent + "-x"), false, false},
		{"a later version", headers("cc" + parent[2:] + "-more"), true, true},
		{"a later version, run together", headers("cc" + parent[2:] + "more"), false, false},
		{"version ff", headers("ff" + parent[2:]), false, false},
		{"no trace", headers("00-00000000000000000000000000000000-b7ad6b7169203331-01"), false, false},
		{"no span", headers("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"), false, false},
		{"not hex", headers("00-0af7651916cd43dd8448eb211c80319x-b7ad6b7169203331-01"), false, false},
		{"short", headers(parent[:54]), false, false},
		{"another header", []authz.Header{{Name: "tracepärent", Value: parent}}, false, false},
	} {
		if got := Parent(c.headers); got.IsValid() != c.valid || got.IsSampled() != c.sampled || got.IsRemote() != c.valid {
			t.Errorf("%s: %+v, want valid %t, sampled %t", c.name, got, c.valid, c.sampled)
		}
	}
}

// The SDK's own propagator is the reference, except for flags that version 00
// does not define. W3C asks readers to ignore them.
func TestParentAgreesWithTheSDK(t *testing.T) {
	const alphabet = "0123456789abcdefABF-z"
	for range 20_000 {
		text := []byte(parent)
		for range rand.IntN(3) {
			text[rand.IntN(len(text)-2)] = alphabet[rand.IntN(len(alphabet))]
		}
		carrier := propagation.MapCarrier{"traceparent": string(text)}
		want := trace.SpanContextFromContext(propagation.TraceContext{}.Extract(t.Context(), carrier))
		got := ParseParent(string(text))
		if got.TraceID() != want.TraceID() || got.SpanID() != want.SpanID() || got.IsSampled() != want.IsSampled() {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
}

func TestState(t *testing.T) {
	one := []authz.Header{{Name: "tracestate", Value: "a=1"}, {Name: "Tracestate", Value: "b=2"}}
	if got := State(one).String(); got != "a=1,b=2" {
		t.Errorf("two headers: %q, want a=1,b=2", got)
	}
	for _, value := range []string{"", "=", "a=\x01", "a=" + strings.Repeat("x", 600), strings.Repeat("a=1,", 200)} {
		if got := State([]authz.Header{{Name: "tracestate", Value: value}}); got.Len() != 0 {
			t.Errorf("tracestate %.20q: %v, want none", value, got)
		}
	}
}

func TestParentCostsNoMemory(t *testing.T) {
	headers := []authz.Header{{Name: ":method", Value: "GET"}, {Name: "traceparent", Value: parent}}
	if n := testing.AllocsPerRun(100, func() { _ = Parent(headers) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
