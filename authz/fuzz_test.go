package authz

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
)

// Whatever an issuer signs: what is allowed here is allowed by another library
// too, that shares no code with this one, and has the subject that it reads.
func FuzzAuthorize(f *testing.F) {
	key := edKey()
	o := options(f, key)
	o.Issuers[0].MaxLifetime = 100 * 365 * 24 * time.Hour
	a := authorizer(f, o)
	const header = `{"alg":"EdDSA","kid":"ed1"}`
	for _, payload := range []string{
		`{"iss":"https://idp.example/","aud":"api","sub":"alice","exp":4102444800}`,
		`{"iss":"https://idp.example/","aud":["x","api"],"iat":1.7e9,"nbf":0,"exp":41024448e2}`,
		`{"iss":"https://idp.example/","aud":"api","exp":4102444800,"nbf":9223372036854775808}`,
		`{"iss":"https://idp.example/","aud":["api",1],"exp":4102444800}`,
		`{"iss":"x","iss":"https://idp.example/","aud":"api","exp":4102444800,"SUB":"root"}`,
		`{"iss":"https://idp.example/","aud":"api","exp":4102444800,"cnf":{"jkt":"x"}}`,
	} {
		f.Add(header, payload)
	}
	f.Add(`{"alg":"Ed25519","kid":"ed1","typ":"at+jwt"}`, `{"iss":"https://idp.example/","aud":"api","exp":4102444800}`)
	f.Add(`{"alg":"EdDSA","crit":["b64"],"b64":false}`, `{}`)
	f.Add(`{"alg":"none"}`, `{}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		raw := key.sign(header, payload)
		d := a.Authorize(t.Context(), carrying(raw))
		if d.Reason == Internal || d.Reason == KeysUnavailable {
			t.Fatalf("the token's fault became ours: %+v", d)
		}
		if !d.Allow {
			return
		}
		if strings.Contains(header, "Ed25519") {
			return // the other library has no such name
		}
		token, err := josejwt.ParseSigned(raw, []jose.SignatureAlgorithm{jose.EdDSA})
		if err != nil {
			t.Fatalf("%q %q: %v", header, payload, err)
		}
		var claims josejwt.Claims
		if err := token.Claims(key.private.Public(), &claims); err != nil {
			t.Fatalf("%q %q: %v", header, payload, err)
		}
		if err := claims.ValidateWithLeeway(josejwt.Expected{Issuer: idp, AnyAudience: josejwt.Audience{"api"}, Time: time.Now()}, 31*time.Second); err != nil {
			t.Errorf("%q %q: %v", header, payload, err)
		}
		if claims.Expiry == nil || claims.Subject != d.Subject || claims.ID != d.TokenID {
			t.Errorf("%q: read as %+v, and here as %+v", payload, claims, d)
		}
	})
}

// A hash that is found in x-forwarded-client-cert stands in it, and another
// element, or a second header, takes the certainty away.
func FuzzForwarded(f *testing.F) {
	sum := strings.Repeat("ab", 32)
	for _, value := range []string{
		"Hash=" + sum, "By=spiffe://a;Hash=" + sum + `;Subject="CN=a,O=\"b;c\"";URI=x`, "hash=" + sum, "Hash=" + sum + ",Hash=" + sum,
		`Subject="x;Hash=` + sum + `"`, "Hash=" + sum + ";Hash=" + sum, `Hash="` + sum + `"`, "", ",", ";", `"`, `\"`,
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		one := []Header{field("x-forwarded-client-cert", value)}
		got, ok := forwardedCertificate(one)
		if !ok {
			return
		}
		if !strings.Contains(strings.ToLower(value), hex.EncodeToString(got[:])) {
			t.Errorf("%x is not in %q", got, value)
		}
		for _, more := range [][]Header{append(one, one[0]), append(one, field("X-FORWARDED-CLIENT-CERT", "")), {field("x-forwarded-client-cert", value+",By=x")}, {field("x-forwarded-client-cert", "Hash="+sum+","+value)}} {
			if _, ok := forwardedCertificate(more); ok {
				t.Errorf("%q names one certificate", more)
			}
		}
	})
}
