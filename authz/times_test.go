package authz

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
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
						t.Errorf("%s: %s, want %s", c.name, got, c.want)
					}
				}
			})
		})
	}
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
				t.Errorf("after %s more: %s, want %s", step.after, got, step.want)
			}
		}
	})
}

// Without a limit of their own the revocations are stale after thirty seconds,
// and nothing but that is said.
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
				t.Errorf("after %s: %+v", c.silent, d)
			}
		})
	}
}

// A date that is no number of seconds from 0 to 2^40 is no date, whatever a
// reader might make of it.
func TestDatesThatAreNone(t *testing.T) {
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
				t.Errorf("%s %s: %s", claim, text, got)
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
			t.Errorf("exp %s: %s", text, got)
		}
	}
}
