package jwks

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const vectors = "testdata/vectors"

// verifyWith verifies a compact JWS as the product does: it parses the document,
// finds the keys of kid and alg, and verifies the signature. It does without the
// checks that come before, in package jwt and in authz.
func verifyWith(jwk jsontext.Value, jws string) error {
	if !strings.HasPrefix(strings.TrimLeft(string(jwk), " \n{"), `"keys"`) {
		jwk = slices.Concat([]byte(`{"keys":[`), jwk, []byte(`]}`))
	}
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		return errors.New("it has not three parts")
	}
	head, err := base64.RawURLEncoding.Strict().DecodeString(parts[0])
	if err != nil {
		return err
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil {
		return err
	}
	var header struct {
		Algorithm string `json:"alg"`
		ID        string `json:"kid"`
	}
	if err := json.Unmarshal(head, &header); err != nil {
		return err
	}
	return verifySignature(jwk, header.ID, header.Algorithm, parts[0]+"."+parts[1], signature)
}

func verifySignature(document []byte, kid, alg, signed string, signature []byte) error {
	keys, _, err := parseDocument(document, DefaultAlgorithms, DefaultKeyUses)
	if err != nil {
		return err
	}
	s, err := newSet(keys, DefaultAlgorithms, time.Now())
	if err != nil {
		return err
	}
	found, err := s.find(kid, alg)
	if err != nil {
		return err
	}
	for _, key := range found {
		if err = Verify(alg, key, signed, signature); err == nil {
			return nil
		}
	}
	return err
}

type wycheproof struct {
	TestGroups []struct {
		Public  jsontext.Value `json:"public"`
		Private jsontext.Value `json:"private"`
		Tests   []struct {
			ID      int    `json:"tcId"`
			Comment string `json:"comment"`
			JWS     any    `json:"jws"` // a string; in some an object, which is no token
			Result  string `json:"result"`
		} `json:"tests"`
	} `json:"testGroups"`
}

// contradicted are valid vectors that are refused because the alg of the JWK
// binds: it differs from the alg of the header, or is not registered.
var contradicted = []string{
	"json_web_signature_test 346", "json_web_signature_test 347",
	"json_web_signature_test 350", "json_web_signature_test 351",
}

// Every invalid signature is refused, and every symmetric key.
func TestWycheproof(t *testing.T) {
	var invalidRefused, invalidAccepted, validAccepted, symmetric int
	var validRefused []string
	for _, name := range []string{"json_web_signature_test", "json_web_key_test", "json_web_crypto_test"} {
		var file wycheproof
		read(t, filepath.Join("wycheproof", name+".json"), &file)
		for _, g := range file.TestGroups {
			asymmetric := strings.Contains(string(g.Public)+string(g.Private), `"EC"`) || strings.Contains(string(g.Public), `"RSA"`)
			key := g.Public
			if key == nil {
				key = g.Private
			}
			for _, c := range g.Tests {
				if c.JWS == nil { // a JWE
					continue
				}
				jws, _ := c.JWS.(string)
				err := verifyWith(key, jws)
				id := fmt.Sprintf("%s %d", name, c.ID)
				switch {
				case !asymmetric:
					symmetric++
					if err == nil {
						t.Errorf("%s (%s): accepted by a symmetric key, want an error", id, c.Comment)
					}
				case c.Result == "invalid" && err == nil:
					invalidAccepted++
					t.Errorf("%s (%s): accepted, want an error", id, c.Comment)
				case c.Result == "invalid":
					invalidRefused++
				case err == nil:
					validAccepted++
				default:
					validRefused = append(validRefused, id)
					t.Logf("%s (%s) refused: %v", id, c.Comment, err)
				}
			}
		}
	}
	report := fmt.Sprintf("Wycheproof, asymmetric: %d invalid refused, %d invalid accepted; %d valid accepted, %d valid refused (%s); symmetric: all %d refused",
		invalidRefused, invalidAccepted, validAccepted, len(validRefused), strings.Join(validRefused, ", "), symmetric)
	t.Log(report)
	if testing.Verbose() {
		fmt.Println(report)
	}
	if invalidAccepted != 0 || invalidRefused != 364 {
		t.Errorf("%d invalid refused, want 364, and %d accepted, want 0", invalidRefused, invalidAccepted)
	}
	if !slices.Equal(validRefused, contradicted) {
		t.Errorf("valid ones refused: %q, want only %q", validRefused, contradicted)
	}
}

func read(t *testing.T, name string, into any) {
	t.Helper()
	if err := json.Unmarshal(text(t, name), into); err != nil {
		t.Fatalf("the vectors of %s: got %v, want JSON", name, err)
	}
}

func text(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(vectors, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// published returns a JWK without its private members, as an issuer publishes it.
func published(t *testing.T, jwk []byte) jsontext.Value {
	t.Helper()
	members := map[string]jsontext.Value{}
	if err := json.Unmarshal(jwk, &members); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(members, func(name string, _ jsontext.Value) bool {
		return slices.Contains([]string{"d", "p", "q", "dp", "dq", "qi", "oth"}, name)
	})
	return must(json.Marshal(members))
}

// accepted fails the test unless jws is accepted, and refused with each changed
// bit of its signature and with the private key.
func accepted(t *testing.T, jwk jsontext.Value, jws string) {
	t.Helper()
	if err := verifyWith(published(t, jwk), jws); err != nil {
		t.Errorf("got error %v, want acceptance", err)
	}
	cut := strings.LastIndexByte(jws, '.') + 1
	signature := must(b64.DecodeString(jws[cut:]))
	for i := 0; i < len(signature); i += 5 {
		signature[i] ^= 1 << (i % 8)
		if verifyWith(published(t, jwk), jws[:cut]+b64.EncodeToString(signature)) == nil {
			t.Errorf("byte %d of the signature changed: accepted, want an error", i)
		}
		signature[i] ^= 1 << (i % 8)
	}
	if strings.Contains(string(jwk), `"d"`) && verifyWith(jwk, jws) == nil {
		t.Error("with the private key: accepted, want an error")
	}
}

func TestExamplesOfRFC7515(t *testing.T) {
	for _, name := range []string{"rfc7515_A.2", "rfc7515_A.3", "rfc7515_A.4"} {
		t.Run(name, func(t *testing.T) {
			accepted(t, text(t, "rfc/"+name+".jwk"), string(text(t, "rfc/"+name+".jwsc")))
		})
	}
	t.Run("rfc7515_A.6", func(t *testing.T) { general(t, "rfc/rfc7515_A.6.jwkset", "rfc/rfc7515_A.6.jwsg", 2) })
}

func TestExamplesOfRFC7520(t *testing.T) {
	for name, key := range map[string]string{"rfc7520_4.1": "rfc7520_3.3", "rfc7520_4.2": "rfc7520_3.3", "rfc7520_4.3": "rfc7520_3.1"} {
		t.Run(name, func(t *testing.T) {
			accepted(t, text(t, "rfc/"+key+".jwk"), string(text(t, "rfc/"+name+".jwsc")))
		})
	}
	// One of its three is HMAC.
	t.Run("rfc7520_4.8", func(t *testing.T) { general(t, "rfc/rfc7520_4.8.jwkset", "rfc/rfc7520_4.8.jwsg", 2) })
}

// general fails the test unless exactly want signatures of a JWS in general form
// are made with usable keys of the set.
func general(t *testing.T, set, jws string, want int) {
	var keys struct {
		Keys []jsontext.Value `json:"keys"`
	}
	read(t, set, &keys)
	for i, k := range keys.Keys {
		keys.Keys[i] = published(t, k)
	}
	type header struct {
		Algorithm string `json:"alg"`
		ID        string `json:"kid"`
	}
	var general struct {
		Payload    string `json:"payload"`
		Signatures []struct {
			Protected string `json:"protected"`
			Header    header `json:"header"`
			Signature string `json:"signature"`
		} `json:"signatures"`
	}
	read(t, jws, &general)
	got := 0
	for _, s := range general.Signatures {
		h := s.Header // members are in this header or in the protected one
		if s.Protected != "" {
			if err := json.Unmarshal(must(b64.DecodeString(s.Protected)), &h); err != nil {
				t.Fatal(err)
			}
		}
		if !strings.Contains(string(text(t, set)), `"kid"`) {
			h.ID = "" // there is one key for each alg
		}
		err := verifySignature(must(json.Marshal(keys)), h.ID, h.Algorithm, s.Protected+"."+general.Payload, must(b64.DecodeString(s.Signature)))
		if err == nil {
			got++
		} else {
			t.Logf("%s: %v", h.Algorithm, err)
		}
	}
	if got != want {
		t.Errorf("%d signatures accepted, want %d", got, want)
	}
}

func TestJOSECookbook(t *testing.T) {
	for _, name := range []string{"4_1.rsa_v15_signature", "4_2.rsa-pss_signature", "4_3.ecdsa_signature", "rfc8037_ed25519"} {
		t.Run(name, func(t *testing.T) {
			var example struct {
				Input  struct{ Key jsontext.Value } `json:"input"`
				Output struct{ Compact string }     `json:"output"`
			}
			if err := json.Unmarshal(text(t, "jose-cookbook/"+name+".json"), &example, json.MatchCaseInsensitiveNames(true)); err != nil {
				t.Fatal(err)
			}
			accepted(t, example.Input.Key, example.Output.Compact)
		})
	}
}

// RFC 7517 A.1 has a key for encryption beside one for signatures, A.2 private
// keys and A.3 symmetric ones.
func TestSetsOfRFC7517(t *testing.T) {
	for name, want := range map[string]int{"rfc7517_A.1": 1, "rfc7517_A.2": 0, "rfc7517_A.3": 0} {
		keys, skip, err := parseDocument(text(t, "rfc/"+name+".jwkset"), DefaultAlgorithms, DefaultKeyUses)
		if len(keys) != want || (err == nil) != (want > 0) {
			t.Errorf("%s: got %d keys, skipped %s, error %v; want %d keys", name, len(keys), skip, err, want)
		}
	}
	for name, want := range map[string]fault{
		"rfc7520_3.1": usable, "rfc7520_3.2": faultPrivate, "rfc7520_3.3": usable,
		"rfc7520_3.4": faultPrivate, "rfc7520_3.5": faultSymmetric, "rfc7520_3.6": faultSymmetric,
	} {
		if _, f, _ := parseKey(text(t, "rfc/"+name+".jwk"), DefaultAlgorithms, DefaultKeyUses); f != want {
			t.Errorf("%s: got fault %q, want %q", name, f, want)
		}
	}
}
