package jwks

import (
	"crypto"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// The numbers are those of the known traps of keyfunc and jwkset. Each test shows
// that this package avoids one.

// bubble runs test on a clock of its own, with o as the issuer's server.
func bubble(t *testing.T, o *origin, test func(t *testing.T, k *Keys)) {
	bubbleWith(t, o.options(), test)
}

func bubbleWith(t *testing.T, o Options, test func(t *testing.T, k *Keys)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k, err := Open(o)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		time.Sleep(time.Millisecond) // computing takes no time on this clock
		test(t, k)
	})
}

func wantFound(t *testing.T, k *Keys, kid, alg string, want int, wantErr error) {
	t.Helper()
	keys, err := k.Find(background, kid, alg)
	if len(keys) != want || !errors.Is(err, wantErr) {
		t.Errorf("Find(%q, %s): got %d keys and error %v, want %d and %v", kid, alg, len(keys), err, want, wantErr)
	}
	for _, key := range keys {
		if !key.fits(alg) || kid != "" && key.ID != kid {
			t.Errorf("Find(%q, %s): got %+v, want a key that fits both", kid, alg, key)
		}
	}
}

// 1. The key of another issuer verifies nothing, also under the same kid.
func TestFact1KeyOfAnotherIssuer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := originOf(document(kid("a"), kid("same"))), originOf(document(kid("b"), with(kid("b"), map[string]any{"kid": "same"})))
		other := theirs.options()
		other.Issuer, other.URI = "https://other.example/", "https://other.example/jwks"
		a, b := must(Open(ours.options())), must(Open(other))
		defer a.Close()
		defer b.Close()
		synctest.Wait()
		wantFound(t, a, "a", "EdDSA", 1, nil)
		wantFound(t, b, "b", "EdDSA", 1, nil)
		wantFound(t, a, "b", "EdDSA", 0, ErrUnknownKey)
		wantFound(t, b, "a", "EdDSA", 0, ErrUnknownKey)
		x, y := must(a.Find(background, "same", "EdDSA")), must(b.Find(background, "same", "EdDSA"))
		if len(x) != 1 || len(y) != 1 || x[0].equal(y[0]) {
			t.Errorf("one kid of two issuers: found %v and %v, want one key of each", x, y)
		}
	})
}

// 2. Without a kid at most four keys are tried, and no check of a key is left
// out.
func TestFact2NoKid(t *testing.T) {
	ed, rsa := kid("ed"), jwk(rsaKey().Public(), map[string]any{"kid": "rsa"})
	four := []map[string]any{ed, kid("b"), kid("c"), kid("d")}
	for _, c := range []struct {
		name string
		keys []map[string]any
		alg  string
		want []string // kids, in the order of the document
		err  error
	}{
		{"one key", []map[string]any{ed}, "EdDSA", []string{"ed"}, nil},
		{"one key for this alg", []map[string]any{ed, rsa}, "RS256", []string{"rsa"}, nil},
		{"the same key twice", []map[string]any{ed, ed}, "EdDSA", []string{"ed"}, nil},
		{"two keys", []map[string]any{ed, kid("other")}, "EdDSA", []string{"ed", "other"}, nil},
		{"a key that has no kid either", []map[string]any{with(ed, map[string]any{"kid": nil})}, "EdDSA", []string{""}, nil},
		{"one with and one without a kid", []map[string]any{ed, with(kid("other"), map[string]any{"kid": nil})}, "EdDSA", []string{"ed", ""}, nil},
		{"four keys", four, "EdDSA", []string{"ed", "b", "c", "d"}, nil},
		{"four keys, by the other name of the alg", four, "Ed25519", []string{"ed", "b", "c", "d"}, nil},
		{"five keys", append(four, kid("e")), "EdDSA", nil, ErrAmbiguousKey},
		{"five keys, one of another type", append(four, rsa), "EdDSA", []string{"ed", "b", "c", "d"}, nil},
		{"five keys, none for this alg", append(four, kid("e")), "ES256", nil, ErrUnknownKey},
		{"two keys, one for encryption", []map[string]any{ed, with(kid("other"), map[string]any{"use": "enc"})}, "EdDSA", []string{"ed"}, nil},
		{"only one for encryption, beside another type", []map[string]any{rsa, with(ed, map[string]any{"use": "enc"})}, "EdDSA", nil, ErrUnknownKey},
		{"the alg of the JWK is another", []map[string]any{with(rsa, map[string]any{"alg": "PS256"})}, "RS256", nil, ErrUnknownKey},
		{"the alg of the JWK tells two apart", []map[string]any{with(rsa, map[string]any{"alg": "PS256"}), with(rsa, map[string]any{"alg": "RS256", "kid": "two"})}, "RS256", []string{"two"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, originOf(document(c.keys...)), func(t *testing.T, k *Keys) {
				keys, err := k.Find(background, "", c.alg)
				var kids []string
				for _, key := range keys {
					kids = append(kids, key.ID)
				}
				if !slices.Equal(kids, c.want) || !errors.Is(err, c.err) {
					t.Errorf("Find without a kid, %s: kids %q and error %v, want %q and %v", c.alg, kids, err, c.want, c.err)
				}
			})
		})
	}
}

// 3. A kid that does not exist does not use up the one fetch that an honest
// rotation needs, and no request waits for long.
func TestFact3BogusKidThenRotation(t *testing.T) {
	o := originOf(document(kid("old")))
	bubble(t, o, func(t *testing.T, k *Keys) {
		wantFound(t, k, "bogus", "EdDSA", 0, ErrUnknownKey)
		o.publish(kid("old"), kid("new"))
		rotated := time.Now()
		for {
			begun := time.Now()
			keys, err := k.Find(background, "new", "EdDSA")
			if took := time.Since(begun); took > patience {
				t.Fatalf("a request waited %s, want at most %s", took, patience)
			}
			if err == nil && len(keys) == 1 {
				break
			}
			if time.Since(rotated) > defaultMinRefreshInterval+time.Second {
				t.Fatalf("the new key is not accepted after %s (%v), want at most %s", time.Since(rotated), err, defaultMinRefreshInterval+time.Second)
			}
			time.Sleep(50 * time.Millisecond)
		}
		wantFound(t, k, "old", "EdDSA", 1, nil)
		if n := len(o.asked()); n != 3 {
			t.Errorf("%d fetches, want one at first, one for the bogus kid and one for the rotation", n)
		}
	})
}

// 4. The answers of a broken issuer do not replace keys that work.
func TestFact4BrokenAnswersChangeNothing(t *testing.T) {
	for name, a := range map[string]answer{
		"{}":                   {body: "{}"},
		"null keys":            {body: `{"keys":null}`},
		"no keys":              {body: `{"keys":[]}`},
		"only unusable keys":   {body: document(with(kid("a"), map[string]any{"use": "enc"}))},
		"HTML, with 200":       {body: "<html>maintenance</html>"},
		"half a document":      {body: document(kid("b"))[:50]},
		"nothing":              {},
		"500":                  {status: 500, body: document(kid("b"))},
		"503":                  {status: 503},
		"404":                  {status: 404, body: document(kid("b"))},
		"204":                  {status: 204},
		"down":                 {err: errDown},
		"does not answer":      {body: document(kid("b")), delay: time.Hour},
		"larger than 1 MiB":    {body: strings.Replace(document(kid("b")), "{", "{"+strings.Repeat(" ", maxDocument), 1)},
		"a body without limit": {body: strings.Repeat("[", 4*maxDocument)},
	} {
		t.Run(name, func(t *testing.T) {
			o := originOf(document(kid("a")))
			bubble(t, o, func(t *testing.T, k *Keys) {
				good := k.Status()
				o.set("", a)
				time.Sleep(time.Hour)
				wantFound(t, k, "a", "EdDSA", 1, nil)
				wantFound(t, k, "b", "EdDSA", 0, ErrUnknownKey)
				st := k.Status()
				if st.LastError == "" || !st.LastSuccess.Equal(good.LastSuccess) || st.Keys != 1 {
					t.Errorf("got status %+v, want an error, 1 key and the last success at %s", st, good.LastSuccess)
				}
				if strings.Contains(st.LastError, "maintenance") {
					t.Errorf("got the error %s, want one that does not quote the answer", st.LastError)
				}
				o.publish(kid("b")) // the issuer recovers
				time.Sleep(2 * defaultRefreshInterval)
				wantFound(t, k, "b", "EdDSA", 1, nil)
				if st := k.Status(); st.LastError != "" || !st.LastSuccess.After(good.LastSuccess) {
					t.Errorf("after the issuer recovered: got status %+v, want no error and a success after %s", st, good.LastSuccess)
				}
			})
		})
	}
}

// 4. A refresh has five seconds. An answer just within them counts.
func TestFact4Timeout(t *testing.T) {
	for delay, want := range map[time.Duration]int{fetchTimeout - time.Millisecond: 1, fetchTimeout + time.Millisecond: 0} {
		o := originOf("")
		o.set("", answer{body: document(kid("a")), delay: delay})
		bubble(t, o, func(t *testing.T, k *Keys) {
			time.Sleep(fetchTimeout)
			if st := k.Status(); st.Keys != want {
				t.Errorf("an answer after %s: got status %+v, want %d keys", delay, st, want)
			}
		})
	}
}

// 4. A document of exactly 1 MiB is accepted.
func TestFact4Limit(t *testing.T) {
	one := document(kid("a"))
	bubble(t, originOf(one+strings.Repeat(" ", maxDocument-len(one))), func(t *testing.T, k *Keys) { wantFound(t, k, "a", "EdDSA", 1, nil) })
}

// 5. A key that cannot be used does not affect the keys beside it.
func TestFact5BadKeys(t *testing.T) {
	for name, bad := range map[string]map[string]any{
		"off the curve": jwk(p256().Public(), map[string]any{"x": "AAAA"}),
		"use unknown":   with(kid("x"), map[string]any{"use": "quantum"}),
		"e = 1":         jwk(rsaKey().Public(), map[string]any{"e": "AQ"}),
		"x5c differs":   with(kid("x"), map[string]any{"x5c": []string{certificate(t, p256().Public())}}),
		"kty unknown":   {"kty": "PQC"},
		"kid no string": with(kid("x"), map[string]any{"kid": 17}),
		"not an object": nil,
	} {
		t.Run(name, func(t *testing.T) {
			for _, keys := range [][]map[string]any{{bad, kid("good")}, {kid("good"), bad}} {
				bubble(t, originOf(document(keys...)), func(t *testing.T, k *Keys) {
					wantFound(t, k, "good", "EdDSA", 1, nil)
					if st := k.Status(); st.Keys != 1 || st.LastError != "" {
						t.Errorf("got status %+v, want 1 key and no error", st)
					}
				})
			}
		})
	}
}

// 6. Secrets and weak keys in a JWK Set are not used.
func TestFact6SecretAndWeakKeys(t *testing.T) {
	weak := new(big.Int).SetBit(big.NewInt(1), 1023, 1)
	bubble(t, originOf(document(
		map[string]any{"kty": "oct", "k": "c2VjcmV0", "kid": "oct", "alg": "HS256"},
		with(kid("private"), map[string]any{"d": "AAAA"}),
		jwk(rsaKey().Public(), map[string]any{"kid": "1024", "n": b64.EncodeToString(weak.Bytes())}),
		kid("good"),
	)), func(t *testing.T, k *Keys) {
		wantFound(t, k, "good", "EdDSA", 1, nil)
		for _, id := range []string{"oct", "private", "1024"} {
			for alg := range maps.Keys(algorithms) {
				wantFound(t, k, id, alg, 0, ErrUnknownKey)
			}
			wantFound(t, k, id, "HS256", 0, ErrUnknownKey)
		}
	})
}

// 6. Two keys under one kid are both usable, each for its alg.
func TestFact6TwoKeysUnderOneKid(t *testing.T) {
	first, second := kid("first"), with(kid("second"), map[string]any{"kid": "first"})
	bubble(t, originOf(document(first, second, jwk(rsaKey().Public(), map[string]any{"kid": "first", "alg": "RS256"}))), func(t *testing.T, k *Keys) {
		wantFound(t, k, "first", "EdDSA", 2, nil)
		wantFound(t, k, "first", "RS256", 1, nil)
		wantFound(t, k, "first", "PS256", 0, ErrUnknownKey)
		for _, keys := range must(k.Find(background, "first", "EdDSA")) {
			if !slices.ContainsFunc([]map[string]any{first, second}, func(m map[string]any) bool {
				key, _, _ := parseKey(must(json.Marshal(m)), DefaultAlgorithms, DefaultKeyUses)
				return key.equal(keys)
			}) {
				t.Errorf("found %+v, want one of the two keys", keys)
			}
		}
	})
}

// 6. Keycloak publishes a key for encryption, and it may stand first.
func TestFact6KeycloakEncryptionKey(t *testing.T) {
	bubble(t, originOf(document(
		jwk(rsaKey().Public(), map[string]any{"kid": "enc", "use": "enc", "alg": "RSA-OAEP"}),
		jwk(rsaKey().Public(), map[string]any{"kid": "sig", "use": "sig", "alg": "RS256", "x5c": []string{certificate(t, rsaKey().Public())}}),
	)), func(t *testing.T, k *Keys) {
		wantFound(t, k, "sig", "RS256", 1, nil)
		wantFound(t, k, "enc", "RS256", 0, ErrUnknownKey)
		wantFound(t, k, "", "RS256", 1, nil)
	})
}

// 7. keyfunc answers over a storage that has the parsed keys and no others.
func TestFact7KeyfuncOverOwnStorage(t *testing.T) {
	keys := []Key{{ID: "a", Public: edKey().Public()}, {ID: "a", Algorithm: "RS256", Public: rsaKey().Public()}}
	keyfunc, err := newKeyfunc(keys)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kid, alg string
		want     crypto.PublicKey
	}{
		{"0", "EdDSA", edKey().Public()},
		{"1", "RS256", rsaKey().Public()},
		{"1", "PS256", nil},
		{"a", "EdDSA", nil},
		{"2", "EdDSA", nil},
	} {
		got, err := keyfunc(&jwt.Token{Header: map[string]any{"kid": c.kid, "alg": c.alg}})
		if (err == nil) != (c.want != nil) || err == nil && !(Key{Public: got}).equal(Key{Public: c.want}) {
			t.Errorf("kid %s, %s: got %v and error %v, want %v", c.kid, c.alg, got, err, c.want)
		}
	}
}

// A token and its JWK may each call the algorithm by either name.
func TestNamesOfEd25519(t *testing.T) {
	for _, alg := range []any{nil, "EdDSA", "Ed25519"} {
		bubble(t, originOf(document(with(kid("a"), map[string]any{"alg": alg}))), func(t *testing.T, k *Keys) {
			wantFound(t, k, "a", "EdDSA", 1, nil)
			wantFound(t, k, "a", "Ed25519", 1, nil)
		})
	}
}

// The configured algorithms bind every key that the issuer publishes.
func TestOnlyListedAlgorithms(t *testing.T) {
	o := originOf(document(jwk(rsaKey().Public(), map[string]any{"kid": "rsa"}), kid("ed"))).options()
	o.Algorithms = []string{"RS256"}
	bubbleWith(t, o, func(t *testing.T, k *Keys) {
		wantFound(t, k, "rsa", "RS256", 1, nil)
		wantFound(t, k, "rsa", "RS512", 0, ErrUnknownKey)
		wantFound(t, k, "ed", "EdDSA", 0, ErrUnknownKey)
	})
}

var _ http.RoundTripper = (*origin)(nil)
