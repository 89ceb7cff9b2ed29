package jwks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A person who looks for a key sees every key of the document, also those that
// are not used, with the reason.
func TestReadPublished(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(document(
		kid("a"), jwk(&rsaKey().PublicKey, map[string]any{"kid": "r", "alg": "RS256"}), jwk(&p256().PublicKey, nil),
		map[string]any{"kty": "oct", "kid": "secret", "k": "AAAA"}, jwk(&rsaKey().PublicKey, map[string]any{"kid": "enc", "use": "enc"}),
	))
	got, err := ReadPublished(t.Context(), Options{Issuer: idp, File: path})
	if err != nil || len(got) != 5 {
		t.Fatalf("reading a document of 5 keys: got %d keys and error %v, want 5 and nil", len(got), err)
	}
	for i, want := range []struct{ id, kind, fits, not, unused string }{
		{"a", "Ed25519", "EdDSA", "RS256", ""},
		{"r", "RSA, 2048 bits", "RS256", "RS512", ""},
		{"", "EC, P-256", "ES256", "ES384", ""},
		{"secret", "unknown", "", "HS256", "the key is a shared secret"},
		{"enc", "unknown", "", "RS256", `use "enc"`},
	} {
		p := got[i]
		if p.ID != want.id || Kind(p.Public) != want.kind || p.Fits(want.fits) != (want.fits != "") || p.Fits(want.not) || !strings.Contains(p.Unused, want.unused) || (p.Unused == "") != (want.unused == "") {
			t.Errorf("key %d: got kid %q, %s, unused %q, fits %s %v, fits %s %v; want %+v", i, p.ID, Kind(p.Public), p.Unused, want.fits, p.Fits(want.fits), want.not, p.Fits(want.not), want)
		}
	}
	many := make([]map[string]any, 3*maxKeys)
	for i := range many {
		many[i] = kid("many")
	}
	write(document(many...))
	if got, err := ReadPublished(t.Context(), Options{Issuer: idp, File: path}); err != nil || len(got) != maxKeys {
		t.Errorf("reading a document of %d keys: got %d keys and error %v, want the first %d", len(many), len(got), err, maxKeys)
	}
	write(`{"keys": "none"}`)
	if got, err := ReadPublished(t.Context(), Options{Issuer: idp, File: path}); err == nil {
		t.Errorf("reading a document that is no JWK Set: got %v, want an error", got)
	}
	if got, err := ReadPublished(t.Context(), Options{Issuer: idp}); err == nil {
		t.Errorf("reading without a source: got %v, want an error", got)
	}
}
