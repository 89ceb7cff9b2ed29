package revocation

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const testIssuer = "https://idp.example.com/"

var (
	testNow       = time.Date(2026, 11, 24, 7, 0, 0, 250_000_000, time.UTC)
	testRetention = 720 * time.Hour
)

func rawJWT(payload string) string {
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(`{"alg":"RS256"}`)) + "." + enc([]byte(payload)) + "." + enc([]byte("signature"))
}

func accept(body string) (Revocation, []Fault) {
	r, faults := ParseRequest([]byte(body))
	if faults != nil {
		return Revocation{}, faults
	}
	return r.Accept(testNow, testRetention, "alice")
}

func TestRequestDefaults(t *testing.T) {
	nextSecond := testNow.Truncate(time.Second).Add(time.Second)
	exp := testNow.Add(time.Hour).Truncate(time.Second)
	tokenWithID := rawJWT(fmt.Sprintf(`{"iss":%q,"jti":"j1","exp":%d}`, testIssuer, exp.Unix()))
	tests := []struct {
		name, body string
		kind       Kind
		before     time.Time // zero: any iat
		expires    time.Time
	}{
		{"claims", `{"issuer":"https://idp.example.com/","claims":{"sub":"alice"}}`, KindClaims, nextSecond, testNow.Add(testRetention)},
		{"all", `{"issuer":"https://idp.example.com/","all":true}`, KindAll, nextSecond, testNow.Add(testRetention)},
		{"claims with jti", `{"issuer":"https://idp.example.com/","claims":{"jti":"x","sub":"alice"}}`, KindClaims, time.Time{}, testNow.Add(testRetention)},
		{"claims with sid", `{"issuer":"https://idp.example.com/","claims":{"sid":"s1"}}`, KindClaims, time.Time{}, testNow.Add(testRetention)},
		{"claims with sid and sub", `{"issuer":"https://idp.example.com/","claims":{"sid":"s1","sub":"alice"}}`, KindClaims, time.Time{}, testNow.Add(testRetention)},
		{"claims with sid, issued_before given", `{"issuer":"https://idp.example.com/","claims":{"sid":"s1"},"issued_before":"2026-11-20T00:00:00Z"}`, KindClaims,
			time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC), testNow.Add(testRetention)},
		{"kid", `{"issuer":"https://idp.example.com/","kid":"k1"}`, KindKeyID, time.Time{}, testNow.Add(testRetention)},
		{"the longest kid that a token can name", `{"issuer":"https://idp.example.com/","kid":"` + strings.Repeat("🔑", MaxKeyID) + `"}`, KindKeyID, time.Time{}, testNow.Add(testRetention)},
		{"block", `{"issuer":"https://idp.example.com/","claims":{"sub":"alice"},"block":true}`, KindClaims, time.Time{}, testNow.Add(testRetention)},
		{"issued_before given", `{"issuer":"https://idp.example.com/","kid":"k1","issued_before":"2026-11-20T00:00:00.5Z"}`, KindKeyID,
			time.Date(2026, 11, 20, 0, 0, 0, 5e8, time.UTC), testNow.Add(testRetention)},
		{"expires_at given", `{"issuer":"https://idp.example.com/","all":true,"expires_at":"2026-11-25T00:00:00+01:00"}`, KindAll, nextSecond,
			time.Date(2026, 11, 24, 23, 0, 0, 0, time.UTC)},
		{"token with jti", fmt.Sprintf(`{"token":%q}`, tokenWithID), KindClaims, time.Time{}, exp.Add(time.Minute)},
		{"token without jti", fmt.Sprintf(`{"token":%q}`, rawJWT(fmt.Sprintf(`{"iss":%q,"exp":%d}`, testIssuer, exp.Unix()))), KindToken, time.Time{}, exp.Add(time.Minute)},
		{"token without exp", fmt.Sprintf(`{"token":%q}`, rawJWT(fmt.Sprintf(`{"iss":%q}`, testIssuer))), KindToken, time.Time{}, testNow.Add(testRetention)},
		{"token that lives as long as the retention", fmt.Sprintf(`{"token":%q}`, rawJWT(fmt.Sprintf(`{"iss":%q,"exp":%d}`, testIssuer, testNow.Add(testRetention).Unix()))),
			KindToken, time.Time{}, testNow.Add(testRetention)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, faults := accept(tt.body)
			if faults != nil {
				t.Fatalf("%s: faults %q, want none", tt.body, faults)
			}
			var before Micros
			if !tt.before.IsZero() {
				before = MicrosOf(tt.before)
			}
			if r.Issuer != testIssuer || r.Target.Kind != tt.kind || r.Before != before || r.ExpiresAt != MicrosOf(tt.expires) {
				t.Errorf("%s: kind %d, before %v, expires %v, issuer %q; want %d, %v, %v, %q", tt.body,
					r.Target.Kind, r.Before.Time(), r.ExpiresAt.Time(), r.Issuer, tt.kind, before.Time(), tt.expires, testIssuer)
			}
			if r.CreatedBy != "alice" || !r.CreatedAt.Equal(testNow) {
				t.Errorf("%s: created by %q at %v, want alice at %v", tt.body, r.CreatedBy, r.CreatedAt, testNow)
			}
		})
	}
}

// TestIssuedBeforeIsTheNextWholeSecond accepts a request on a whole second. The
// next second counts, because tokens issued within this one have the same iat.
func TestIssuedBeforeIsTheNextWholeSecond(t *testing.T) {
	whole := testNow.Truncate(time.Second)
	r := Request{Issuer: testIssuer, All: true}
	got, faults := r.Accept(whole, testRetention, "a")
	if want := whole.Add(time.Second); faults != nil || got.Before != MicrosOf(want) {
		t.Errorf("accepted at %v: before %v, faults %q; want %v, none", whole, got.Before.Time(), faults, want)
	}
}

// TestTokenIsReducedToItsIdentity shows that a revocation keeps the jti of a
// token, or else its hash, and nothing more.
func TestTokenIsReducedToItsIdentity(t *testing.T) {
	raw := rawJWT(`{"iss":"https://idp.example.com/","sub":"alice","exp":1795510800}`)
	r, faults := accept(fmt.Sprintf(`{"token":%q}`, raw))
	want := Target{Kind: KindToken, Token: sha256.Sum256([]byte(raw[:strings.LastIndexByte(raw, '.')]))}
	if faults != nil || fmt.Sprint(r.Target) != fmt.Sprint(want) {
		t.Errorf("token without jti: target %v, faults %q; want the SHA-256 of header.payload, %v", r.Target, faults, want)
	}
	r, faults = accept(fmt.Sprintf(`{"token":%q}`, rawJWT(`{"iss":"https://idp.example.com/","jti":"j1","exp":1795510800}`)))
	v, _ := ValueOf("j1")
	if faults != nil || !slices.Equal(r.Target.Claims, []Claim{{"jti", v}}) {
		t.Errorf("token with jti j1: claims %v, faults %q; want the jti alone", r.Target.Claims, faults)
	}
}

// TestTokenExpiryIsExact shows that the admin API reads a time as a replica does:
// exactly. A float64 would make this exp the next microsecond.
func TestTokenExpiryIsExact(t *testing.T) {
	r, faults := accept(fmt.Sprintf(`{"token":%q}`, rawJWT(`{"iss":"https://idp.example.com/","exp":1795510800.0000009}`)))
	if want := Micros(1795510800_000000).Time().Add(tokenGrace); faults != nil || !r.ExpiresAt.Time().Equal(want) {
		t.Errorf("exp 1795510800.0000009: the revocation ends at %v (faults %v), want %v", r.ExpiresAt.Time(), faults, want)
	}
}

func TestRequestFaults(t *testing.T) {
	const iss = `"issuer":"https://idp.example.com/",`
	tests := []struct {
		name, body string
		members    []string // that the faults must name; they may name no others
	}{
		{"not JSON", `{`, []string{""}},
		{"an array", `[]`, []string{""}},
		{"a second object", `{"issuer":"https://idp.example.com/","all":true}{}`, []string{""}},
		{"nothing", ``, []string{""}},
		{"nothing revoked", `{"issuer":"https://idp.example.com/"}`, []string{""}},
		{"unknown member", `{` + iss + `"all":true,"exipres_at":"x"}`, []string{"exipres_at"}},
		{"member in another case", `{` + iss + `"All":true}`, []string{"All"}},
		{"several at once", `{` + iss + `"all":1,"block":"x","reason":7,"foo":{"a":[1]}}`, []string{"all", "block", "reason", "foo"}},
		{"duplicate member", `{` + iss + `"all":true,"all":true}`, []string{"all"}},
		{"duplicate claim", `{` + iss + `"claims":{"sub":"a","sub":"b"}}`, []string{"claims.sub"}},
		{"invalid UTF-8", `{` + iss + "\"claims\":{\"sub\":\"\xff\"}}", []string{"claims.sub"}},
		{"two forms", `{` + iss + `"all":true,"kid":"k"}`, []string{"all"}},
		{"all false", `{` + iss + `"all":false,"kid":"k"}`, []string{"all"}},
		{"no claims", `{` + iss + `"claims":{}}`, []string{"claims"}},
		{"claims an array", `{` + iss + `"claims":[]}`, []string{"claims"}},
		{"claim null", `{` + iss + `"claims":{"sub":null}}`, []string{"claims.sub"}},
		{"claim an object", `{` + iss + `"claims":{"sub":{"a":1}}}`, []string{"claims.sub"}},
		{"claim empty", `{` + iss + `"claims":{"sub":""}}`, []string{"claims.sub"}},
		{"claim without a name", `{` + iss + `"claims":{"":"x"}}`, []string{"claims."}},
		{"iss as a claim", `{` + iss + `"claims":{"iss":"https://idp.example.com/"}}`, []string{"claims.iss"}},
		{"claim too long", `{` + iss + `"claims":{"sub":"` + strings.Repeat("x", MaxValue+1) + `"}}`, []string{"claims.sub"}},
		{"scope of two words", `{` + iss + `"claims":{"scope":"a b"}}`, []string{"claims.scope"}},
		{"kid empty", `{` + iss + `"kid":""}`, []string{"kid"}},
		{"kid of 257 characters", `{` + iss + `"kid":"` + strings.Repeat("é", 257) + `"}`, []string{"kid"}},
		{"kid a number", `{` + iss + `"kid":5}`, []string{"kid"}},
		{"no issuer", `{"all":true}`, []string{"issuer"}},
		{"issuer with a space at the end", `{"issuer":"idp ","all":true}`, []string{"issuer"}},
		{"issuer with a colon, and no URI", `{"issuer":"10.0.0.1:80","all":true}`, []string{"issuer"}},
		{"issuer a number", `{"issuer":1,"all":true}`, []string{"issuer"}},
		{"issued_before no time", `{` + iss + `"all":true,"issued_before":"yesterday"}`, []string{"issued_before"}},
		{"issued_before a number", `{` + iss + `"all":true,"issued_before":1795510800}`, []string{"issued_before"}},
		{"issued_before 1970", `{` + iss + `"all":true,"issued_before":"1970-01-01T00:00:00Z"}`, []string{"issued_before"}},
		{"issued_before the zero time, which would count as left out", `{` + iss + `"all":true,"issued_before":"0001-01-01T00:00:00Z"}`, []string{"issued_before"}},
		{"expires_at the zero time", `{` + iss + `"all":true,"expires_at":"0001-01-01T00:00:00Z"}`, []string{"expires_at"}},
		{"issued_before and block", `{` + iss + `"all":true,"block":true,"issued_before":"2026-11-24T07:00:00Z"}`, []string{"issued_before"}},
		{"expires_at now", `{` + iss + `"all":true,"expires_at":"2026-11-24T07:00:00.25Z"}`, []string{"expires_at"}},
		{"expires_at in the past", `{` + iss + `"all":true,"expires_at":"2025-01-01T00:00:00Z"}`, []string{"expires_at"}},
		{"expires_at beyond the retention", `{` + iss + `"all":true,"expires_at":"2026-12-24T07:00:00.251Z"}`, []string{"expires_at"}},
		{"reason with a line break", `{` + iss + `"all":true,"reason":"a\nb"}`, []string{"reason"}},
		{"reason with a right-to-left override", `{` + iss + `"all":true,"reason":"gpj\u202Eexe"}`, []string{"reason"}},
		{"reason with a line separator", `{` + iss + `"all":true,"reason":"a\u2028b"}`, []string{"reason"}},
		{"reason with a C1 control", `{` + iss + `"all":true,"reason":"a\u009bb"}`, []string{"reason"}},
		{"claim's name with a right-to-left override", `{` + iss + `"claims":{"s\u202Eub":"a"}}`, []string{"claims.s\ufffdub"}},
		{"reason too long", `{` + iss + `"all":true,"reason":"` + strings.Repeat("x", MaxReason+1) + `"}`, []string{"reason"}},
		{"token no JWT", `{"token":"abc"}`, []string{"token"}},
		{"token with bearer", `{"token":"Bearer a.b.c"}`, []string{"token"}},
		{"token with a line break", fmt.Sprintf(`{"token":%q}`, rawJWT(`{"iss":"https://idp.example.com/"}`)+"\n"), []string{"token"}},
		{"token whose exp is a text", fmt.Sprintf(`{"token":%q}`, rawJWT(`{"iss":"https://idp.example.com/","exp":"1795510800"}`)), []string{"token"}},
		{"token whose exp is 0", fmt.Sprintf(`{"token":%q}`, rawJWT(`{"iss":"https://idp.example.com/","exp":0}`)), []string{"token"}},
		{"token with a name in two cases", fmt.Sprintf(`{"token":%q}`, rawJWT(`{"iss":"https://idp.example.com/","jti":"a","JTI":"b"}`)), []string{"token"}},
		{"token of no issuer", fmt.Sprintf(`{"token":%q}`, rawJWT(`{"sub":"x"}`)), []string{"token"}},
		{"token with iss twice", fmt.Sprintf(`{"token":%q}`, rawJWT(`{"iss":"https://a.example/","iss":"https://b.example/"}`)), []string{"token"}},
		{"token whose issuer has a colon and is no URI", fmt.Sprintf(`{"token":%q}`, rawJWT(`{"iss":"10.0.0.1:80"}`)), []string{"token"}},
		{"token expired", fmt.Sprintf(`{"token":%q}`, rawJWT(`{"iss":"https://idp.example.com/","exp":1000}`)), []string{"token"}},
		{"token beyond the retention", fmt.Sprintf(`{"token":%q}`, rawJWT(`{"iss":"https://idp.example.com/","exp":2000000000}`)), []string{"token"}},
		{"token of another issuer", fmt.Sprintf(`{"issuer":"https://other.example/","token":%q}`, rawJWT(`{"iss":"https://idp.example.com/"}`)), []string{"issuer"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, faults := accept(tt.body)
			var members []string
			for _, f := range faults {
				members = append(members, f.Member)
				if f.Message == "" {
					t.Errorf("%s: got no message of the fault of %q, want one", tt.body, f.Member)
				}
			}
			if !slices.Equal(members, tt.members) {
				t.Errorf("%.300s: faults %q, want faults of %q", tt.body, faults, tt.members)
			}
		})
	}
}

func TestRequestIsReadBackAsWritten(t *testing.T) {
	sub, _ := ValueOf("alice")
	n, _ := ValueOf(json.Number("1.50"))
	want := Request{Issuer: testIssuer, Claims: []Claim{{"n", n}, {"sub", sub}}, Block: true, ExpiresAt: testNow, Reason: "ü"}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatalf("Marshal(%+v): got %v, want nil", want, err)
	}
	got, faults := ParseRequest(b)
	if faults != nil || fmt.Sprint(*got) != fmt.Sprint(want) {
		t.Errorf("ParseRequest(%s) = %+v, faults %q; want %+v", b, got, faults, want)
	}
}

// FuzzRequest shows that no text makes ParseRequest or Accept panic, and that an
// accepted revocation keeps the rules of one.
func FuzzRequest(f *testing.F) {
	f.Add(`{"issuer":"https://idp.example.com/","claims":{"sub":"alice","n":1e3,"b":true},"issued_before":"2026-11-24T07:00:01Z"}`)
	f.Add(fmt.Sprintf(`{"token":%q}`, rawJWT(`{"iss":"https://idp.example.com/","jti":"j","exp":1795510800.5}`)))
	f.Add(`{"all":true,"all":true}`)
	f.Fuzz(func(t *testing.T, body string) {
		r, faults := ParseRequest([]byte(body))
		if (r == nil) != (faults != nil) {
			t.Fatalf("ParseRequest(%q) = %v, faults %q; want one of them", body, r, faults)
		}
		if r == nil {
			return
		}
		rev, faults := r.Accept(testNow, testRetention, "f")
		if faults != nil {
			return
		}
		if rev.ExpiresAt <= MicrosOf(testNow) || rev.ExpiresAt > MicrosOf(testNow.Add(testRetention)) {
			t.Errorf("Accept(%q) expires at %v, want after %v and within %v", body, rev.ExpiresAt.Time(), testNow, testRetention)
		}
		if rev.Issuer == "" || rev.Target.Kind == 0 || rev.Block && rev.Before != 0 || rev.Before < 0 {
			t.Errorf("Accept(%q) = %+v, want an issuer, a kind, and no instant beside block", body, rev)
		}
		rev.Entry()
	})
}

// A token of SPIFFE has no iss. Its revocation is for the trust domain of its sub.
func TestTokenOfSPIFFE(t *testing.T) {
	for _, body := range []string{`{"token":%q}`, `{"issuer":"spiffe://example.org","token":%q}`} {
		r, faults := accept(fmt.Sprintf(body, rawJWT(`{"sub":"spiffe://example.org/a"}`)))
		if len(faults) > 0 || r.Issuer != "spiffe://example.org" || r.Target.Kind != KindToken {
			t.Errorf("%s: got issuer %q, kind %d and faults %v, want the trust domain and a token", body, r.Issuer, r.Target.Kind, faults)
		}
	}
	if _, faults := accept(fmt.Sprintf(`{"issuer":"spiffe://other.org","token":%q}`, rawJWT(`{"sub":"spiffe://example.org/a"}`))); len(faults) != 1 {
		t.Errorf("another trust domain: got faults %v, want one", faults)
	}
}
