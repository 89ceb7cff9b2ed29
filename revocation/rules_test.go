package revocation

import "testing"

func TestRulesNeededByKindOfTarget(t *testing.T) {
	for _, c := range []struct {
		name   string
		target Target
		want   int
	}{
		{"claims", Target{Kind: KindClaims, Claims: []Claim{{"sub", Value{'s', "alice"}}}}, 1},
		{"claims that look like a number", Target{Kind: KindClaims, Claims: []Claim{{"sub", Value{'s', "17"}}}}, 3},
		{"kid", Target{Kind: KindKeyID, KeyID: "k1"}, 2},
		{"token", Target{Kind: KindToken}, 1},
		{"all", Target{Kind: KindAll}, 1},
	} {
		if got := c.target.RulesNeeded(); got != c.want || got > Rules {
			t.Errorf("%s: RulesNeeded() = %d, want %d and at most %d", c.name, got, c.want, Rules)
		}
	}
}
