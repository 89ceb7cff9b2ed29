package jwks

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDocument(t *testing.T) {
	a, b, enc := kid("a"), kid("b"), with(kid("c"), map[string]any{"use": "enc"})
	one := string(must(json.Marshal(a)))
	for _, c := range []struct {
		name, text string
		keys       int
		skipped    string
		fault      string // part of the error; empty: none
	}{
		{"one key", document(a), 1, "", ""},
		{"two keys", document(a, b), 2, "", ""},
		{"with other members", `{"x":{"keys":[]},"keys":[` + one + `],"y":1}`, 1, "", ""},
		{"with white space", " \n{ \"keys\" : [ " + one + " ] } \r\n", 1, "", ""},
		{"an unknown member twice", `{"x":1,"keys":[` + one + `],"x":2}`, 1, "", ""},
		{"the same key twice", document(a, a), 1, "", ""},
		{"the same kid for two keys", document(a, with(b, map[string]any{"kid": "a"})), 2, "", ""},
		{"an unusable one beside", document(enc, a), 1, `"c" (use "enc" or key_ops is not for verifying; see key_uses)`, ""},
		{"a member twice within a key", `{"keys":[{"kty":"OKP","kty":"OKP"},` + one + `]}`, 1, `"" (the JWK is malformed)`, ""},
		{"invalid UTF-8 within a key", "{\"keys\":[{\"kid\":\"\xff\"}," + one + "]}", 1, `"" (the JWK is malformed)`, ""},
		{"something else among the keys", `{"keys":[null,1,"x",[],{},` + one + `]}`, 1, `"" (the JWK is malformed), "" (the JWK is malformed), "" (the JWK is malformed), "" (the JWK is malformed), "" (kty "" is not supported)`, ""},
		{"a byte order mark", "\xef\xbb\xbf" + document(a), 1, "", ""},

		{"nothing", "", 0, "", "not a JSON object"},
		{"null", "null", 0, "", "not a JSON object"},
		{"an array of keys", "[" + one + "]", 0, "", "not a JSON object"},
		{"HTML", "<html>", 0, "", "not a JSON object"},
		{"no member keys", "{}", 0, "", `no member "keys"`},
		{"a single JWK", one, 0, "", `no member "keys"`},
		{"Keys", `{"Keys":[` + one + `]}`, 0, "", `no member "keys"`},
		{"keys is null", `{"keys":null}`, 0, "", `no member "keys"`},
		{"keys is an object", `{"keys":{"a":` + one + `}}`, 0, "", `no member "keys"`},
		{"keys is a string", `{"keys":"x"}`, 0, "", `no member "keys"`},
		{"keys twice", `{"keys":[` + one + `],"keys":[]}`, 0, "", `two members are named "keys"`},
		{"keys twice, once escaped", `{"keys":[` + one + `],"\u006beys":[]}`, 0, "", `two members are named "keys"`},
		{"no keys", document(), 0, "", "no keys"},
		{"no usable keys", document(enc), 0, `"c" (use "enc" or key_ops is not for verifying; see key_uses)`, `no usable key; skipped: "c" (use "enc"`},
		{"something after it", document(a) + "{}", 0, "", "follows"},
		{"garbage after it", document(a) + "x", 0, "", "follows"},
		{"cut off", document(a)[:40], 0, "", "not a JWK Set"},
		{"cut off at the end", strings.TrimSuffix(document(a), "}"), 0, "", "not a JWK Set"},
		{"a comma too many", `{"keys":[` + one + `],}`, 0, "", "not a JWK Set"},
		{"no colon", `{"keys"[]}`, 0, "", "not a JWK Set"},
		{"very deep", `{"keys":` + strings.Repeat("[", 20000), 0, "", "not a JWK Set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys, skip, err := parseDocument([]byte(c.text), DefaultAlgorithms, DefaultKeyUses)
			if len(keys) != c.keys || skip.String() != c.skipped {
				t.Errorf("got %d keys, skipped %q; want %d, skipped %q", len(keys), skip, c.keys, c.skipped)
			}
			if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
				t.Errorf("got error %v, want one with %q", err, c.fault)
			}
		})
	}
}

func TestDocumentHasAtMostAHundredKeys(t *testing.T) {
	var all []map[string]any
	for i := range maxKeys + 5 {
		all = append(all, kid(numbered("k", i)))
	}
	keys, skip, err := parseDocument([]byte(document(all...)), DefaultAlgorithms, DefaultKeyUses)
	if len(keys) != maxKeys || len(skip) != 5 || skip[4].fault != faultSurplus || err != nil {
		t.Errorf("%d keys: got %d, skipped %s, error %v; want %d and 5 skipped as %s", len(all), len(keys), skip, err, maxKeys, faultSurplus)
	}
}

// The keys of every document are sound. Their set answers with keys that fit the
// question.
func FuzzDocument(f *testing.F) {
	for _, name := range must(filepath.Glob(vectors + "/rfc/*.jwkset")) {
		f.Add(must(os.ReadFile(name)))
	}
	var known wycheproof
	if err := json.Unmarshal(must(os.ReadFile(vectors+"/wycheproof/json_web_key_test.json")), &known); err != nil {
		f.Fatal(err)
	}
	for _, g := range known.TestGroups {
		if g.Public != nil {
			f.Add([]byte(g.Public))
		}
	}
	f.Add([]byte(document(kid("a"), with(kid("b"), map[string]any{"kid": "a"}), with(kid("c"), map[string]any{"use": "enc"}))))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, _, err := parseDocument(text, DefaultAlgorithms, DefaultKeyUses)
		if (err == nil) != (len(keys) > 0) || len(keys) > maxKeys {
			t.Fatalf("document %q: got %d keys and error %v, want 1 to %d keys or an error", text, len(keys), err, maxKeys)
		}
		if err != nil {
			return
		}
		s, err := newSet(keys, DefaultAlgorithms, timeZero)
		if err != nil {
			t.Fatalf("document %q: newSet: %v, want a set of every key that was parsed", text, err)
		}
		for i, key := range keys {
			fits := 0
			for alg := range algorithms {
				named, _ := s.find(key.ID, alg)
				for _, found := range named {
					if !found.fits(alg) || key.ID != "" && found.ID != key.ID {
						t.Errorf("document %q: kid %q, %s: found %+v, want a key that fits both", text, key.ID, alg, found)
					}
					if found.equal(key) {
						fits++
					}
				}
				unnamed, err := s.find("", alg)
				if len(unnamed) > maxCandidates || (err == nil) != (len(unnamed) > 0) {
					t.Errorf("document %q: without a kid, %s: %d keys and error %v, want 1 to %d keys or an error", text, alg, len(unnamed), err, maxCandidates)
				}
				for _, found := range unnamed {
					if !found.fits(alg) {
						t.Errorf("document %q: without a kid, %s: found %+v, want a key that fits", text, alg, found)
					}
				}
			}
			if key.ID != "" && fits == 0 {
				t.Errorf("document %q: key %d is in no answer, want it in one", text, i)
			}
		}
	})
}
