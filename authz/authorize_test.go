package authz

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"pgregory.net/rapid"

	"rescind/jwks"
	"rescind/revocation"
	"rescind/revocation/replica"
)

func TestAuthorize(t *testing.T) {
	key, stranger := edKey(), newEd25519("ed1")
	a := authorizer(t, options(t, key))
	now := time.Now().Unix()
	with := func(name string, v any) string { return key.token(map[string]any{name: v}) }
	typed := func(typ any) string { return key.typed(map[string]any{"typ": typ}, nil) }
	header := changed(map[string]any{"alg": key.alg, "kid": key.kid}, nil)
	for _, c := range []struct {
		name, token string
		want        Reason
	}{
		{"a good token", key.token(nil), OK},
		{"no token", "", NoToken},
		{"nonsense", "nonsense", Malformed},

		{"another issuer", with("iss", "https://evil.example/"), UntrustedIssuer},
		{"the issuer without its slash", with("iss", strings.TrimSuffix(idp, "/")), UntrustedIssuer},
		{"the issuer in another case", with("iss", strings.ToUpper(idp)), UntrustedIssuer},
		{"an empty issuer", with("iss", ""), UntrustedIssuer},
		{"no issuer", with("iss", nil), UntrustedIssuer},

		{"another kid", key.typed(map[string]any{"kid": "ed2"}, nil), UnknownKey},
		{"no kid", key.typed(map[string]any{"kid": nil}, nil), OK},
		{"no kid, signed by a stranger", stranger.typed(map[string]any{"kid": nil}, nil), BadSignature},
		{"somebody else's key under the kid", stranger.token(nil), BadSignature},

		{"expired", with("exp", now-40), Expired},
		{"expired, within the leeway", with("exp", now-20), OK},
		{"exp 0", with("exp", 0), Expired},
		{"no exp", with("exp", nil), MissingClaim},
		{"not yet valid", with("nbf", now+60), NotYetValid},
		{"not yet valid, within the leeway", with("nbf", now+20), OK},
		{"valid in the year 36812", with("nbf", int64(1)<<40), NotYetValid},
		{"valid since long", with("nbf", 0), OK},
		{"issued in the future", key.token(map[string]any{"iat": now + 60, "exp": now + 600}), NotYetValid},
		{"issued in the future, within the leeway of exp and nbf", key.token(map[string]any{"iat": now + 20, "exp": now + 600}), NotYetValid},
		{"no iat", with("iat", nil), OK},

		{"as long a life as may be", key.token(map[string]any{"iat": now, "exp": now + 24*3600}), OK},
		{"too long a life", key.token(map[string]any{"iat": now, "exp": now + 24*3600 + 1}), LifetimeTooLong},
		{"too long a life, most of it past", key.token(map[string]any{"iat": now - 24*3600, "exp": now + 60}), LifetimeTooLong},
		{"too long a life, of no iat", key.token(map[string]any{"iat": nil, "exp": now + 24*3600 + 40}), LifetimeTooLong},
		{"a life just short enough, of no iat", key.token(map[string]any{"iat": nil, "exp": now + 24*3600 - 10}), OK},
		{"the longest life", with("exp", int64(1)<<40), LifetimeTooLong},

		{"one audience of several", with("aud", []any{"billing", "api"}), OK},
		{"another audience", with("aud", "billing"), WrongAudience},
		{"several others", with("aud", []any{"billing", "ap", "apis"}), WrongAudience},
		{"an audience in another case", with("aud", "API"), WrongAudience},
		{"no audience", with("aud", nil), WrongAudience},
		{"an empty audience", with("aud", ""), WrongAudience},
		{"an empty list", with("aud", []any{}), WrongAudience},
		{"a number", with("aud", 1), WrongAudience},
		{"an object", with("aud", map[string]any{"api": true}), WrongAudience},
		{"a list with a number", with("aud", []any{"api", 1}), WrongAudience},

		{"typ JWT", typed("JWT"), OK},
		{"typ jwt", typed("jwt"), OK},
		{"typ at+jwt", typed("at+jwt"), OK},
		{"typ application/at+JWT", typed("application/at+JWT"), OK},
		{"an ID token that says so", typed("id+jwt"), WrongType},
		{"a logout token", typed("logout+jwt"), WrongType},
		{"a security event", typed("secevent+jwt"), WrongType},
		{"a DPoP proof", typed("dpop+jwt"), WrongType},
		{"a logout token that calls itself JWT", key.typed(map[string]any{"typ": "JWT"}, map[string]any{"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}), WrongType},
		{"a logout token without a type", with("events", map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}), WrongType},
		{"a claim of that name which is something else", with("events", []any{"concert"}), OK},
		{"typ application/x/at+jwt", typed("application/x/at+jwt"), WrongType},

		// golang-jwt accepts these. The reader of tokens does not.
		{"crit", key.typed(map[string]any{"crit": []string{"exp"}}, nil), Malformed},
		{"b64", key.typed(map[string]any{"b64": false}, nil), Malformed},
		{"nbf beyond int64", key.sign(header, `{"iss":"`+idp+`","aud":"api","exp":`+soon()+`,"nbf":9223372036854775808}`), Malformed},
		{"payload null", key.sign(header, `null`), Malformed},
		{"a duplicate member", key.sign(header, `{"iss":"https://evil.example/","iss":"`+idp+`","aud":"api","exp":`+soon()+`}`), Malformed},
		{"SUB", key.sign(header, `{"iss":"`+idp+`","aud":"api","sub":"alice","SUB":"root","exp":`+soon()+`}`), Malformed},
		{"iſs", key.sign(header, `{"iſs":"`+idp+`","aud":"api","exp":`+soon()+`}`), Malformed},
		{"LF in a segment", strings.Replace(key.token(nil), ".", ".\n", 1), Malformed},
		{"CR in a segment", strings.Replace(key.token(nil), ".", "\r.", 1), Malformed},
		{"invalid UTF-8", key.sign(header, `{"iss":"`+idp+`","aud":"api","sub":"`+"\xff"+`","exp":`+soon()+`}`), Malformed},
		{"20 MiB", key.sign(header, `{"x":"`+strings.Repeat("x", 20<<20)+`"}`), BadRequest},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := a.Authorize(t.Context(), carrying(c.token))
			if d.Reason != c.want || d.Allow != (c.want == OK) {
				t.Fatalf("got %+v, want %s", d, c.want)
			}
			if !d.Allow && len(d.Set)+len(d.Remove)+len(d.LeftOut) > 0 {
				t.Errorf("a denial sets %q, removes %q and leaves out %q, want no change of headers", d.Set, d.Remove, d.LeftOut)
			}
			if d.ID == "" || d.Policy != DefaultPolicy || d.Revision != 7 {
				t.Errorf("got ID %q, policy %q and revision %d, want an ID, %q and 7", d.ID, d.Policy, d.Revision, DefaultPolicy)
			}
		})
	}
}

func soon() string { return new(big.Int).SetInt64(time.Now().Unix() + 60).String() }

// A decision names the subject and the ID of a token only once its signature has
// been verified.
func TestSubjectIsVerified(t *testing.T) {
	key := edKey()
	a := authorizer(t, options(t, key))
	for _, c := range []struct {
		name, token     string
		issuer, subject string
	}{
		{"a good token", key.token(nil), idp, "alice"},
		{"expired", key.token(map[string]any{"exp": 1}), idp, "alice"},
		{"a bad signature", newEd25519(key.kid).token(nil), idp, ""},
		{"an unknown issuer", key.token(map[string]any{"iss": "https://evil.example/"}), "", ""},
		{"a subject that is no string", key.token(map[string]any{"sub": 17}), idp, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := a.Authorize(t.Context(), carrying(c.token))
			if d.Issuer != c.issuer || d.Subject != c.subject || (d.TokenID != "") != (c.name == "a subject that is no string" || c.subject != "") {
				t.Errorf("got issuer %q, subject %q and ID %q, want issuer %q, subject %q, and an ID if the signature is good", d.Issuer, d.Subject, d.TokenID, c.issuer, c.subject)
			}
		})
	}
}

// Each algorithm verifies with its key, and with no other kind of key.
func TestAlgorithms(t *testing.T) {
	ec := func(curve elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	p256, p384, p521 := ec(elliptic.P256()), ec(elliptic.P384()), ec(elliptic.P521())
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ed := edKey().private
	for _, c := range []struct {
		name   string
		signer signer
		alg    string // in the header, if it is another
		want   Reason
	}{
		{"RS256", signer{"RS256", "k", rsaKey().private}, "", OK},
		{"RS384", signer{"RS384", "k", rsaKey().private}, "", OK},
		{"RS512", signer{"RS512", "k", rsaKey().private}, "", OK},
		{"PS256", signer{"PS256", "k", rsaKey().private}, "", OK},
		{"PS384", signer{"PS384", "k", rsaKey().private}, "", OK},
		{"PS512", signer{"PS512", "k", rsaKey().private}, "", OK},
		{"ES256", signer{"ES256", "k", p256}, "", OK},
		{"ES384", signer{"ES384", "k", p384}, "", OK},
		{"ES512", signer{"ES512", "k", p521}, "", OK},
		{"EdDSA", signer{"EdDSA", "k", ed}, "", OK},
		{"Ed25519, its name in RFC 9864", signer{"Ed25519", "k", ed}, "", OK},
		{"RSA of 1024 bits", signer{"RS256", "k", small}, "", UnknownKey},
		{"RS256 that says PS256", signer{"RS256", "k", rsaKey().private}, "PS256", BadSignature},
		{"RS256 that says RS384", signer{"RS256", "k", rsaKey().private}, "RS384", BadSignature},
		{"a P-256 key that says ES512", signer{"ES256", "k", p256}, "ES512", UnknownKey},
		{"an RSA key that says ES256", signer{"RS256", "k", rsaKey().private}, "ES256", UnknownKey},
		{"none", signer{"EdDSA", "k", ed}, "none", UnsupportedAlgorithm},
		{"NoNe", signer{"EdDSA", "k", ed}, "NoNe", UnsupportedAlgorithm},
		{"HS256", signer{"EdDSA", "k", ed}, "HS256", UnsupportedAlgorithm},
		{"rs256", signer{"RS256", "k", rsaKey().private}, "rs256", UnsupportedAlgorithm},
		{"RSA-OAEP", signer{"RS256", "k", rsaKey().private}, "RSA-OAEP", UnsupportedAlgorithm},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := map[string]any{}
			if c.alg != "" {
				header["alg"] = c.alg
			}
			a := authorizer(t, options(t, c.signer))
			wantReason(t, c.name, a.Authorize(t.Context(), carrying(c.signer.typed(header, nil))), c.want)
		})
	}
	t.Run("HS256 with the public key as the secret", func(t *testing.T) {
		public := edKey().private.Public().(ed25519.PublicKey)
		token := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"iss": idp, "aud": "api", "exp": time.Now().Unix() + 60})
		token.Header["kid"] = edKey().kid
		raw, err := token.SignedString([]byte(public))
		if err != nil {
			t.Fatal(err)
		}
		wantReason(t, "HS256 by the public key", authorizer(t, options(t)).Authorize(t.Context(), carrying(raw)), UnsupportedAlgorithm)
	})
	t.Run("a PSS salt of another length", func(t *testing.T) {
		for alg, hash := range map[string]crypto.Hash{"PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512} {
			key := signer{alg, "k", rsaKey().private}
			raw := key.token(nil)
			signed := raw[:strings.LastIndexByte(raw, '.')]
			digest := hash.New()
			digest.Write([]byte(signed))
			for salt, want := range map[int]Reason{rsa.PSSSaltLengthEqualsHash: OK, hash.Size() - 1: BadSignature, 0: BadSignature} {
				o := &rsa.PSSOptions{SaltLength: salt}
				if salt == 0 {
					o.SaltLength = rsa.PSSSaltLengthAuto // as long as may be
				}
				signature, err := rsa.SignPSS(rand.Reader, rsaKey().private.(*rsa.PrivateKey), hash, digest.Sum(nil), o)
				if err != nil {
					t.Fatal(err)
				}
				wantReason(t, fmt.Sprintf("%s, salt of %d", alg, salt), authorizer(t, options(t, key)).Authorize(t.Context(), carrying(signed+"."+b64.EncodeToString(signature))), want)
			}
		}
	})
}

// A token that cannot be accepted causes no fetch of keys.
func TestKeysAreAskedForLast(t *testing.T) {
	key := edKey()
	o := options(t, key)
	keys := ringOf(key)
	o.Issuers[0].Keys = keys
	o.Issuers[0].Algorithms = []string{"ES256"}
	a := authorizer(t, o)
	for _, token := range []string{key.token(nil), key.typed(map[string]any{"alg": "HS512", "kid": "hidden"}, nil), key.typed(map[string]any{"alg": "none"}, nil), "x.y.z", key.token(map[string]any{"iss": "x"})} {
		if d := a.Authorize(t.Context(), carrying(token)); d.Allow {
			t.Errorf("%s: got %+v, want a denial", token, d)
		}
	}
	if len(keys.asked) > 0 {
		t.Errorf("keys asked for %q, want no question", keys.asked)
	}
	wantReason(t, "an accepted algorithm", a.Authorize(t.Context(), carrying(ecKey().token(nil))), UnknownKey)
	if want := []string{"ec1/ES256"}; !slices.Equal(keys.asked, want) {
		t.Errorf("keys asked for %q, want %q", keys.asked, want)
	}
}

// A key of one issuer verifies no token of another, also under the same kid.
func TestIssuersDoNotShareKeys(t *testing.T) {
	mine, theirs := newEd25519("k"), newEd25519("k")
	o := options(t, mine)
	o.Issuers = append(o.Issuers, Issuer{Name: other, Keys: ringOf(theirs), Audiences: []string{"api"}, MaxLifetime: time.Hour})
	a := authorizer(t, o)
	for _, c := range []struct {
		name  string
		token string
		want  Reason
	}{
		{"mine", mine.token(nil), OK},
		{"theirs", theirs.token(map[string]any{"iss": other}), OK},
		{"mine that says theirs", mine.token(map[string]any{"iss": other}), BadSignature},
		{"theirs that says mine", theirs.token(nil), BadSignature},
	} {
		wantReason(t, c.name, a.Authorize(t.Context(), carrying(c.token)), c.want)
	}
}

func TestTwoKeysUnderOneKid(t *testing.T) {
	one, two := newEd25519("k"), newEd25519("k")
	a := authorizer(t, options(t, one, two))
	for i, s := range []signer{one, two} {
		wantReason(t, fmt.Sprintf("key %d of the kid", i), a.Authorize(t.Context(), carrying(s.token(nil))), OK)
	}
	wantReason(t, "a stranger's key", a.Authorize(t.Context(), carrying(newEd25519("k").token(nil))), BadSignature)
}

func TestIssuerConditions(t *testing.T) {
	key := edKey()
	o := options(t, key)
	o.Issuers[0].RequiredClaims = []string{"jti", "sub"}
	o.Issuers[0].Claims = Conditions{"typ": values(t, "Bearer")}
	o.Issuers[0].TokenTypes = []string{"JWT"}
	a := authorizer(t, o)
	header := map[string]any{"typ": "JWT"}
	for _, c := range []struct {
		name            string
		header, changes map[string]any
		want            Reason
	}{
		{"all of them", header, map[string]any{"typ": "Bearer"}, OK},
		{"no jti", header, map[string]any{"typ": "Bearer", "jti": nil}, MissingClaim},
		{"an ID token", header, map[string]any{"typ": "ID"}, ClaimRefused},
		{"no claim typ", header, nil, ClaimRefused},
		{"no header typ", nil, map[string]any{"typ": "Bearer"}, WrongType},
		{"another header typ", map[string]any{"typ": "at+jwt"}, map[string]any{"typ": "Bearer"}, WrongType},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantReason(t, c.name, a.Authorize(t.Context(), carrying(key.typed(c.header, c.changes))), c.want)
		})
	}
	t.Run("a required claim that is null", func(t *testing.T) {
		raw := key.sign(`{"alg":"EdDSA","kid":"ed1","typ":"JWT"}`, `{"iss":"`+idp+`","aud":"api","typ":"Bearer","sub":"a","jti":null,"exp":`+soon()+`}`)
		wantReason(t, "jti null", a.Authorize(t.Context(), carrying(raw)), MissingClaim)
	})
}

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

// A token without a kid is tried against four keys, and not against five.
func TestTokensWithoutAKid(t *testing.T) {
	signers := []signer{newEd25519("a"), newEd25519("b"), newEd25519("c"), newEd25519("d"), newEd25519("e")}
	for n, want := range map[int]Reason{1: OK, 4: OK, 5: AmbiguousKey} {
		a := authorizer(t, options(t, signers[:n]...))
		for _, s := range signers[:n] {
			input := fmt.Sprintf("%d keys, signed by %s", n, s.kid)
			wantReason(t, input, a.Authorize(t.Context(), carrying(s.typed(map[string]any{"kid": nil}, nil))), want)
			wantReason(t, input+", with its kid", a.Authorize(t.Context(), carrying(s.token(nil))), OK)
		}
	}
}

// A control endpoint that has been silent for too long makes decisions stale.
func TestStaleness(t *testing.T) {
	for _, c := range []struct {
		name      string
		limit     time.Duration
		deny      bool
		silent    time.Duration
		want      Reason
		wantStale bool
	}{
		{"fresh", time.Minute, true, 10 * time.Second, OK, false},
		{"overdue, to be allowed", time.Minute, false, 2 * time.Minute, OK, true},
		{"overdue, to be denied", time.Minute, true, 2 * time.Minute, Stale, true},
		{"stale without a limit, to be allowed", 0, true, 2 * time.Minute, OK, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, err := replica.Open(replica.Options{MaxStaleness: c.limit})
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = f.Close() }()
				load(t, f, revoked("sub", "mallory"))
				key := edKey()
				o := options(t, key)
				o.Revocations, o.DenyOverdue = f, c.deny
				a := authorizer(t, o)
				time.Sleep(c.silent)
				if d := a.Authorize(t.Context(), carrying(key.token(nil))); d.Reason != c.want || d.Stale != c.wantStale {
					t.Errorf("a good token: got %s, stale %v; want %s, stale %v", d.Reason, d.Stale, c.want, c.wantStale)
				}
				if d := a.Authorize(t.Context(), carrying(key.token(map[string]any{"sub": "mallory"}))); d.Reason != Revoked || d.Stale != c.wantStale {
					t.Errorf("a revoked token: got %s, stale %v; want %s, stale %v", d.Reason, d.Stale, Revoked, c.wantStale)
				}
			})
		})
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

// A failed look-up denies.
func TestFailedLookUps(t *testing.T) {
	key := edKey()
	unready, err := replica.Open(replica.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unready.Close() })
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   Reason
	}{
		{"keys unavailable", func(o *Options) { o.Issuers[0].Keys = &ring{err: jwks.ErrUnavailable} }, KeysUnavailable},
		{"the caller has gone", func(o *Options) { o.Issuers[0].Keys = &ring{err: context.Canceled} }, KeysUnavailable},
		{"any other error", func(o *Options) { o.Issuers[0].Keys = &ring{err: errors.New("disk on fire")} }, Internal},
		{"a panic", func(o *Options) { o.Issuers[0].Keys = &ring{panic: "oh"} }, Internal},
		{"no revocations yet", func(o *Options) { o.Revocations = unready }, NotReady},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			o := options(t, key)
			o.Logger = slog.New(slog.NewJSONHandler(&log, nil))
			c.change(&o)
			d := authorizer(t, o).Authorize(t.Context(), carrying(key.token(nil)))
			if d.Reason != c.want || d.Allow || len(d.Set) > 0 {
				t.Errorf("got %+v, want %s", d, c.want)
			}
			if panicked := c.name == "a panic"; (log.Len() > 0) != panicked {
				t.Errorf("logged %q, want a line: %v", &log, panicked)
			}
		})
	}
	t.Run("two arrays of 500 elements that are looked up together", func(t *testing.T) {
		r := revocation.Revocation{
			ID: revocation.ID{Revision: 3}, Issuer: idp, ExpiresAt: revocation.MicrosOf(time.Now().Add(time.Hour)),
			Target: revocation.Target{Kind: revocation.KindClaims, Claims: []revocation.Claim{{Name: "a", Value: textValue("x")}, {Name: "b", Value: textValue("x")}}},
		}
		o := options(t, key)
		o.Revocations = following(t, r.Entry())
		a := authorizer(t, o)
		for _, c := range []struct {
			elements int
			want     Reason
			detail   string
		}{{10, OK, ""}, {500, Malformed, revocation.ErrTooManyCombinations.Error()}} {
			long := make([]any, c.elements)
			for i := range long {
				long[i] = i
			}
			d := a.Authorize(t.Context(), carrying(key.token(map[string]any{"a": long, "b": long})))
			if d.Reason != c.want || d.Allow != (c.want == OK) || d.Detail != c.detail {
				t.Errorf("%d elements each: got %+v, want %s with the detail %q", c.elements, d, c.want, c.detail)
			}
			if !d.Allow && !strings.Contains(d.Answer().Description, "arrays are too long") {
				t.Errorf("%d elements each: the answer says %q, want the true reason", c.elements, d.Answer().Description)
			}
		}
	})
	t.Run("a bad token is still the token's fault", func(t *testing.T) {
		o := options(t, key)
		o.Revocations = unready
		wantReason(t, "exp 1", authorizer(t, o).Authorize(t.Context(), carrying(key.token(map[string]any{"exp": 1}))), Expired)
	})
}

// Only a token without any fault is allowed, in all combinations of faults.
func TestOneFaultDenies(t *testing.T) {
	key, stranger := edKey(), newEd25519("ed1")
	a := authorizer(t, options(t, key))
	now := time.Now().Unix()
	good := map[string][]any{"aud": {"api", []any{"x", "api"}}, "exp": {now + 60, now + 3600}, "nbf": {now - 5, nil}, "iss": {idp}, "iat": {now, now - 5}, "cnf": {nil}, "typ": {nil, "JWT", "at+jwt"}}
	bad := map[string][]any{"aud": {"x", nil, 1}, "exp": {1, nil, "1", now + 100*24*3600}, "nbf": {now + 600, "x", -1}, "iss": {other, nil, 1}, "iat": {now + 600, true}, "cnf": {map[string]any{"jkt": "x"}}, "typ": {"logout+jwt", 1, ""}}
	names := slices.Sorted(func(yield func(string) bool) {
		for n := range good {
			if !yield(n) {
				return
			}
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		header, claims, faults := map[string]any{}, map[string]any{}, 0
		for _, n := range names {
			from := good
			if rapid.IntRange(0, 9).Draw(t, n+" is bad") == 0 {
				from, faults = bad, faults+1
			}
			v := rapid.SampledFrom(from[n]).Draw(t, n)
			if n == "typ" {
				header[n] = v
			} else {
				claims[n] = v
			}
		}
		by := key
		if rapid.IntRange(0, 9).Draw(t, "signed by a stranger") == 0 {
			by, faults = stranger, faults+1
		}
		d := a.Authorize(context.Background(), carrying(by.typed(header, claims)))
		if d.Allow != (faults == 0) {
			t.Fatalf("header %v, claims %v, %d faults: got %s, allowed %v; want a denial if there are faults", header, claims, faults, d.Reason, d.Allow)
		}
	})
}

func TestFaultyOptions(t *testing.T) {
	good := Issuer{Name: idp, Keys: &ring{}, Audiences: []string{"api"}, MaxLifetime: time.Hour}
	change := func(f func(*Issuer)) []Issuer {
		i := good
		f(&i)
		return []Issuer{i}
	}
	for _, c := range []struct {
		name, fault string
		options     Options
	}{
		{"no issuer", "no issuer", Options{}},
		{"twice", "twice", Options{Issuers: []Issuer{good, good}}},
		{"no name", "name is empty", Options{Issuers: change(func(i *Issuer) { i.Name = "" })}},
		{"no keys", "no keys", Options{Issuers: change(func(i *Issuer) { i.Keys = nil })}},
		{"no audiences", "any_audience", Options{Issuers: change(func(i *Issuer) { i.Audiences = nil })}},
		{"audiences and any", "any_audience", Options{Issuers: change(func(i *Issuer) { i.AnyAudience = true })}},
		{"an empty audience", "audiences has an empty element", Options{Issuers: change(func(i *Issuer) { i.Audiences = []string{""} })}},
		{"no algorithms", "algorithms is empty", Options{Issuers: change(func(i *Issuer) { i.Algorithms = []string{} })}},
		{"none", `"none"`, Options{Issuers: change(func(i *Issuer) { i.Algorithms = []string{"RS256", "none"} })}},
		{"HS256", `"HS256"`, Options{Issuers: change(func(i *Issuer) { i.Algorithms = []string{"HS256"} })}},
		{"no token types", "token_types is empty", Options{Issuers: change(func(i *Issuer) { i.TokenTypes = []string{} })}},
		{"logout tokens", "logout+jwt", Options{Issuers: change(func(i *Issuer) { i.TokenTypes = []string{"application/Logout+JWT"} })}},
		{"no lifetime", "max_lifetime", Options{Issuers: change(func(i *Issuer) { i.MaxLifetime = 0 })}},
		{"negative leeway", "leeway", Options{Issuers: change(func(i *Issuer) { i.Leeway = -1 })}},
		{"too much leeway", "leeway", Options{Issuers: change(func(i *Issuer) { i.Leeway = MaxLeeway + 1 })}},
		{"negative iat_leeway", "iat_leeway", Options{Issuers: change(func(i *Issuer) { i.IatLeeway = -1 })}},
		{"iat_leeway above leeway", "iat_leeway", Options{Issuers: change(func(i *Issuer) { i.Leeway, i.IatLeeway = time.Second, 2*time.Second })}},
		{"an empty required claim", "required_claims has an empty element", Options{Issuers: change(func(i *Issuer) { i.RequiredClaims = []string{""} })}},
		{"a condition without values", "at least one value", Options{Issuers: change(func(i *Issuer) { i.Claims = Conditions{"typ": nil} })}},
		{"a policy for an unknown issuer", other, Options{Policies: map[string]Policy{"p": {Issuers: []string{other}}}}},
		{"a scope that breaks out", "cannot be a scope", Options{Policies: map[string]Policy{"p": {Scopes: []string{`a" b`}}}}},
		{"a negative age", "max_age", Options{Policies: map[string]Policy{"p": {MaxAge: -1}}}},
		{"a policy's empty audience", "audiences has an empty element", Options{Policies: map[string]Policy{"p": {Audiences: []string{""}}}}},
		{"a header that is none", "x y", Options{Headers: Headers{Claims: map[string]string{"x y": "sub"}}}},
		{"no revocations", "no revocations", Options{Issuers: []Issuer{good}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.fault != "no revocations" {
				c.options.Revocations = following(t)
			}
			a, err := New(c.options)
			if a != nil || err == nil || !strings.Contains(err.Error(), c.fault) {
				t.Errorf("New: got %v and error %v, want an error with %q", a, err, c.fault)
			}
		})
	}
}

func BenchmarkAuthorize(b *testing.B) {
	for _, key := range []signer{rsaKey(), ecKey(), edKey()} {
		b.Run(key.alg, func(b *testing.B) {
			a := authorizer(b, options(b, key))
			r := carrying(key.token(map[string]any{"realm_access": map[string]any{"roles": []string{"a", "b", "c"}}, "azp": "web", "sid": "3f2a", "email": "alice@example.com"}))
			b.ReportAllocs()
			for b.Loop() {
				if d := a.Authorize(context.Background(), r); !d.Allow {
					b.Fatalf("%+v", d)
				}
			}
		})
	}
	b.Run("bad signature", func(b *testing.B) {
		a := authorizer(b, options(b, edKey()))
		r := carrying(newEd25519("ed1").token(nil))
		b.ReportAllocs()
		for b.Loop() {
			if d := a.Authorize(context.Background(), r); d.Allow {
				b.Fatalf("%+v", d)
			}
		}
	})
}
