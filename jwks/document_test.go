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
		{"a member twice that is none of ours", `{"x":1,"keys":[` + one + `],"x":2}`, 1, "", ""},
		{"the same key twice", document(a, a), 1, "", ""},
		{"the same kid for two keys", document(a, with(b, map[string]any{"kid": "a"})), 2, "", ""},
		{"an unusable one beside", document(enc, a), 1, "1 use", ""},
		{"a member twice within a key", `{"keys":[{"kty":"OKP","kty":"OKP"},` + one + `]}`, 1, "1 malformed", ""},
		{"invalid UTF-8 within a key", "{\"keys\":[{\"kid\":\"\xff\"}," + one + "]}", 1, "1 malformed", ""},
		{"something else among the keys", `{"keys":[null,1,"x",[],{},` + one + `]}`, 1, "4 malformed, 1 type", ""},

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
		{"no usable keys", document(enc, enc), 0, "2 use", "no usable key; skipped: 2 use"},
		{"something after it", document(a) + "{}", 0, "", "follows"},
		{"garbage after it", document(a) + "x", 0, "", "follows"},
		{"cut off", document(a)[:40], 0, "", "not a JWK Set"},
		{"cut off at the end", strings.TrimSuffix(document(a), "}"), 0, "", "not a JWK Set"},
		{"a comma too many", `{"keys":[` + one + `],}`, 0, "", "not a JWK Set"},
		{"no colon", `{"keys"[]}`, 0, "", "not a JWK Set"},
		{"very deep", `{"keys":` + strings.Repeat("[", 20000), 0, "", "not a JWK Set"},
	} {
		t.Run(c.name, func(t *testing.T) {
			keys, skip, err := parseDocument([]byte(c.text), DefaultAlgorithms)
			if len(keys) != c.keys || skip.String() != c.skipped {
				t.Errorf("%d keys, skipped %q", len(keys), skip)
			}
			if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestDocumentHasAtMostAHundredKeys(t *testing.T) {
	var all []map[string]any
	for i := range maxKeys + 5 {
		all = append(all, kid(numbered("k", i)))
	}
	keys, skip, err := parseDocument([]byte(document(all...)), DefaultAlgorithms)
	if len(keys) != maxKeys || skip[faultSurplus] != 5 || err != nil {
		t.Errorf("%d keys, skipped %s, %v", len(keys), skip, err)
	}
}

// Whatever a document is, what is taken from it is sound, and the set that is
// made of it answers with keys that fit what was asked.
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
		keys, _, err := parseDocument(text, DefaultAlgorithms)
		if (err == nil) != (len(keys) > 0) || len(keys) > maxKeys {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		if err != nil {
			return
		}
		s, err := newSet(keys, DefaultAlgorithms, timeZero)
		if err != nil {
			t.Fatalf("keyfunc does not take what we do: %v", err)
		}
		for i, key := range keys {
			fits := 0
			for alg := range algorithms {
				named, _ := s.find(key.ID, alg)
				for _, found := range named {
					if !found.fits(alg) || key.ID != "" && found.ID != key.ID {
						t.Errorf("%q, %s: found %+v", key.ID, alg, found)
					}
					if found.equal(key) {
						fits++
					}
				}
				unnamed, err := s.find("", alg)
				if len(unnamed) > maxCandidates || (err == nil) != (len(unnamed) > 0) {
					t.Errorf("without a kid, %s: %d keys and error %v, want 1 to %d keys or an error", alg, len(unnamed), err, maxCandidates)
				}
				for _, found := range unnamed {
					if !found.fits(alg) {
						t.Errorf("without a kid, %s: found %+v", alg, found)
					}
				}
			}
			if key.ID != "" && fits == 0 {
				t.Errorf("key %d is in no answer", i)
			}
		}
	})
}
