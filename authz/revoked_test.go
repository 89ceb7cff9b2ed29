package authz

import (
	"crypto/elliptic"
	"crypto/sha256"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/revocation"
)

func TestRevoked(t *testing.T) {
	key := edKey()
	o := options(t, key)
	o.Revocations = following(t, revoked("sub", "mallory"))
	o.Policies = map[string]Policy{DefaultPolicy: {}, "public": {TokenOptional: true}}
	a := authorizer(t, o)
	if d := a.Authorize(t.Context(), carrying(key.token(nil))); d.Reason != OK || d.RevocationID != (revocation.ID{}) {
		t.Errorf("another subject: got %+v, want %s without a revocation", d, OK)
	}
	for _, policy := range []string{DefaultPolicy, "public"} {
		d := a.Authorize(t.Context(), carrying(key.token(map[string]any{"sub": "mallory"})).under(policy))
		if d.Reason != Revoked || d.Allow || d.RevocationID != (revocation.ID{Revision: 3, Index: 1}) || d.Revision != 7 || d.Subject != "mallory" {
			t.Errorf("policy %s: got %+v, want %s of mallory by r3.1 at revision 7", policy, d, Revoked)
		}
	}
}

// Numbers and booleans are revoked, and shown, by their text, and a client by each
// claim that issuers write it in.
func TestRevokedByTheShownText(t *testing.T) {
	key := edKey()
	for _, c := range []struct {
		claim, value string
		token        map[string]any
		shown        func(*Decision) string
	}{
		{"sub", "12345", map[string]any{"sub": 12345}, func(d *Decision) string { return d.Subject }},
		{"sub", "12345", map[string]any{"sub": "12345"}, func(d *Decision) string { return d.Subject }},
		{"jti", "9007199254740993", map[string]any{"jti": 9007199254740993}, func(d *Decision) string { return d.TokenID }},
		{"sid", "7", map[string]any{"sid": 7}, func(d *Decision) string { return d.Facts.Session }},
		{"client_id", "17", map[string]any{"client_id": 17}, func(d *Decision) string { return d.Facts.Clients.First() }},
		{"client_id", "app", map[string]any{"client_id": nil, "azp": "app"}, func(d *Decision) string { return d.Facts.Clients.First() }},
		{"client_id", "app", map[string]any{"client_id": nil, "cid": "app"}, func(d *Decision) string { return d.Facts.Clients.First() }},
		{"client_id", "app", map[string]any{"client_id": nil, "appid": "app"}, func(d *Decision) string { return d.Facts.Clients.First() }},
		{"admin", "true", map[string]any{"admin": true}, nil},
	} {
		o := options(t, key)
		o.Revocations = following(t, revoked(c.claim, c.value))
		d := authorizer(t, o).Authorize(t.Context(), carrying(key.token(c.token)))
		if d.Reason != Revoked || c.shown != nil && c.shown(&d) != c.value {
			t.Errorf("%s=%s and a token with %v: got %+v with facts %+v, want %s, and the value shown", c.claim, c.value, c.token, d, d.Facts, Revoked)
		}
	}
}

// Each kind of revocation reaches the token, and not the one beside it.
func TestRevokedByEachKind(t *testing.T) {
	key := ecKey()
	now := time.Now().Truncate(time.Second)
	token := key.token(map[string]any{"iat": now.Unix() - 10})
	hash := sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')]))
	beside := map[string]string{
		"another token":   key.token(map[string]any{"jti": "t2", "iat": now.Unix() - 10}),
		"issued later":    key.token(map[string]any{"iat": now.Unix()}),
		"another key":     rsaKey().token(nil),
		"another issuer":  key.token(map[string]any{"iss": other}),
		"without an iat":  key.token(map[string]any{"iat": nil}),
		"signed the same": malleated(t, token),
	}
	before := revocation.MicrosOf(now.Add(-5 * time.Second))
	for _, c := range []struct {
		name   string
		target revocation.Target
		before revocation.Micros
		also   []string // of beside
	}{
		{"the token", revocation.Target{Kind: revocation.KindToken, Token: hash}, 0, []string{"signed the same"}},
		{"the key", revocation.Target{Kind: revocation.KindKeyID, KeyID: "ec1"}, 0, []string{"another token", "issued later", "without an iat", "signed the same"}},
		{"everything", revocation.Target{Kind: revocation.KindAll}, 0, []string{"another token", "issued later", "another key", "without an iat", "signed the same"}},
		{"everything until then", revocation.Target{Kind: revocation.KindAll}, before, []string{"another token", "another key", "without an iat", "signed the same"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := revocation.Revocation{ID: revocation.ID{Revision: 3}, Issuer: idp, Target: c.target, Before: c.before, ExpiresAt: revocation.MicrosOf(now.Add(time.Hour))}
			o := options(t, key, rsaKey())
			o.Issuers = append(o.Issuers, Issuer{Name: other, Keys: ringOf(key), Audiences: []string{"api"}, MaxLifetime: time.Hour})
			o.Revocations = following(t, r.Entry())
			a := authorizer(t, o)
			wantReason(t, "the token itself", a.Authorize(t.Context(), carrying(token)), Revoked)
			for name, token := range beside {
				want := OK
				if slices.Contains(c.also, name) {
					want = Revoked
				}
				wantReason(t, name, a.Authorize(t.Context(), carrying(token)), want)
			}
		})
	}
}

// A thief with a stolen key leaves its kid out. The token counts as signed under
// the kid of the key that verified it, in revocations and in observations.
func TestRevokedKeyWithoutItsKid(t *testing.T) {
	stolen, good := newEd25519("stolen"), newEd25519("good")
	r := revocation.Revocation{
		ID: revocation.ID{Revision: 3}, Issuer: idp, ExpiresAt: revocation.MicrosOf(time.Now().Add(time.Hour)),
		Target: revocation.Target{Kind: revocation.KindKeyID, KeyID: "stolen"},
	}
	o := options(t, good, stolen)
	o.Revocations = following(t, r.Entry())
	a := authorizer(t, o)
	for _, c := range []struct {
		name string
		by   signer
		kid  any
		want Reason
	}{
		{"the stolen key, by name", stolen, "stolen", Revoked},
		{"the stolen key, without a name", stolen, nil, Revoked},
		{"the stolen key, by another's name", stolen, "good", BadSignature},
		{"the good key, by name", good, "good", OK},
		{"the good key, without a name", good, nil, OK},
	} {
		d := a.Authorize(t.Context(), carrying(c.by.typed(map[string]any{"kid": c.kid}, nil)))
		if d.Reason != c.want || c.want != BadSignature && (d.Facts == nil || d.Facts.KeyID != c.by.kid) {
			t.Errorf("%s: got %+v with facts %+v, want %s under kid %s", c.name, d, d.Facts, c.want, c.by.kid)
		}
	}
}

// malleated returns a token with its second valid ES256 signature, (r, n-s).
func malleated(t *testing.T, raw string) string {
	t.Helper()
	dot := strings.LastIndexByte(raw, '.')
	signature, err := b64.DecodeString(raw[dot+1:])
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).SetBytes(signature[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(signature[32:])
	return raw[:dot+1] + b64.EncodeToString(signature)
}
