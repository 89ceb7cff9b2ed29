package revocation

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"rescind/jwks/jwt"
)

// payload decodes the claims of a token as replicas do.
func payload(t testing.TB, text string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var claims map[string]any
	if err := d.Decode(&claims); err != nil {
		t.Fatalf("%s: got %v, want a JSON object", text, err)
	}
	return claims
}

// denies reports whether the revocation of claims denies a token with this payload.
func denies(t testing.TB, claims, token string) bool {
	t.Helper()
	r, faults := accept(fmt.Sprintf(`{"issuer":%q,"claims":%s}`, testIssuer, claims))
	if faults != nil {
		t.Fatalf("revocation of %s: faults %q, want none", claims, faults)
	}
	e := r.Entry()
	budget, found := LookupBudget, false
	err := (&Token{Issuer: testIssuer, Claims: payload(t, token)}).Digests(&e.Shape, &budget, func(d Digest) bool { found = found || d == e.Digest; return true })
	if err != nil {
		t.Fatalf("look-up of %s under %s: got %v, want nil", token, claims, err)
	}
	return found
}

// TestMatchingByKind has a row for each kind of claim and value, with the version
// of the rules that a replica needs for it.
func TestMatchingByKind(t *testing.T) {
	for _, c := range []struct {
		revocation string
		rules      int
		denied     []string
		allowed    []string
	}{
		{`{"sub":"12345"}`, 3, []string{`{"sub":"12345"}`, `{"sub":12345}`, `{"sub":12345.0}`, `{"sub":1.2345e4}`, `{"sub":[12345]}`}, []string{`{"sub":"012345"}`, `{"sub":"12345.0"}`, `{"sub":123456}`, `{"sub":-12345}`}},
		{`{"sub":12345}`, 3, []string{`{"sub":"12345"}`, `{"sub":12345}`}, []string{`{"sub":"12345.0"}`}},
		{`{"sub":12345.0}`, 3, []string{`{"sub":"12345"}`, `{"sub":12345}`}, nil},
		{`{"sub":9007199254740993}`, 3, []string{`{"sub":"9007199254740993"}`, `{"sub":9007199254740993}`}, []string{`{"sub":9007199254740992}`, `{"sub":"9007199254740992"}`}},
		{`{"sub":"9007199254740993"}`, 3, []string{`{"sub":9007199254740993}`}, []string{`{"sub":9007199254740992}`, `{"sub":9007199254740994}`}},
		{`{"sub":"123456789012345678901234567890123456789"}`, 3, []string{`{"sub":123456789012345678901234567890123456789}`}, []string{`{"sub":123456789012345678901234567890123456788}`}},
		{`{"sub":"1e3"}`, 1, []string{`{"sub":"1e3"}`}, []string{`{"sub":1e3}`, `{"sub":1000}`}},
		{`{"sub":1e3}`, 3, []string{`{"sub":1000}`, `{"sub":"1000"}`}, []string{`{"sub":"1e3"}`}},
		{`{"sub":"0"}`, 3, []string{`{"sub":-0}`, `{"sub":0}`, `{"sub":0.00}`}, []string{`{"sub":"-0"}`, `{"sub":false}`}},
		{`{"sub":"-0"}`, 1, []string{`{"sub":"-0"}`}, []string{`{"sub":0}`, `{"sub":-0}`}},
		{`{"sub":"1.5"}`, 3, []string{`{"sub":1.5}`, `{"sub":1.50}`, `{"sub":15e-1}`}, []string{`{"sub":"1.50"}`}},
		{`{"sub":"1e25"}`, 3, []string{`{"sub":1e25}`, `{"sub":10000000000000000000000000}`}, []string{`{"sub":"10000000000000000000000000"}`}},
		{`{"sub":"alice"}`, 1, []string{`{"sub":"alice"}`, `{"sub":["bob","alice"]}`}, []string{`{"sub":"Alice"}`, `{"sub":{"a":"alice"}}`, `{"sub":null}`, `{}`}},
		{`{"sub":"3f2e1d00-1111-4222-8333-444455556666"}`, 1, []string{`{"sub":"3f2e1d00-1111-4222-8333-444455556666"}`}, nil},
		{`{"admin":"true"}`, 3, []string{`{"admin":true}`, `{"admin":"true"}`, `{"admin":[false,true]}`}, []string{`{"admin":false}`, `{"admin":"True"}`, `{"admin":1}`}},
		{`{"admin":true}`, 3, []string{`{"admin":true}`, `{"admin":"true"}`}, []string{`{"admin":false}`}},
		{`{"tenant":5,"sub":"7"}`, 3, []string{`{"tenant":"5","sub":7}`, `{"tenant":[4,"5"],"sub":[7,8]}`}, []string{`{"tenant":5}`, `{"tenant":5,"sub":8}`}},

		{`{"client_id":"app"}`, 3, []string{`{"client_id":"app"}`, `{"azp":"app"}`, `{"cid":"app"}`, `{"appid":"app"}`, `{"client_id":"web","azp":"app"}`, `{"appid":["web","app"]}`}, []string{`{"client":"app"}`, `{"azp":"web"}`, `{"aud":"app"}`}},
		{`{"/client_id":17}`, 3, []string{`{"azp":"17"}`, `{"cid":17}`}, nil},
		{`{"azp":"app"}`, 1, []string{`{"azp":"app"}`}, []string{`{"client_id":"app"}`, `{"cid":"app"}`}},
		{`{"client_id":"app","sub":"alice"}`, 3, []string{`{"azp":"app","sub":"alice"}`}, []string{`{"azp":"app","sub":"bob"}`}},

		{`{"scope":"pay"}`, 1, []string{`{"scope":"pay"}`, `{"scope":"openid pay"}`, `{"scope":["openid pay","x"]}`}, []string{`{"scope":"openid"}`, `{"scp":"pay"}`, `{"scope":"repay"}`}},
		{`{"scp":"pay"}`, 3, []string{`{"scp":"pay"}`, `{"scp":"openid  pay"}`, `{"scp":["openid pay"]}`}, []string{`{"scp":"openid"}`, `{"scope":"pay"}`}},
		{`{"scope":"7"}`, 3, []string{`{"scope":"openid 7"}`, `{"scope":[7]}`}, nil},

		{`{"/realm_access/roles":"admin"}`, 3, []string{`{"realm_access":{"roles":["user","admin"]}}`, `{"realm_access":{"roles":"admin"}}`}, []string{`{"realm_access":{"roles":["user"]}}`, `{"/realm_access/roles":"admin"}`, `{"realm_access.roles":"admin"}`, `{"realm_access":"admin"}`, `{"realm_access":{"roles":{"admin":1}}}`, `{"realm_access":null}`}},
		{`{"/a/b":17}`, 3, []string{`{"a":{"b":"17"}}`, `{"a":{"b":17}}`}, []string{`{"a":{"b":18}}`}},
		{`{"/groups/0":"ops"}`, 3, []string{`{"groups":["ops","dev"]}`, `{"groups":{"0":"ops"}}`}, []string{`{"groups":["dev","ops"]}`, `{"groups":[]}`, `{"groups":"ops"}`}},
		{`{"/a~1b/c~0d":"x"}`, 3, []string{`{"a/b":{"c~d":"x"}}`}, []string{`{"a~1b":{"c~0d":"x"}}`, `{"a":{"b":{"c~d":"x"}}}`}},
		{`{"/sub":"alice"}`, 1, []string{`{"sub":"alice"}`}, []string{`{"/sub":"alice"}`}},
		{`{"/https:~1~1example.com~1roles":"admin"}`, 1, []string{`{"https://example.com/roles":["admin"]}`}, nil},
		{`{"https://example.com/roles":"admin"}`, 1, []string{`{"https://example.com/roles":["admin"]}`}, nil},
		{`{"/~1odd":"x"}`, 1, []string{`{"/odd":"x"}`}, []string{`{"odd":"x"}`}},
		{`{"/a/b":"x","sub":"alice"}`, 3, []string{`{"a":{"b":"x"},"sub":"alice"}`}, []string{`{"a":{"b":"x"},"sub":"bob"}`, `{"a":{},"sub":"alice"}`}},
	} {
		r, faults := accept(fmt.Sprintf(`{"issuer":%q,"claims":%s}`, testIssuer, c.revocation))
		if faults != nil || r.Target.RulesNeeded() != c.rules {
			t.Errorf("%s needs rules %d, faults %q; want %d", c.revocation, r.Target.RulesNeeded(), faults, c.rules)
		}
		for _, token := range c.denied {
			if !denies(t, c.revocation, token) {
				t.Errorf("revocation of %s: the token %s is allowed, want it denied", c.revocation, token)
			}
		}
		for _, token := range c.allowed {
			if denies(t, c.revocation, token) {
				t.Errorf("revocation of %s: the token %s is denied, want it allowed", c.revocation, token)
			}
		}
	}
}

// TestOneClaimHasOneName shows that a claim is stored under one name and follows
// one rule, for every spelling in a request.
func TestOneClaimHasOneName(t *testing.T) {
	for _, c := range []struct{ spelled, stored string }{
		{"sub", "sub"}, {"/sub", "sub"}, {"/a~1b", "a/b"}, {"a/b", "a/b"}, {"/a/b", "/a/b"}, {"/~1a", "/~1a"}, {"/m~0n", "m~n"},
	} {
		r, faults := accept(fmt.Sprintf(`{"issuer":%q,"claims":{%q:"x"}}`, testIssuer, c.spelled))
		if faults != nil || r.Target.Claims[0].Name != c.stored {
			t.Errorf("%s is stored as %+v, faults %q; want %s", c.spelled, r.Target.Claims, faults, c.stored)
			continue
		}
		shape := r.Target.Shape(testIssuer)
		if names := shape.Names(); names[0] != c.stored {
			t.Errorf("the shape of %s has the names %q, want %s", c.spelled, names, c.stored)
		}
		again, err := ReadEntries(AppendEntries(nil, []Entry{r.Entry()}))
		if err != nil || again[0] != r.Entry() {
			t.Errorf("the entry of %s is read as %+v (%v), want %+v", c.spelled, again, err, r.Entry())
		}
	}
	r, faults := accept(fmt.Sprintf(`{"issuer":%q,"claims":{"/sid":"s1"}}`, testIssuer))
	if faults != nil || r.Before != 0 {
		t.Errorf("/sid: cut-off %v, faults %q; want none, as for sid", r.Before, faults)
	}
	for _, c := range []struct{ claims, member, text string }{
		{`{"/iss":"x"}`, "claims./iss", "cannot be revoked by"},
		{`{"/iss/0":"x"}`, "claims./iss/0", "cannot be revoked by"},
		{`{"/scope":"a b"}`, "claims./scope", "single word"},
		{`{"scp":"a b"}`, "claims.scp", "single word"},
		{`{"/":"x"}`, "claims./", "names no claim"},
		{`{"/a~":"x"}`, "claims./a~", "RFC 6901"},
		{`{"` + strings.Repeat("/a", 33) + `":"x"}`, "claims." + strings.Repeat("/a", 33), "33 steps"},
		{`{"/a/` + strings.Repeat("b", MaxName-3) + `":"x"}`, "claims./a/" + strings.Repeat("b", MaxName-3), "at most 255"},
		{`{"sub":"a","/sub":"b"}`, "claims./sub", "duplicate"},
		{`{"a/b":"a","/a~1b":"b"}`, "claims./a~1b", "duplicate"},
	} {
		_, faults := accept(fmt.Sprintf(`{"issuer":%q,"claims":%s}`, testIssuer, c.claims))
		if len(faults) != 1 || faults[0].Member != c.member || !strings.Contains(faults[0].Message, c.text) {
			t.Errorf("%s: faults %q, want one of %s with %q", c.claims, faults, c.member, c.text)
		}
	}
}

// TestATokenWithANumberAsItsIDIsRevokedByTheID revokes a raw token whose jti is a
// number.
func TestATokenWithANumberAsItsIDIsRevokedByTheID(t *testing.T) {
	r, faults := accept(fmt.Sprintf(`{"token":%q}`, rawJWT(`{"iss":"https://idp.example.com/","jti":17,"exp":1795510800}`)))
	if faults != nil || r.Target.Kind != KindClaims || r.Target.Claims[0].Name != "jti" || r.Target.Claims[0].Value.String() != "17" {
		t.Errorf("token with jti 17: target %+v, faults %q; want the jti", r.Target, faults)
	}
}

// firstEditionDigests returns the digests under which the first edition looked a
// token up, as that edition computed them.
func firstEditionDigests(s Shape, claims map[string]any) []Digest {
	inputs := [][]byte{appendShape(nil, &s)}
	for name := range strings.SplitSeq(s.names, "\x00") {
		elements, ok := claims[name].([]any)
		if !ok {
			elements = []any{claims[name]}
		}
		var values []Value
		for _, e := range elements {
			if text, ok := e.(string); ok && name == "scope" {
				for word := range strings.FieldsSeq(text) {
					values = append(values, Value{'s', word})
				}
			} else if v, ok := ValueOf(e); ok {
				values = append(values, v)
			}
		}
		var next [][]byte
		for _, in := range inputs {
			for _, v := range values {
				next = append(next, appendValue(append([]byte(nil), in...), v))
			}
		}
		inputs = next
	}
	out := make([]Digest, len(inputs))
	for i, in := range inputs {
		out[i] = sum(in)
	}
	return out
}

// TestEveryEntryOfTheFirstEditionMeansTheSameOrMore shows that a token is looked up
// under each digest under which the first edition looked it up, for every shape of
// that edition. So an entry of that edition denies each token that it denied.
func TestEveryEntryOfTheFirstEditionMeansTheSameOrMore(t *testing.T) {
	names := []string{"sub", "scope", "scp", "client_id", "azp", "/odd", "/a/b", "a", "~"}
	scalar := rapid.SampledFrom([]any{"x", "17", "a b", " a  b ", "true", "", "1.0", "\u2003a", json.Number("17"), json.Number("1.0"), json.Number("-0"), json.Number("1e400"), true, nil, map[string]any{"b": "x"}})
	rapid.Check(t, func(t *rapid.T) {
		claims := map[string]any{}
		for _, name := range names {
			switch rapid.IntRange(0, 2).Draw(t, name) {
			case 1:
				claims[name] = scalar.Draw(t, "value")
			case 2:
				claims[name] = rapid.SliceOfN(scalar, 0, 3).Draw(t, "array")
			}
		}
		chosen := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"/a/b", "/odd", "a", "azp", "client_id", "scope", "scp", "sub", "~"}), 1, 3, rapid.ID).Draw(t, "names")
		var target Target
		target.Kind = KindClaims
		for _, name := range names {
			for _, c := range chosen {
				if c == name { // an entry of the first edition, as it is read now
					target.Claims = append(target.Claims, Claim{NameUnder(1, name), Value{'s', "x"}})
				}
			}
		}
		sortClaims(target.Claims)
		shape := target.Shape(testIssuer)
		slices.Sort(chosen)
		if first, err := ShapeOf(testIssuer, KindClaims, chosen); err != nil || shape != first {
			t.Fatalf("the shape of %q is %q (%v), want that of the first edition", chosen, shape.names, err)
		}
		now := map[Digest]bool{}
		budget := LookupBudget
		if err := (&Token{Issuer: testIssuer, Claims: claims}).Digests(&shape, &budget, func(d Digest) bool { now[d] = true; return true }); err != nil {
			t.Fatalf("look-up of %v under %q: got %v, want nil", claims, shape.Names(), err)
		}
		for _, d := range firstEditionDigests(shape, claims) {
			if !now[d] {
				t.Fatalf("the token %v is not looked up under a digest of the first edition for the names %q, want it looked up under each", claims, shape.Names())
			}
		}
	})
}

// TestAClientOfEveryNameIsLookedUpOnce shows that one client in four claims takes
// one digest.
func TestAClientOfEveryNameIsLookedUpOnce(t *testing.T) {
	s := claimShape(t, "client_id")
	budget, n := LookupBudget, 0
	token := &Token{Claims: map[string]any{"client_id": "app", "azp": "app", "cid": "app", "appid": "app"}}
	if err := token.Digests(&s, &budget, func(Digest) bool { n++; return true }); err != nil || n != 1 || budget != LookupBudget {
		t.Errorf("a token with one client in four claims: %d digests, %v, %d of the budget; want 1, nil, all", n, err, budget)
	}
}

// TestFollowsFrom has the equalities that each token of an issuer has if the issuer's
// configuration demands a claim.
func TestFollowsFrom(t *testing.T) {
	for _, c := range []struct {
		revoked, value string
		demanded, text string
		want           bool
	}{
		{"azp", "app", "azp", "app", true},
		{"client_id", "app", "azp", "app", true},
		{"client_id", "app", "client_id", "app", true},
		{"azp", "app", "client_id", "app", false},
		{"client_id", "web", "azp", "app", false},
		{"scope", "openid", "scope", "openid profile", true},
		{"scope", "open", "scope", "openid profile", false},
		{"level", "5", "level", "5", true},
		{"/groups/0", "ops", "groups", "ops", true},
		{"/a/b/0", "ops", "/a/b", "ops", true},
		{"/a/b", "ops", "/a/b", "ops", true},
		{"/a/bc", "ops", "/a/b", "ops", false},
	} {
		claim := Claim{c.revoked, Value{'s', c.value}}
		if got := claim.FollowsFrom(c.demanded, c.text); got != c.want {
			t.Errorf("%s=%s follows from %s=%s: %v, want %v", c.revoked, c.value, c.demanded, c.text, got, c.want)
		}
	}
}

// FuzzNestedClaims accepts a revocation of one claim of any name, sends its entry
// over the wire, and looks a token up under it. The token has the claim exactly
// where [jwt.ClaimName.In] finds it.
func FuzzNestedClaims(f *testing.F) {
	for _, name := range []string{"sub", "/sub", "/a/b", "/a/0", "/~1a", "/a~1b/~0", "//", "/a//b", "/", "\xff/a/b", "/a/\xff", "client_id", strings.Repeat("/a", 32)} {
		f.Add(name, `{"sub":"x","a":{"b":"x","":{"b":"x"}},"/a":"x","a/b":{"~":"x"},"":{"":"x"}}`)
	}
	f.Fuzz(func(t *testing.T, name, text string) {
		v := Value{'s', "x"}
		r, faults := (&Request{Issuer: testIssuer, Claims: []Claim{{name, v}}}).Accept(testNow, testRetention, "fuzz")
		if faults != nil {
			return
		}
		e := r.Entry()
		read, err := ReadEntries(AppendEntries(nil, []Entry{e}))
		if err != nil || len(read) != 1 || read[0] != e {
			t.Fatalf("%q: the entry is read as %+v (%v), want %+v", name, read, err, e)
		}
		var claims map[string]any
		if json.Unmarshal([]byte(text), &claims) != nil {
			return
		}
		n, err := jwt.ParseClaimName(name)
		if err != nil {
			t.Fatalf("%q was accepted and is no name: %v; want every accepted name to be one", name, err)
		}
		claim, _ := n.In(claims)
		budget, found := LookupBudget, false
		if err := (&Token{Issuer: testIssuer, Claims: claims}).Digests(&read[0].Shape, &budget, func(d Digest) bool { found = found || d == e.Digest; return true }); err != nil {
			return
		}
		want := claim == "x"
		if array, ok := claim.([]any); ok {
			for _, element := range array {
				want = want || element == "x"
			}
		}
		if !isWords(n.String()) && n.String() != ClientNames[0] && found != want {
			t.Fatalf("%q is %v in %s: looked up %v, want %v", name, claim, text, found, want)
		}
	})
}
