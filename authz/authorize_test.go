package authz

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
		{"a subject that is a number", key.token(map[string]any{"sub": 17}), idp, "17"},
		{"a subject that is an object", key.token(map[string]any{"sub": map[string]any{"a": "b"}}), idp, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := a.Authorize(t.Context(), carrying(c.token))
			if d.Issuer != c.issuer || d.Subject != c.subject || (d.TokenID != "") != (c.name == "a subject that is an object" || c.subject != "") {
				t.Errorf("got issuer %q, subject %q and ID %q, want issuer %q, subject %q, and an ID if the signature is good", d.Issuer, d.Subject, d.TokenID, c.issuer, c.subject)
			}
		})
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

func BenchmarkAuthorize(b *testing.B) {
	for _, key := range []signer{rsaKey(), ecKey(), edKey()} {
		b.Run(key.alg, func(b *testing.B) {
			a := authorizer(b, options(b, key))
			r := carrying(key.token(map[string]any{"realm_access": map[string]any{"roles": []string{"a", "b", "c"}}, "azp": "web", "sid": "3f2a", "email": "alice@example.com"}))
			b.ReportAllocs()
			for b.Loop() {
				if d := a.Authorize(context.Background(), r); !d.Allow {
					b.Fatalf("a token signed with %s: got %+v, want allowed", key.alg, d)
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
				b.Fatalf("a token with a bad signature: got %+v, want denied", d)
			}
		}
	})
}
