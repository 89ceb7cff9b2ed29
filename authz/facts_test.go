package authz

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"rescind/jwks"
	"rescind/revocation"
)

// These tests try the known ways around golang-jwt, and tokens of real issuers.
// Each stands beside a token that must still be accepted. The tests of keys are
// in jwks/facts_test.go.

// asked returns the reason of the decision about a token.
func asked(t *testing.T, a *Authorizer, raw string) Reason {
	t.Helper()
	return a.Authorize(t.Context(), carrying(raw)).Reason
}

// resigned returns raw with its signature changed.
func resigned(raw string, change func([]byte) []byte) string {
	dot := strings.LastIndexByte(raw, '.')
	signature, err := b64.DecodeString(raw[dot+1:])
	if err != nil {
		panic(err)
	}
	return raw[:dot+1] + b64.EncodeToString(change(signature))
}

func TestFormsOfASignature(t *testing.T) {
	ed, ec, rsa := edKey(), ecKey(), rsaKey()
	a := authorizer(t, options(t, ed, ec, rsa))
	der := func(s []byte) []byte {
		out, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(s[:32]), new(big.Int).SetBytes(s[32:])})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	zeros := func(s []byte) []byte { return make([]byte, len(s)) }
	shorter := func(s []byte) []byte { return s[:len(s)-1] }
	longer := func(s []byte) []byte { return append(s, 0) }
	padded := func(s []byte) []byte { return append([]byte{0}, s...) }
	twice := func(s []byte) []byte { return append(s, s...) }
	n := ec.private.(*ecdsa.PrivateKey).Params().N
	// r and s plus the order are the same numbers after a reduction.
	unreduced := func(s []byte) []byte {
		out := make([]byte, 66)
		new(big.Int).Add(new(big.Int).SetBytes(s[:32]), n).FillBytes(out[:33])
		new(big.Int).Add(new(big.Int).SetBytes(s[32:]), n).FillBytes(out[33:])
		return out
	}
	for _, c := range []struct {
		name   string
		by     signer
		change func([]byte) []byte
	}{
		{"DER", ec, der},
		{"ES256, zeros", ec, zeros}, {"ES256, too short", ec, shorter}, {"ES256, too long", ec, longer}, {"ES256, padded", ec, padded},
		{"ES256, twice", ec, twice}, {"ES256, not reduced", ec, unreduced},
		{"RS256, zeros", rsa, zeros}, {"RS256, too short", rsa, shorter}, {"RS256, too long", rsa, longer}, {"RS256, padded", rsa, padded},
		{"EdDSA, zeros", ed, zeros}, {"EdDSA, too short", ed, shorter}, {"EdDSA, too long", ed, longer}, {"EdDSA, twice", ed, twice},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := asked(t, a, c.by.token(nil)); got != OK {
				t.Fatalf("unchanged: got %s, want %s", got, OK)
			}
			if got := asked(t, a, resigned(c.by.token(nil), c.change)); got != BadSignature {
				t.Errorf("changed: got %s, want %s", got, BadSignature)
			}
		})
	}
}

// A key that the token holds or links to is not used.
func TestKeysInsideTheToken(t *testing.T) {
	key, mallory := edKey(), newEd25519("ed1")
	a := authorizer(t, options(t, key))
	x := b64.EncodeToString(mallory.private.Public().(ed25519.PublicKey))
	jwk := map[string]any{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "ed1"}
	for _, header := range []map[string]any{
		{"jwk": jwk}, {"jku": "https://evil.example/jwks"}, {"x5u": "https://evil.example/cert"}, {"x5c": []string{"MAA="}}, {"jwk": jwk, "kid": "evil"},
	} {
		want := BadSignature
		if header["kid"] != nil {
			want = UnknownKey
		}
		if got := asked(t, a, mallory.typed(header, nil)); got != want {
			t.Errorf("header %v: got %s, want %s", header, got, want)
		}
		delete(header, "kid")
		if got := asked(t, a, key.typed(header, nil)); got != OK {
			t.Errorf("header %v beside an honest signature: got %s, want %s", header, got, OK)
		}
	}
}

// A kid chooses among the keys of the issuer and does nothing else.
func TestHostileKids(t *testing.T) {
	key := edKey()
	keys := ringOf(key)
	o := options(t, key)
	o.Issuers[0].Keys = keys
	a := authorizer(t, o)
	for _, kid := range []string{"../../dev/null", "' OR 1=1 --", "ed1\x00", "ed1 ", "ED1", "\u0435d1", "https://evil.example/jwks", strings.Repeat("\u00e9", 256), strings.Repeat("\U0001f511", 256)} {
		if got := asked(t, a, key.typed(map[string]any{"kid": kid}, nil)); got != UnknownKey {
			t.Errorf("kid %q: got %s, want %s", kid, got, UnknownKey)
		}
		if last := keys.asked[len(keys.asked)-1]; last != kid+"/EdDSA" {
			t.Errorf("kid %q: keys asked for %q, want %q", kid, last, kid+"/EdDSA")
		}
	}
	for _, kid := range []any{strings.Repeat("\U0001f511", 257), "", 1, []string{"ed1"}, map[string]any{"ed1": 1}, true} {
		before := len(keys.asked)
		if got := asked(t, a, key.typed(map[string]any{"kid": kid}, nil)); got != Malformed || len(keys.asked) != before {
			t.Errorf("kid %v: got %s after %d questions, want %s and none", kid, got, len(keys.asked)-before, Malformed)
		}
	}
	for _, kid := range []string{"../k", "\u00e9", strings.Repeat("\U0001f511", 256)} { // an issuer may choose any kid
		odd := newEd25519(kid)
		if got := asked(t, authorizer(t, options(t, odd)), odd.token(nil)); got != OK {
			t.Errorf("a key of kid %q: got %s, want %s", kid, got, OK)
		}
	}
}

// A type is accepted only if it is exactly one of the configured types.
func TestTypes(t *testing.T) {
	key := edKey()
	o := options(t, key)
	o.Issuers[0].TokenTypes = []string{"application/At+JWT", "x/y"}
	a := authorizer(t, o)
	for _, typ := range []any{"at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt", "X/Y", "application/x/y"} {
		if got := asked(t, a, key.typed(map[string]any{"typ": typ}, nil)); got != OK {
			t.Errorf("typ %q: got %s, want %s", typ, got, OK)
		}
	}
	for _, typ := range []any{
		"JWT", nil, "at+jwt; x=y", "application/at+jwt; x=y", "application/at+jwt;charset=utf-8", " at+jwt", "at+jwt ", "at+jwt\n", "at+jwt,JWT",
		"application/application/at+jwt", "text/at+jwt", "at+jw\u0074\u0301", "at\u002bjwt\u0000", "logout+jwt", "dpop+jwt", "secevent+jwt", "id_token", "y", "/y",
	} {
		if got := asked(t, a, key.typed(map[string]any{"typ": typ}, nil)); got != WrongType {
			t.Errorf("typ %q: got %s, want %s", typ, got, WrongType)
		}
	}
	o.Issuers[0].TokenTypes = []string{""}
	a = authorizer(t, o)
	if got := asked(t, a, key.token(nil)); got != OK {
		t.Errorf("no typ where none is accepted: got %s, want %s", got, OK)
	}
	if got := asked(t, a, key.typed(map[string]any{"typ": "at+jwt"}, nil)); got != WrongType {
		t.Errorf("typ at+jwt where none is accepted: got %s, want %s", got, WrongType)
	}
}

// A verified token is looked up again for each request.
func TestRevokedBetweenTwoRequests(t *testing.T) {
	key := edKey()
	o := options(t, key)
	a := authorizer(t, o)
	raw := key.token(nil)
	for _, step := range []struct {
		change revocation.Change
		want   Reason
	}{
		{revocation.Change{Revision: 8, Added: []revocation.Entry{revoked("jti", "t1")}}, Revoked},
		{revocation.Change{Revision: 9, Removed: []revocation.Entry{revoked("jti", "t1")}}, OK},
		{revocation.Change{Revision: 10, Added: []revocation.Entry{revoked("sub", "alice")}}, Revoked},
	} {
		if step.change.Revision == 8 {
			if got := asked(t, a, raw); got != OK {
				t.Fatalf("at first: got %s, want %s", got, OK)
			}
		}
		if err := o.Revocations.Apply([]revocation.Change{step.change}); err != nil {
			t.Fatal(err)
		}
		d := a.Authorize(t.Context(), carrying(raw))
		if d.Reason != step.want || d.Revision != step.change.Revision {
			t.Errorf("at revision %d: got %s at revision %d, want %s", step.change.Revision, d.Reason, d.Revision, step.want)
		}
	}
}

// A revocation reaches tokens of its own issuer alone, because jti, sub and sid
// are unique only within an issuer.
func TestRevocationsAreOfOneIssuer(t *testing.T) {
	key := edKey()
	for _, claim := range []string{"jti", "sub", "sid"} {
		o := options(t, key)
		o.Issuers = append(o.Issuers, Issuer{Name: other, Keys: ringOf(key), Audiences: []string{"api"}, MaxLifetime: time.Hour})
		o.Revocations = following(t, revoked(claim, "same"))
		a := authorizer(t, o)
		if got := asked(t, a, key.token(map[string]any{claim: "same"})); got != Revoked {
			t.Errorf("%s: got %s, want %s", claim, got, Revoked)
		}
		if got := asked(t, a, key.token(map[string]any{claim: "same", "iss": other})); got != OK {
			t.Errorf("%s of another issuer: got %s, want %s", claim, got, OK)
		}
	}
}

// golang-jwt accepts these tokens, which is why package jwks/jwt exists. If the
// first check of a line fails, golang-jwt has repaired that line.
func TestTokensThatGolangJWTAccepts(t *testing.T) {
	key := edKey()
	header := changed(map[string]any{"alg": key.alg, "kid": key.kid}, nil)
	claims := `"iss":"` + idp + `","aud":"api","exp":` + soon()
	good := key.token(nil)
	a := authorizer(t, options(t, key))
	for name, raw := range map[string]string{
		"crit":               key.typed(map[string]any{"crit": []string{"x"}, "x": 1}, nil),
		"b64":                key.typed(map[string]any{"b64": true}, nil),
		"nbf beyond int64":   key.sign(header, `{`+claims+`,"nbf":9223372036854775808}`),
		"duplicate members":  key.sign(header, `{"iss":"https://evil.example/",`+claims+`}`),
		"LF in a segment":    good[:len(good)-4] + "\n" + good[len(good)-4:],
		"invalid UTF-8":      key.sign(header, "{"+claims+",\"sub\":\"\xff\"}"),
		"a logout token":     key.typed(map[string]any{"typ": "logout+jwt"}, nil),
		"a bound token":      key.token(map[string]any{"cnf": map[string]any{"jkt": "x"}}),
		"exp as a fraction":  key.sign(header, `{`+strings.Replace(claims, `"exp":`, `"exp":0.`, 1)+`}`),
		"exp beyond float64": key.sign(header, `{"iss":"`+idp+`","aud":"api","exp":1e400}`),
	} {
		t.Run(name, func(t *testing.T) {
			parser := jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithStrictDecoding(), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithIssuer(idp), jwt.WithAudience("api"))
			_, err := parser.ParseWithClaims(raw, jwt.MapClaims{}, func(*jwt.Token) (any, error) { return key.private.Public(), nil })
			if accepts := !strings.HasPrefix(name, "exp "); (err == nil) != accepts {
				t.Errorf("golang-jwt: got error %v, want one: %v", err, !accepts)
			}
			if d := a.Authorize(t.Context(), carrying(raw)); d.Allow {
				t.Errorf("got %+v, want a denial", d)
			}
		})
	}
}

// The tokens are those that Keycloak and oidc-provider were seen to make.
func TestRealIssuers(t *testing.T) {
	key, enc := rsaKey(), edKey()
	keycloak := func(change func(*Issuer)) *Authorizer {
		o := options(t, key)
		o.Issuers[0].Claims = Conditions{named("typ"): values(t, "Bearer")}
		change(&o.Issuers[0])
		return authorizer(t, o)
	}
	asIs := func(*Issuer) {}
	jwtTyp := map[string]any{"typ": "JWT"}
	access := map[string]any{"typ": "Bearer", "azp": "web", "sid": "s1", "aud": []any{"account", "api"}, "realm_access": map[string]any{"roles": []any{"user"}}, "email_verified": true}
	less := func(names ...string) map[string]any {
		out := map[string]any{}
		for name, v := range access {
			out[name] = v
		}
		for _, name := range names {
			out[name] = nil
		}
		return out
	}
	spaced := strings.NewReplacer(`":`, `" : `)
	for _, c := range []struct {
		name   string
		change func(*Issuer)
		token  string
		want   Reason
	}{
		{"1: an access token", asIs, key.typed(jwtTyp, access), OK},
		{"1: an ID token, told apart by the claim typ", asIs, key.typed(jwtTyp, map[string]any{"typ": "ID", "azp": "web", "nonce": "n"}), ClaimRefused},
		{"1: an ID token, told apart by aud", func(i *Issuer) { i.Claims = nil }, key.typed(jwtTyp, map[string]any{"typ": "ID", "aud": "web"}), WrongAudience},
		{"1: at+jwt, the default of oidc-provider", func(i *Issuer) { i.Claims, i.TokenTypes = nil, []string{"at+jwt"} }, key.typed(map[string]any{"typ": "at+jwt"}, nil), OK},
		{"1: an ID token beside it", func(i *Issuer) { i.Claims, i.TokenTypes = nil, []string{"at+jwt"} }, key.typed(nil, nil), WrongType},
		{"2: a lightweight token, without sub and aud", func(i *Issuer) { i.AnyAudience, i.Audiences = true, nil }, key.typed(jwtTyp, less("sub", "aud")), OK},
		{"2: the same where an audience is demanded", asIs, key.typed(jwtTyp, less("sub", "aud")), WrongAudience},
		{"2: the client is azp, not aud", asIs, key.typed(jwtTyp, map[string]any{"typ": "Bearer", "aud": nil, "azp": "api"}), WrongAudience},
		{"2: the client, as a condition", func(i *Issuer) { i.Claims[named("azp")] = values(t, "web") }, key.typed(jwtTyp, access), OK},
		{"2: another client", func(i *Issuer) { i.Claims[named("azp")] = values(t, "cron") }, key.typed(jwtTyp, access), ClaimRefused},
		{"2: client credentials, without sid", asIs, key.typed(jwtTyp, less("sid")), OK},
		{"5: spaces before colons in the header", asIs, key.sign(spaced.Replace(`{"alg":"RS256","typ":"JWT","kid":"rsa1"}`), changed(map[string]any{"iss": idp, "aud": "api", "typ": "Bearer", "exp": time.Now().Unix() + 60}, nil)), OK},
		{"5: cnf of a DPoP token, with an extra member", asIs, key.typed(jwtTyp, map[string]any{"typ": "Bearer", "cnf": map[string]any{"jkt": "x", "kid": "y"}}), Unproven},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := asked(t, keycloak(c.change), c.token); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
	t.Run("3: a refresh token causes no fetch", func(t *testing.T) {
		keys := &ring{err: jwks.ErrUnavailable}
		a := keycloak(func(i *Issuer) { i.Keys = keys })
		refresh := enc.typed(map[string]any{"alg": "HS512", "kid": "unpublished", "typ": "JWT"}, map[string]any{"typ": "Refresh"})
		if got := asked(t, a, refresh); got != UnsupportedAlgorithm || len(keys.asked) > 0 {
			t.Errorf("a refresh token: got %s and questions %q, want %s and none", got, keys.asked, UnsupportedAlgorithm)
		}
		if got := asked(t, a, key.token(nil)); got != KeysUnavailable || !slices.Equal(keys.asked, []string{"rsa1/RS256"}) {
			t.Errorf("an access token: got %s and questions %q, want %s and one for rsa1/RS256", got, keys.asked, KeysUnavailable)
		}
	})
	t.Run("2: a session ends by its sid, with any jti", func(t *testing.T) {
		o := options(t, key)
		o.Revocations = following(t, revoked("sid", "s1"))
		a := authorizer(t, o)
		for jti, want := range map[string]Reason{"a": Revoked, "b": Revoked} {
			if got := asked(t, a, key.token(map[string]any{"sid": "s1", "jti": jti})); got != want {
				t.Errorf("jti %s: got %s, want %s", jti, got, want)
			}
		}
		if got := asked(t, a, key.token(map[string]any{"sid": "s2", "jti": "a"})); got != OK {
			t.Errorf("another session: got %s, want %s", got, OK)
		}
	})
}
