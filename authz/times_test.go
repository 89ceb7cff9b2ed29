package authz

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rescind/revocation"
)

// Every limit of time, to the second, with a leeway and without. The clock
// stands still, at a full second.
func TestTimesToTheSecond(t *testing.T) {
	for _, leeway := range []int64{0, 1, 30, 60} {
		t.Run(fmt.Sprintf("leeway %d", leeway), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				key := edKey()
				o := options(t, key)
				o.Issuers[0].Leeway = time.Duration(leeway) * time.Second
				o.Issuers[0].IatLeeway = o.Issuers[0].Leeway
				o.Issuers[0].MaxLifetime = time.Hour
				o.Policies = map[string]Policy{DefaultPolicy: {}, "young": {MaxAge: time.Minute}}
				a := authorizer(t, o)
				now := time.Now().Unix()
				for _, c := range []struct {
					name, policy string
					claims       map[string]any
					want         Reason
				}{
					{"exp just not over", DefaultPolicy, map[string]any{"exp": now - leeway + 1}, OK},
					{"exp just over", DefaultPolicy, map[string]any{"exp": now - leeway}, Expired},
					{"exp just not over, by a fraction", DefaultPolicy, map[string]any{"exp": float64(now-leeway) + 1.25}, OK},
					{"nbf just reached", DefaultPolicy, map[string]any{"nbf": now + leeway}, OK},
					{"nbf not reached", DefaultPolicy, map[string]any{"nbf": now + leeway + 1}, NotYetValid},
					{"iat just reached", DefaultPolicy, map[string]any{"iat": now + leeway, "exp": now + 600}, OK},
					{"iat in the future", DefaultPolicy, map[string]any{"iat": now + leeway + 1, "exp": now + 600}, NotYetValid},
					{"iat in the future, of a young one too", "young", map[string]any{"iat": now + leeway + 1, "exp": now + 600}, NotYetValid},
					{"just short enough", DefaultPolicy, map[string]any{"iat": now, "exp": now + 3600}, OK},
					{"too long by a second", DefaultPolicy, map[string]any{"iat": now, "exp": now + 3601}, LifetimeTooLong},
					{"too long by a microsecond", DefaultPolicy, map[string]any{"iat": now, "exp": float64(now+3600) + 0.000001}, LifetimeTooLong},
					{"just short enough, of no iat", DefaultPolicy, map[string]any{"iat": nil, "exp": now + 3600 + leeway}, OK},
					{"too long by a second, of no iat", DefaultPolicy, map[string]any{"iat": nil, "exp": now + 3600 + leeway + 1}, LifetimeTooLong},
					{"just young enough", "young", map[string]any{"iat": now - 60 - leeway}, OK},
					{"too old by a second", "young", map[string]any{"iat": now - 61 - leeway}, TooOld},
					{"of no age", "young", map[string]any{"iat": nil}, MissingClaim},
					{"of the year 1970", "young", map[string]any{"iat": 0, "exp": 3000}, Expired},
					{"ends when it begins, now", DefaultPolicy, map[string]any{"nbf": now, "exp": now}, map[bool]Reason{true: OK, false: Expired}[leeway > 0]},
					{"ends before it begins", DefaultPolicy, map[string]any{"nbf": now + 60, "exp": now - 60}, Expired},
					{"ends before it was issued", DefaultPolicy, map[string]any{"iat": now, "exp": now - 1}, map[bool]Reason{true: OK, false: Expired}[leeway > 1]},
				} {
					if got := a.Authorize(t.Context(), carrying(key.token(c.claims)).under(c.policy)).Reason; got != c.want {
						t.Errorf("%s: got %s, want %s", c.name, got, c.want)
					}
				}
			})
		})
	}
}

// A token dated ahead by more than iat_leeway is refused until its iat. So it
// is not accepted beside a revocation of its subject. From its iat on it counts
// as issued after the revocation, like a token of a later login.
func TestTokenDatedAheadIsRefusedUntilItsIat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := edKey()
		o := options(t, key)
		o.Issuers[0].IatLeeway = 2 * time.Second
		entry := revocation.Revocation{
			ID: revocation.ID{Revision: 3}, Issuer: idp, Before: revocation.MicrosOf(time.Now().Add(time.Second)), ExpiresAt: revocation.MicrosOf(time.Now().Add(time.Hour)),
			Target: revocation.Target{Kind: revocation.KindClaims, Claims: []revocation.Claim{{Name: "sub", Value: textValue("mallory")}}},
		}
		o.Revocations = following(t, entry.Entry())
		a := authorizer(t, o)
		ahead := key.token(map[string]any{"sub": "mallory", "iat": time.Now().Unix() + 20})
		for _, step := range []struct {
			after  time.Duration
			want   Reason
			detail string
		}{{0, NotYetValid, ClockAhead}, {18*time.Second - 1, NotYetValid, ClockAhead}, {1, OK, ""}} {
			time.Sleep(step.after)
			if d := a.Authorize(t.Context(), carrying(ahead)); d.Reason != step.want || d.Detail != step.detail {
				t.Errorf("iat 20s ahead, after %s more: got %s (%q), want %s (%q)", step.after, d.Reason, d.Detail, step.want, step.detail)
			}
		}
		if got := asked(t, a, key.token(map[string]any{"sub": "mallory", "iat": time.Now().Unix() - 20})); got != Revoked {
			t.Errorf("a token dated before the revocation: got %s, want %s", got, Revoked)
		}
	})
}

// iat_leeway is exact to the microsecond, and apart from the leeway of exp and
// nbf.
func TestIatLeeway(t *testing.T) {
	for _, leeway := range []time.Duration{0, time.Second, 2 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			key := edKey()
			o := options(t, key)
			o.Issuers[0].IatLeeway = leeway
			a := authorizer(t, o)
			at := func(d time.Duration) json.Number {
				return json.Number(strconv.FormatFloat(float64(time.Now().Add(d).UnixMicro())/1e6, 'f', 6, 64))
			}
			for _, c := range []struct {
				name   string
				claims map[string]any
				want   Reason
				detail string
			}{
				{"iat now", map[string]any{"iat": at(0)}, OK, ""},
				{"iat at the bound", map[string]any{"iat": at(leeway)}, OK, ""},
				{"iat a microsecond beyond", map[string]any{"iat": at(leeway + time.Microsecond)}, NotYetValid, ClockAhead},
				{"iat within leeway alone", map[string]any{"iat": at(20 * time.Second)}, NotYetValid, ClockAhead},
				{"iat in the year 36812", map[string]any{"iat": int64(1) << 40, "exp": int64(1) << 40}, NotYetValid, ClockAhead},
				{"nbf within leeway", map[string]any{"nbf": at(20 * time.Second)}, OK, ""},
				{"nbf beyond leeway", map[string]any{"nbf": at(40 * time.Second)}, NotYetValid, ""},
				{"no iat", map[string]any{"iat": nil}, OK, ""},
			} {
				if d := a.Authorize(t.Context(), carrying(key.token(c.claims))); d.Reason != c.want || d.Detail != c.detail {
					t.Errorf("iat_leeway %s, %s: got %s (%q), want %s (%q)", leeway, c.name, d.Reason, d.Detail, c.want, c.detail)
				}
			}
		})
	}
}

// An issuer whose clock is ahead is named once a minute, with how far and with
// the setting. A token that no issuer signed causes no warning.
func TestClockWarning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := edKey()
		o := options(t, key)
		o.Issuers[0].IatLeeway = 2 * time.Second
		var log bytes.Buffer
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		a := authorizer(t, o)
		token := func(by signer) string { return by.token(map[string]any{"iat": time.Now().Unix() + 20}) }
		lines := func() int { return strings.Count(log.String(), "\n") }
		for range 3 {
			asked(t, a, token(newEd25519("ed1")))
		}
		if lines() != 0 {
			t.Errorf("a forged token: logged %s, want nothing", &log)
		}
		for range 3 {
			asked(t, a, token(key))
		}
		for _, want := range []string{"issuer=" + idp, "ahead=20s", "iat_leeway=2s"} {
			if lines() != 1 || !strings.Contains(log.String(), want) {
				t.Errorf("three tokens dated ahead: logged %s, want one line with %s", &log, want)
			}
		}
		time.Sleep(time.Minute - 1)
		asked(t, a, token(key))
		if lines() != 1 {
			t.Errorf("within a minute: logged %s, want one line", &log)
		}
		time.Sleep(time.Nanosecond)
		asked(t, a, token(key))
		if lines() != 2 {
			t.Errorf("after a minute: logged %s, want two lines", &log)
		}
	})
}

// A token ends while the clock runs, and not before.
func TestATokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key := edKey()
		a := authorizer(t, options(t, key))
		raw := key.token(map[string]any{"exp": time.Now().Unix() + 10, "nbf": time.Now().Unix() + 35})
		for _, step := range []struct {
			after time.Duration
			want  Reason
		}{{0, NotYetValid}, {5*time.Second - 1, NotYetValid}, {1, OK}, {35*time.Second - 1, OK}, {1, Expired}, {time.Hour, Expired}} {
			time.Sleep(step.after)
			if got := asked(t, a, raw); got != step.want {
				t.Errorf("after %s more: got %s, want %s", step.after, got, step.want)
			}
		}
	})
}

// Without max_staleness the revocations are stale after thirty seconds. Tokens
// are allowed all the same.
func TestStaleAfterThirtySeconds(t *testing.T) {
	for _, c := range []struct {
		silent time.Duration
		stale  bool
	}{{30 * time.Second, false}, {30*time.Second + 1, true}} {
		synctest.Test(t, func(t *testing.T) {
			o := options(t)
			o.DenyOverdue = true
			a := authorizer(t, o)
			time.Sleep(c.silent)
			if d := a.Authorize(t.Context(), carrying(edKey().token(nil))); !d.Allow || d.Stale != c.stale {
				t.Errorf("after %s of silence: allowed %v, stale %v; want it allowed, stale %v", c.silent, d.Allow, d.Stale, c.stale)
			}
		})
	}
}

// A date that is not a number of seconds from 0 to 2^40 makes a token malformed.
func TestMalformedDates(t *testing.T) {
	key := edKey()
	a := authorizer(t, options(t, key))
	header := changed(map[string]any{"alg": key.alg, "kid": key.kid}, nil)
	for _, text := range []string{"1e400", "-1e400", "1e99999999999999999999", "-0", "-0.0", "-1", `"4102444800"`, "null", "true", "[4102444800]", "{}", "9223372036854775808", "18446744073709551617", "1099511627776.1", "1e12345678"} {
		for _, claim := range []string{"exp", "iat", "nbf"} {
			rest := `"iss":"` + idp + `","aud":"api"`
			if claim != "exp" {
				rest += `,"exp":` + soon()
			}
			if got := asked(t, a, key.sign(header, `{`+rest+`,"`+claim+`":`+text+`}`)); got != Malformed {
				t.Errorf("%s %s: got %s, want %s", claim, text, got, Malformed)
			}
		}
	}
	for _, text := range []string{"0", "0.0", "0e99999999999", "1e-99999999999"} {
		if got := asked(t, a, key.sign(header, `{"iss":"`+idp+`","aud":"api","exp":`+text+`}`)); got != Expired {
			t.Errorf("exp %s: got %s, want %s", text, got, Expired)
		}
	}
	exp := soon()
	for _, text := range []string{exp, exp + ".0", exp + "e0", exp + "E+0", exp + "00e-2", exp[:1] + "." + exp[1:] + "e9"} {
		if got := asked(t, a, key.sign(header, `{"iss":"`+idp+`","aud":"api","exp":`+text+`}`)); got != OK {
			t.Errorf("exp %s: got %s, want %s", text, got, OK)
		}
	}
}
