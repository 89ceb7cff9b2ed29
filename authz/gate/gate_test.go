package gate

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.opentelemetry.io/otel/trace"
	"pgregory.net/rapid"

	"rescind/authz"
	"rescind/jwks"
	"rescind/revocation/replica"
	"rescind/test/syncbuffer"
)

const idp = "https://idp.example/"

// noKeys is an issuer without any key.
type noKeys struct{}

func (noKeys) Generation() uint64 { return 1 }

func (noKeys) Find(context.Context, string, string) ([]jwks.Key, error) {
	return nil, jwks.ErrUnknownKey
}

// open returns a gate that allows requests without a token, and its log.
func open(t *testing.T, o Options) (*Gate, *syncbuffer.Buffer) {
	t.Helper()
	f, err := replica.Open(replica.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	var log syncbuffer.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	if o.Authorizer, err = authz.New(authz.Options{
		Issuers:  []authz.Issuer{{Name: idp, Keys: noKeys{}, AnyAudience: true, MaxLifetime: time.Hour}},
		Policies: map[string]authz.Policy{"default": {TokenOptional: true}}, Revocations: f, Logger: o.Logger,
	}); err != nil {
		t.Fatal(err)
	}
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g, &log
}

func request() (*authz.Request, authz.Reason) {
	return &authz.Request{Headers: []authz.Header{{Name: "accept", Value: "*/*"}}}, ""
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		name        string
		read        func() (*authz.Request, authz.Reason)
		without     bool // an authorizer
		writePanics int  // how many times
		want        authz.Reason
		written     []authz.Reason
		logged      string
	}{
		{"a decision", request, false, 0, authz.NoTokenAllowed, []authz.Reason{authz.NoTokenAllowed}, ""},
		{"an unreadable request", func() (*authz.Request, authz.Reason) { return nil, authz.BadRequest }, false, 0, authz.BadRequest, []authz.Reason{authz.BadRequest}, ""},
		{"a refused request", func() (*authz.Request, authz.Reason) { r, _ := request(); return r, authz.NoToken }, false, 0, authz.NoToken, []authz.Reason{authz.NoToken}, ""},
		{"a refusal that names an allowing reason", func() (*authz.Request, authz.Reason) { return nil, authz.OK }, false, 0, authz.OK, []authz.Reason{authz.OK}, ""},
		{"reading panics", func() (*authz.Request, authz.Reason) { panic("5ecret") }, false, 0, authz.Internal, []authz.Reason{authz.Internal}, "check panicked"},
		{"deciding panics", request, true, 0, authz.Internal, []authz.Reason{authz.Internal}, "check panicked"},
		{"writing panics once", request, false, 1, authz.Internal, []authz.Reason{authz.NoTokenAllowed, authz.Internal}, "check panicked"},
		{"writing panics twice", request, false, 2, authz.Internal, []authz.Reason{authz.NoTokenAllowed, authz.Internal}, "writing a denial panicked"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var seen *authz.Decision
			registry := prometheus.NewRegistry()
			g, log := open(t, Options{Registerer: registry, Observers: []func(context.Context, Observation){func(_ context.Context, o Observation) { d := *o.Decision; seen = &d }}})
			if c.without {
				g.Replace(nil)
			}
			var written []authz.Reason
			g.Decide(t.Context(), c.read, func(_ *authz.Request, d *authz.Decision) {
				written = append(written, d.Reason)
				if d.Allow != (d.Reason == authz.NoTokenAllowed) || d.ID == "" {
					t.Errorf("written: %+v, want an ID, and allowed only as %s", d, authz.NoTokenAllowed)
				}
				if len(written) <= c.writePanics {
					panic("5ecret")
				}
			})
			if len(written) != len(c.written) || written[len(written)-1] != c.written[len(c.written)-1] {
				t.Errorf("written %v, want %v", written, c.written)
			}
			if seen == nil || seen.Reason != c.want || seen.Allow != (c.want == authz.NoTokenAllowed) {
				t.Errorf("observed %+v, want %s", seen, c.want)
			}
			if n, err := testutil.GatherAndCount(registry, "rescind_decisions_total"); err != nil || n != 1 {
				t.Errorf("%d decisions are counted, want 1 (%v)", n, err)
			}
			if got := log.String(); !strings.Contains(got, c.logged) || strings.Contains(got, "5ecret") || (c.logged == "") != (got == "") {
				t.Errorf("logged %q, want %q without the value of the panic", got, c.logged)
			}
		})
	}
}

// An observer that panics changes no answer and no metric.
func TestObserversCannotHarm(t *testing.T) {
	for name, o := range map[string]Options{
		"the trace":   {Trace: func(context.Context, Observation) trace.SpanContext { panic("5ecret") }},
		"an observer": {Observers: []func(context.Context, Observation){func(context.Context, Observation) { panic("5ecret") }}},
		"the watch":   {Watch: func(Observation, time.Time, int) { panic("5ecret") }},
	} {
		registry := prometheus.NewRegistry()
		o.Registerer = registry
		g, log := open(t, o)
		var got authz.Reason
		g.Decide(t.Context(), request, func(_ *authz.Request, d *authz.Decision) { got = d.Reason })
		if got != authz.NoTokenAllowed {
			t.Errorf("%s panics: %s, want %s", name, got, authz.NoTokenAllowed)
		}
		if n, err := testutil.GatherAndCount(registry, "rescind_decisions_total"); err != nil || n != 1 {
			t.Errorf("%s panics: %d decisions are counted, want 1 (%v)", name, n, err)
		}
		if text := log.String(); !strings.Contains(text, "observer panicked") || strings.Contains(text, "5ecret") {
			t.Errorf("%s panics: logged %q, want the panic without its value", name, text)
		}
	}
}

// Any decision that denies is answered with an error, and with nothing of the
// request.
func TestDenialOfAnyDecision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const mark = "m4rk"
		d := authz.Decision{Reason: authz.Reason(rapid.String().Draw(t, "reason")), Policy: mark, Subject: mark, TokenID: mark, Issuer: mark, Detail: mark}
		denial := DenialOf(&d)
		if denial.Code == 0 || denial.Status < 400 {
			t.Fatalf("%q: code %d, HTTP %d, want errors", d.Reason, denial.Code, denial.Status)
		}
		if strings.Contains(denial.Body, mark) || !strings.HasPrefix(denial.Body, "{") {
			t.Fatalf("%q: body %s, want JSON without the request", d.Reason, denial.Body)
		}
		for _, h := range denial.Headers {
			if strings.Contains(h.Value, mark) {
				t.Fatalf("%q: got header %s: %s, want it without the request", d.Reason, h.Name, h.Value)
			}
		}
	})
}

// A client that can cause a panic causes it with every request. The lines are
// bounded, and none is left uncounted.
func TestLinesOfPanicsAreBounded(t *testing.T) {
	g, log := open(t, Options{})
	const n = 300
	for range n {
		g.Decide(t.Context(), func() (*authz.Request, authz.Reason) { panic("5ecret") }, func(*authz.Request, *authz.Decision) {})
	}
	g.lines.check.Close()
	stacks, suppressed, seconds := strings.Count(log.String(), "stack="), 0, 1
	for l := range strings.Lines(log.String()) {
		if _, after, ok := strings.Cut(l, " suppressed="); ok {
			var more int
			if _, err := fmt.Sscan(after, &more); err != nil {
				t.Fatal(err)
			}
			suppressed += more
			seconds++
		}
	}
	if stacks+suppressed != n || stacks > faultLines*seconds {
		t.Errorf("%d stacks and %d suppressed, want %d together and at most %d stacks a second", stacks, suppressed, n, faultLines)
	}
}
