package revocation

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// targets are one target of each kind, and pairs that a careless digest would
// confuse.
var targets = []struct {
	name   string
	issuer string
	target Target
}{
	{"all", testIssuer, Target{Kind: KindAll}},
	{"all of another issuer", "urn:idp", Target{Kind: KindAll}},
	{"kid", testIssuer, Target{Kind: KindKeyID, KeyID: "k1"}},
	{"another kid", testIssuer, Target{Kind: KindKeyID, KeyID: "k2"}},
	{"token", testIssuer, Target{Kind: KindToken, Token: [32]byte{1}}},
	{"a token that differs in the last byte", testIssuer, Target{Kind: KindToken, Token: [32]byte{0: 1, 31: 1}}},
	{"claim", testIssuer, claimsOf("sub", "alice")},
	{"the same text under another name", testIssuer, claimsOf("jti", "alice")},
	{"the number", testIssuer, claimsOf("n", json.Number("17"))},
	{"its string", testIssuer, claimsOf("n", "17")},
	{"the boolean", testIssuer, claimsOf("n", true)},
	{"two claims", testIssuer, claimsOf("a", "xs", "b", "y")},
	{"the same letters, divided elsewhere", testIssuer, claimsOf("a", "x", "b", "sy")},
	{"the two values swapped", testIssuer, claimsOf("a", "y", "b", "xs")},
}

// claimsOf returns a target of claims: names and values, in turn.
func claimsOf(pairs ...any) Target {
	t := Target{Kind: KindClaims}
	for i := 0; i < len(pairs); i += 2 {
		v, _ := ValueOf(pairs[i+1])
		t.Claims = append(t.Claims, Claim{pairs[i].(string), v})
	}
	return t
}

// plainDigest computes a digest from the description of its input. Logs,
// snapshots and journals hold digests of this input, so a change of the input
// would lose revocations.
func plainDigest(issuer string, t *Target) Digest {
	part := func(s string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s }
	var names []string
	values := ""
	for _, c := range t.Claims {
		names = append(names, c.Name)
		values += string(c.Value.kind) + part(c.Value.text)
	}
	switch t.Kind {
	case KindKeyID:
		values = part(t.KeyID)
	case KindToken:
		values = string(t.Token[:])
	}
	full := sha256.Sum256([]byte("rescind digest 1\x00" + string(rune(t.Kind)) + part(issuer) + part(strings.Join(names, "\x00")) + values))
	return Digest(full[:16])
}

func TestDigestsStayAsTheyWere(t *testing.T) {
	seen := map[Digest]string{}
	for _, c := range targets {
		got := c.target.digest(c.target.Shape(c.issuer))
		if want := plainDigest(c.issuer, &c.target); got != want {
			t.Errorf("%s: got the digest %x, want %x", c.name, got, want)
		}
		if other := seen[got]; other != "" {
			t.Errorf("%s: got the digest of %s, want another one", c.name, other)
		}
		seen[got] = c.name
	}
}

// TestEachKindOfTargetFindsItsTokensAlone looks one token up under each target.
func TestEachKindOfTargetFindsItsTokensAlone(t *testing.T) {
	token := Token{Issuer: testIssuer, KeyID: "k1", Hash: [32]byte{1}, Claims: map[string]any{"sub": "alice", "n": json.Number("17"), "a": "xs", "b": "y"}}
	nameless := token
	nameless.KeyID = ""
	denied := []string{"all", "kid", "token", "claim", "the number", "its string", "two claims"}
	for _, c := range targets {
		r := Revocation{Issuer: c.issuer, Target: c.target, Before: 3, ExpiresAt: 5, ID: ID{7, 2}}
		e := r.Entry()
		if e.Before != 3 || e.ExpiresAt != 5 || e.ID != (ID{7, 2}) {
			t.Errorf("%s: got the entry %+v, want before 3, expiry 5 and ID r7.2", c.name, e)
		}
		if c.issuer != token.Issuer { // a replica looks a token up under its issuer's shapes alone
			continue
		}
		want := slices.Contains(denied, c.name)
		if got := finds(t, &token, e); got != want {
			t.Errorf("%s: the token is found: %v, want %v", c.name, got, want)
		}
		if got := finds(t, &nameless, e); got != (want && c.target.Kind != KindKeyID) {
			t.Errorf("%s: the token of a key without a kid is found: %v, want %v", c.name, got, want && c.target.Kind != KindKeyID)
		}
	}
	yields := 0
	shape := Shape{Issuer: testIssuer, Kind: KindKeyID}
	if _ = nameless.Digests(&shape, new(int), func(Digest) bool { yields++; return true }); yields != 0 {
		t.Errorf("a token of a key without a kid: got %d digests of the kid, want none", yields)
	}
}

func finds(t *testing.T, token *Token, e Entry) bool {
	t.Helper()
	budget, found := LookupBudget, false
	if err := token.Digests(&e.Shape, &budget, func(d Digest) bool { found = found || d == e.Digest; return true }); err != nil {
		t.Fatalf("look-up under %+v: got %v, want no error", e.Shape, err)
	}
	return found
}

// TestLimitsOfARequest asks for revocations at a limit and one beyond it. An
// entry at the limit can be sent to a replica.
func TestLimitsOfARequest(t *testing.T) {
	claims := func(n int) (out []Claim) {
		for i := range n { // in falling order, so that Accept has to sort them
			out = append(out, claimsOf(fmt.Sprintf("c%02d", n-i), "x").Claims...)
		}
		return out
	}
	token := func(size int) string {
		raw := rawJWT(`{"iss":"urn:idp"}`) // the signature fills up the size
		return raw + strings.Repeat("A", size-len(raw))
	}
	x := func(n int) string { return strings.Repeat("x", n) }
	for _, c := range []struct {
		name    string
		limit   int
		request func(n int) Request
	}{
		{"issuer", MaxIssuer, func(n int) Request { return Request{Issuer: x(n), All: true} }},
		{"claims", MaxClaims, func(n int) Request { return Request{Issuer: "i", Claims: claims(n)} }},
		{"name", MaxName, func(n int) Request { return Request{Issuer: "i", Claims: claimsOf(x(n), "v").Claims} }},
		{"pointer", MaxName - 1, func(n int) Request { return Request{Issuer: "i", Claims: claimsOf("/a/"+x(n-3), "v").Claims} }},
		{"value", MaxValue, func(n int) Request { return Request{Issuer: "i", Claims: claimsOf("sub", x(n)).Claims} }},
		{"kid", MaxKeyID, func(n int) Request { return Request{Issuer: "i", KeyID: x(n)} }},
		{"reason", MaxReason, func(n int) Request { return Request{Issuer: "i", All: true, Reason: x(n)} }},
		{"token", MaxToken &^ 3, func(n int) Request { return Request{Token: token(n)} }},
	} {
		r := c.request(c.limit)
		got, faults := r.Accept(testNow, testRetention, "alice")
		if faults != nil {
			t.Errorf("%s of %d: got the faults %q, want none", c.name, c.limit, faults)
			continue
		}
		want := got.Entry()
		read, err := ReadEntries(AppendEntries(nil, []Entry{want}))
		if err != nil || !slices.Equal(read, []Entry{want}) {
			t.Errorf("%s of %d: got the entry back as %+v, %v, want %+v", c.name, c.limit, read, err, want)
		}
		if !slices.IsSortedFunc(got.Target.Claims, func(a, b Claim) int { return strings.Compare(a.Name, b.Name) }) {
			t.Errorf("%s of %d: got the claims %v, want them sorted", c.name, c.limit, got.Target.Claims)
		}
		r = c.request(c.limit + 1)
		if _, faults := r.Accept(testNow, testRetention, "alice"); len(faults) != 1 {
			t.Errorf("%s of %d: got the faults %q, want one", c.name, c.limit+1, faults)
		}
	}
}

// TestTokenIDsAtTheLimit revokes tokens whose jti is as long as a value may be, is
// longer, or is empty. The latter two are revoked by their hash.
func TestTokenIDsAtTheLimit(t *testing.T) {
	for _, c := range []struct {
		id   string
		kind Kind
	}{{strings.Repeat("j", MaxValue), KindClaims}, {strings.Repeat("j", MaxValue+1), KindToken}, {"", KindToken}} {
		raw := rawJWT(fmt.Sprintf(`{"iss":"urn:idp","jti":%q}`, c.id))
		r, faults := (&Request{Token: raw}).Accept(testNow, testRetention, "alice")
		if faults != nil || r.Target.Kind != c.kind {
			t.Errorf("a jti of %d bytes: got kind %d, faults %q, want kind %d", len(c.id), r.Target.Kind, faults, c.kind)
		}
		if issuer, target, err := TargetOfToken(raw); issuer != "urn:idp" || err != nil || !reflect.DeepEqual(target, r.Target) {
			t.Errorf("TargetOfToken of a jti of %d bytes: got %q, %+v, %v, want the target of a revocation, %+v", len(c.id), issuer, target, err, r.Target)
		}
	}
}

// TestEndOfATokenWithinTheGrace revokes a token that ends so near the retention
// that the grace would go beyond it. The revocation ends with the retention.
func TestEndOfATokenWithinTheGrace(t *testing.T) {
	now := testNow.Truncate(time.Second)
	for _, c := range []struct{ before, want time.Duration }{
		{tokenGrace + time.Second, -time.Second}, {tokenGrace, 0}, {tokenGrace - time.Second, 0}, {0, 0},
	} {
		latest := now.Add(testRetention)
		raw := rawJWT(fmt.Sprintf(`{"iss":"urn:idp","exp":%d}`, latest.Add(-c.before).Unix()))
		r, faults := (&Request{Token: raw}).Accept(now, testRetention, "alice")
		if want := MicrosOf(latest.Add(c.want)); faults != nil || r.ExpiresAt != want {
			t.Errorf("a token that ends %v before the retention: got the end %v, faults %q, want %v", c.before, r.ExpiresAt.Time(), faults, want.Time())
		}
	}
}

// TestAcceptedAtIsExactInMicroseconds shows that a revocation that is read back
// from the log, which keeps microseconds, equals the one that was accepted.
func TestAcceptedAtIsExactInMicroseconds(t *testing.T) {
	at := testNow.Add(1999 * time.Nanosecond).In(time.FixedZone("", 3600))
	r, faults := (&Request{Issuer: "i", All: true}).Accept(at, testRetention, "alice")
	if want := testNow.Add(time.Microsecond); faults != nil || r.CreatedAt != want {
		t.Errorf("accepted at %v: got %v, faults %q, want %v", at, r.CreatedAt, faults, want)
	}
}

func TestMicrosAreRoundedUp(t *testing.T) {
	for _, c := range []struct {
		nanos int64
		want  Micros
	}{{0, 0}, {1, 1}, {999, 1}, {1000, 1}, {1001, 2}, {-1, 0}, {-1000, -1}} {
		if got := MicrosOf(time.Unix(0, c.nanos)); got != c.want {
			t.Errorf("MicrosOf(%d ns): got %d, want %d", c.nanos, got, c.want)
		}
	}
}

func TestParseID(t *testing.T) {
	for _, want := range []ID{{1, 0}, {17, 3}, {1<<64 - 1, 1<<32 - 1}} {
		if got, err := ParseID(want.String()); got != want || err != nil {
			t.Errorf("ParseID(%s): got %v, %v, want %v", want, got, err, want)
		}
	}
	for _, s := range []string{
		"", "r", "r1", "1.0", "r1.", "r.1", "r0.0", "r0.1", "r01.0", "r1.00", "r+1.0", "r1.+0", "r-1.0", "R1.0", "r1.0 ", " r1.0", "r1.0.0",
		"r18446744073709551616.0", "r1.4294967296", "r1.4294967297", "rr1.0", "r1_0.0", "r0x1.0",
	} {
		if id, err := ParseID(s); err == nil || id != (ID{}) {
			t.Errorf("ParseID(%q): got %v, %v, want no ID and an error", s, id, err)
		}
	}
}

func TestKnownIssuers(t *testing.T) {
	whole := KnownIssuers{Settled: true, AnyReplica: true, Issuers: []AcceptedIssuer{
		{Issuer: "a"}, {Issuer: "b", AnyAudience: true}, {Issuer: "b", Audiences: []string{"x"}}, {Issuer: "c"},
	}}
	for issuer, n := range map[string]int{"a": 1, "b": 2, "c": 1, "d": 0, "": 0, "A": 0} {
		got := whole.Of(issuer)
		if len(got) != n || slices.ContainsFunc(got, func(a AcceptedIssuer) bool { return a.Issuer != issuer }) {
			t.Errorf("Of(%q): got %+v, want %d of the issuer", issuer, got, n)
		}
		if unknown := whole.Unknown(issuer); unknown != (n == 0) {
			t.Errorf("Unknown(%q): got %v, want %v", issuer, unknown, n == 0)
		}
	}
	_ = append(whole.Of("a"), AcceptedIssuer{Issuer: "written over"})
	if whole.Issuers[1].Issuer != "b" {
		t.Errorf("after an append to Of(a): got the second issuer %q, want b", whole.Issuers[1].Issuer)
	}
	for name, change := range map[string]func(*KnownIssuers){
		"not settled":                    func(k *KnownIssuers) { k.Settled = false },
		"no replica seen":                func(k *KnownIssuers) { k.AnyReplica = false },
		"a replica accepts every issuer": func(k *KnownIssuers) { k.Every = true },
	} {
		k := whole
		if change(&k); k.Unknown("d") {
			t.Errorf("%s: got that d is certainly unknown, want it uncertain", name)
		}
	}
}

// TestShapesOffAWire has the parts that no target has.
func TestShapesOffAWire(t *testing.T) {
	for _, c := range []struct {
		name   string
		issuer string
		kind   Kind
		names  []string
		ok     bool
	}{
		{"claims", "i", KindClaims, []string{"a", "b"}, true},
		{"a nested claim", "i", KindClaims, []string{"a", nestedMark + "/a/b"}, true},
		{"no names", "i", KindClaims, nil, false},
		{"names out of order", "i", KindClaims, []string{"b", "a"}, false},
		{"a name twice", "i", KindClaims, []string{"a", "a"}, false},
		{"an empty name", "i", KindClaims, []string{""}, false},
		{"a name with NUL, which could be two names", "i", KindClaims, []string{"a\x00b"}, false},
		{"a nested claim that is a member", "i", KindClaims, []string{nestedMark + "/a"}, false},
		{"a nested claim that is no pointer", "i", KindClaims, []string{nestedMark + "a"}, false},
		{"no issuer", "", KindAll, nil, false},
		{"kid with names", "i", KindKeyID, []string{"a"}, false},
		{"token with names", "i", KindToken, []string{"a"}, false},
		{"all with names", "i", KindAll, []string{"a"}, false},
		{"all", "i", KindAll, nil, true},
		{"kind 0", "i", 0, nil, false},
		{"kind 5", "i", KindAll + 1, nil, false},
	} {
		if s, err := ShapeOf(c.issuer, c.kind, c.names); (err == nil) != c.ok {
			t.Errorf("%s: got %+v, %v, want a shape: %v", c.name, s, err, c.ok)
		}
	}
}

// TestMembersOfShapes has the members by which a token is passed over. A wrong
// member would let a revoked token pass.
func TestMembersOfShapes(t *testing.T) {
	s, err := ShapeOf("i", KindClaims, []string{"/odd", "azp", "client_id", nestedMark + "/a~1b/c"})
	if err != nil {
		t.Fatalf("the shape of four claims: got %v, want no error", err)
	}
	want := [][]string{{"/odd"}, {"azp"}, {"client_id", "azp", "cid", "appid"}, {"a/b"}}
	if got := s.Members(); !reflect.DeepEqual(got, want) {
		t.Errorf("the members of %q: got %q, want %q", s.Names(), got, want)
	}
	if name, ok := s.SoleName(); ok {
		t.Errorf("four claims: got the sole name %q, want none", name)
	}
	sub := claimsOf("sub", "x")
	one := sub.Shape("i")
	if name, ok := one.SoleName(); name != "sub" || !ok {
		t.Errorf("the sole name of sub: got %q, %v, want sub, true", name, ok)
	}
	all := (&Target{Kind: KindAll}).Shape("i")
	if name, ok := all.SoleName(); ok || all.Members() != nil || all.Names() != nil {
		t.Errorf("all: got the sole name %q, %v, the members %q and the names %q, want none", name, ok, all.Members(), all.Names())
	}
}

// TestShapesAreOrdered sorts entries: those of one shape come together.
func TestShapesAreOrdered(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genShape.Draw(t, "a"), genShape.Draw(t, "b")
		if (a.Compare(b) == 0) != (a == b) || a.Compare(b) != -b.Compare(a) {
			t.Fatalf("%+v and %+v: got %d and %d, want 0 exactly for equal shapes, and opposite signs", a, b, a.Compare(b), b.Compare(a))
		}
	})
}
