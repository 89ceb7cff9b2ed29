package jwks

import (
	"testing"
	"time"
)

// The generation changes with the keys, is 0 while there are none to use, and
// survives a refresh that brings the same keys.
func TestGeneration(t *testing.T) {
	const stale = 20 * time.Minute
	o := originOf(document(kid("a"), kid("b")))
	opts := o.options()
	opts.MaxStale = stale
	bubbleWith(t, opts, func(t *testing.T, k *Keys) {
		seen := map[uint64]string{}
		before := k.Generation()
		if before == 0 {
			t.Fatal("with two keys: got generation 0, want another one")
		}
		for _, step := range []struct {
			name string
			keys []map[string]any // nil: the issuer is down
			want string           // same, another or 0
		}{
			{"the same keys", []map[string]any{kid("a"), kid("b")}, "same"},
			{"another order", []map[string]any{kid("b"), kid("a")}, "another"},
			{"a key less", []map[string]any{kid("b")}, "another"},
			{"the key is back", []map[string]any{kid("b"), kid("a")}, "another"},
			{"a key that names its alg", []map[string]any{kid("b"), withAlg(kid("a"))}, "another"},
			{"the issuer is down for longer than max_stale", nil, "0"},
			{"the issuer is back with the same keys", []map[string]any{kid("b"), withAlg(kid("a"))}, "same"},
		} {
			if step.keys == nil {
				o.set("", answer{err: errDown})
				time.Sleep(2 * stale)
			} else {
				o.publish(step.keys...)
				time.Sleep(defaultRefreshInterval * 11 / 10)
			}
			got := k.Generation()
			switch step.want {
			case "0":
				if got != 0 {
					t.Errorf("%s: got generation %d, want 0", step.name, got)
				}
				continue
			case "same":
				if got != before {
					t.Errorf("%s: got generation %d, want %d as before", step.name, got, before)
				}
			default:
				if other, used := seen[got]; used || got == before || got == 0 {
					t.Errorf("%s: got generation %d, which was also that of %q, want a new one", step.name, got, other)
				}
			}
			seen[got], before = step.name, got
		}
	})
}

// Two issuers never have the same generation, also not with the same keys.
func TestGenerationsOfTwoIssuers(t *testing.T) {
	bubble(t, originOf(document(kid("a"))), func(t *testing.T, k *Keys) {
		o := originOf(document(kid("a")))
		other, err := Open(o.options())
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		wantFound(t, other, "a", "EdDSA", 1, nil)
		if a, b := k.Generation(), other.Generation(); a == b || a == 0 || b == 0 {
			t.Errorf("got generations %d and %d, want two different ones", a, b)
		}
	})
}

func withAlg(key map[string]any) map[string]any {
	key["alg"] = "EdDSA"
	return key
}
