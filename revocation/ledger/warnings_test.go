package ledger

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"rescind/revocation/insight"
	"rescind/revocation/ledger/ledgertest"
)

// A name with dots that no token carries gets a warning with the JSON Pointer that
// was probably meant. Where a token carries it, or a replica cannot tell, there is
// none.
func TestNamesWithDotsAreWarnedOf(t *testing.T) {
	const names = `"realm_access.roles":"admin"`
	nothing := func(insight.ImpactQuery) insight.Weight { return insight.Weight{} }
	for _, c := range []struct {
		name   string
		claims []string
		ask    Ask
		want   []string
	}{
		{"no token carries it", []string{names}, (&scales{weigh: nothing}).ask, []string{"realm_access.roles"}},
		{"beside a subject", []string{names + `,"sub":"alice"`}, (&scales{weigh: nothing}).ask, []string{"realm_access.roles"}},
		{"several lines", []string{names, `"realm_access.roles":"user"`, `"a.b":1`}, (&scales{weigh: nothing}).ask, []string{"realm_access.roles", "a.b"}},
		{"no replica", []string{names}, nil, []string{"realm_access.roles"}},
		{"a replica that does not answer", []string{names}, (&scales{weigh: nothing, silent: 1}).ask, nil},
		{"a token carries it", []string{names}, (&scales{weigh: func(insight.ImpactQuery) insight.Weight { return insight.Weight{Partial: true} }}).ask, nil},
		{"a pointer", []string{`"/realm_access/roles":"admin"`}, (&scales{weigh: nothing}).ask, nil},
		{"a URL", []string{`"https://example.com/roles":"admin"`}, (&scales{weigh: nothing}).ask, nil},
		{"a plain name", []string{`"department":"x"`}, (&scales{weigh: nothing}).ask, nil},
	} {
		l, stop := run(t, ledgertest.New(), ledgertest.NewClock().Now)
		a := NewAuthority(l, AuthorityOptions{Ask: c.ask})
		order := &Order{Action: ActRevoke, Confirm: true}
		for _, claims := range c.claims {
			order.Lines = append(order.Lines, Line{Body: fmt.Appendf(nil, `{"issuer":%q,"claims":{%s}}`, issuerA, claims)})
		}
		if len(order.Lines) > 1 {
			order.Action = ActImport
		}
		caller := &Caller{Name: "o", Roles: []Role{Operator}}
		dry, err := a.Impact(t.Context(), caller, order)
		if err != nil {
			t.Fatalf("%s: got the dry run refused with %v, want it answered", c.name, err)
		}
		done, err := a.Revoke(t.Context(), caller, order)
		if err != nil {
			t.Fatalf("%s: got the order refused with %v, want it accepted", c.name, err)
		}
		if !slices.Equal(dry.Warnings, done.Warnings) || len(done.Warnings) != len(c.want) {
			t.Errorf("%s: a dry run warns %q, the revocation %q, want one for each of %q", c.name, dry.Warnings, done.Warnings, c.want)
		}
		for i, want := range c.want {
			pointer := "/" + strings.ReplaceAll(want, ".", "/")
			if i < len(done.Warnings) && (!strings.Contains(done.Warnings[i], want) || !strings.HasSuffix(done.Warnings[i], pointer)) {
				t.Errorf("%s: the warning is %q, want it to name %s and %s", c.name, done.Warnings[i], want, pointer)
			}
		}
		stop()
	}
}
