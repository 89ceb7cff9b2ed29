package envoy

import (
	"runtime/debug"
	"slices"
	"testing"
	"unicode/utf8"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"rescind/authz"
)

// wantTheGeneratedAnswer fails the test unless the encoded answer to d is the message
// that the generated types build of d, and no longer than their encoding.
func wantTheGeneratedAnswer(t testing.TB, d *authz.Decision) {
	t.Helper()
	want := response(d, false)
	wire, err := proto.Marshal(want)
	d.Encoded = Encode(d)
	if err != nil {
		if d.Encoded != nil {
			t.Fatalf("%+v: got an encoded answer, want none, because %v", d, err)
		}
		return
	}
	if d.Encoded == nil {
		t.Fatalf("%+v: got no encoded answer, want one", d)
	}
	if len(d.Encoded) != cap(d.Encoded) {
		t.Fatalf("%+v: got %d bytes in the memory of %d, want one allocation of the right size", d, len(d.Encoded), cap(d.Encoded))
	}
	encoded := appendAnswer([]byte("before"), d)[len("before"):]
	got := &authv3.CheckResponse{}
	if err := proto.Unmarshal(encoded, got); err != nil || !proto.Equal(got, want) {
		t.Fatalf("%+v: got %v (%v), want %v", d, got, err, want)
	}
	if len(encoded) != len(wire) {
		t.Fatalf("%+v: got %d bytes, want the %d of the generated types", d, len(encoded), len(wire))
	}
	// The other way round: the generated encoding decodes to the same message as ours.
	again := &authv3.CheckResponse{}
	if err := proto.Unmarshal(wire, again); err != nil || !proto.Equal(got, again) {
		t.Fatalf("%+v: the generated encoding is %v (%v), want %v", d, again, err, got)
	}
}

func TestEncodedAnswersAreTheGeneratedOnes(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.StringN(0, 300, -1))
	header := rapid.Custom(func(t *rapid.T) authz.Header {
		return authz.Header{Name: text.Draw(t, "name"), Value: text.Draw(t, "value")}
	})
	rapid.Check(t, func(r *rapid.T) {
		d := &authz.Decision{
			Allow: true, Reason: rapid.SampledFrom([]authz.Reason{authz.OK, authz.NoTokenAllowed}).Draw(r, "reason"),
			ID: rapid.StringMatching(`[A-Z2-7]{0,200}`).Draw(r, "id"), Policy: text.Draw(r, "policy"), Issuer: text.Draw(r, "issuer"),
			Subject: text.Draw(r, "subject"), TokenID: text.Draw(r, "token"), Revision: rapid.Uint64().Draw(r, "revision"), Stale: rapid.Bool().Draw(r, "stale"),
			WouldDeny: rapid.SampledFrom([]authz.Reason{"", authz.TooOld}).Draw(r, "would deny"),
			Set:       rapid.SliceOfN(header, 0, 4).Draw(r, "set"), Remove: rapid.SliceOfN(text, 0, 4).Draw(r, "remove"), RemoveQuery: rapid.SliceOfN(text, 0, 2).Draw(r, "query"),
		}
		if rapid.IntRange(0, 9).Draw(r, "not UTF-8") == 0 {
			*rapid.SampledFrom([]*string{&d.Policy, &d.Issuer, &d.Subject, &d.TokenID}).Draw(r, "where") = "a\xff"
		}
		wantTheGeneratedAnswer(t, d)
	})
}

func FuzzEncodedAnswer(f *testing.F) {
	f.Add("A2D3NROYXCBT55SLRQ6PIISPDO", "default", "https://idp.example/", "alice", "t1", uint64(7), true, "x-jwt-subject", "alice", "x-jwt-id")
	f.Add("", "", "", "", "", uint64(0), false, "", "", "")
	f.Add("B", "\x00", "\u00e9", "a\xffb", "\U0001f600", uint64(1)<<63+1, true, "x", "\n", "y")
	f.Fuzz(func(t *testing.T, id, policy, issuer, subject, token string, revision uint64, stale bool, name, value, remove string) {
		if !utf8.ValidString(id) {
			t.Skip("no decision has such an ID")
		}
		wantTheGeneratedAnswer(t, &authz.Decision{
			Allow: true, Reason: authz.OK, ID: id, Policy: policy, Issuer: issuer, Subject: subject, TokenID: token, Revision: revision, Stale: stale,
			Set: []authz.Header{{Name: name, Value: value}}, Remove: []string{remove},
		})
	})
}

// A denial is never encoded for later requests.
func TestDenialsAreNotEncoded(t *testing.T) {
	for reason := range published {
		if got := Encode(&authz.Decision{Reason: reason}); got != nil {
			t.Errorf("%s: got %d bytes, want none", reason, len(got))
		}
	}
}

// The way of a known token, from the wire to the answer on the wire, takes no memory
// that it does not give back.
func TestKnownTokenAllocatesNothing(t *testing.T) {
	if raced() {
		t.Skip("under the race detector pools drop memory at random")
	}
	k := newKey(t)
	s, _ := server(t, k, options{})
	if n := testing.AllocsPerRun(1000, asker(t, s, k)); n != 0 {
		t.Errorf("a known token takes %v allocations, want 0", n)
	}
}

// raced reports whether the test runs under the race detector.
func raced() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
