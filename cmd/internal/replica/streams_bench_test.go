package replica

import (
	"fmt"
	"testing"
	"time"

	"rescind/envoy/known"
	"rescind/revocation"
	revset "rescind/revocation/replica"
)

// BenchmarkLookAtStreams looks at as many open streams as one Envoy may have, in a set
// with a few selectors, as after each change.
func BenchmarkLookAtStreams(b *testing.B) {
	const streams = 1 << 16
	f := follower(b)
	s := newOpenStreams()
	s.lookup = f.LookupAgain
	s.again = func(_, token string) *revset.Again {
		return revset.NewAgain(&revocation.Token{Issuer: "https://idp.example.com/", Claims: map[string]any{"jti": token, "sub": "subject " + token, "sid": "session " + token}})
	}
	for n := range streams {
		s.Opened(known.StreamID{Connection: 1, Stream: uint64(n)}, "default", fmt.Sprint(n), func() {})
	}
	value, _ := revocation.ValueOf("somebody else")
	var added []revocation.Entry
	for i, name := range []string{"jti", "sub", "sid"} {
		r := revocation.Revocation{
			ID: revocation.ID{Revision: 8, Index: uint32(i)}, Issuer: "https://idp.example.com/", Block: true,
			Target:    revocation.Target{Kind: revocation.KindClaims, Claims: []revocation.Claim{{Name: name, Value: value}}},
			ExpiresAt: revocation.MicrosOf(time.Now().Add(time.Hour)),
		}
		added = append(added, r.Entry())
	}
	if err := f.Apply([]revocation.Change{{Revision: 8, Added: added}}); err != nil {
		b.Fatal(err)
	}
	s.look() // the digests of the tokens are kept from now on
	for b.Loop() {
		s.look()
	}
	b.ReportMetric(float64(b.Elapsed())/float64(b.N)/streams, "ns/stream")
}
