package config

import (
	"path/filepath"
	"strings"
	"testing"

	"rescind/authz"
)

// The cache of verified tokens has room for all known tokens, unless the file says
// otherwise.
func TestCacheHasRoomForKnownTokens(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       int
		warning    string // empty: none
	}{
		{"nothing is known", "", authz.DefaultCacheBytes, ""},
		{"few tokens", "known_tokens: {socket: /s, entries: 1024}\n", authz.DefaultCacheBytes, ""},
		{"the default", "known_tokens: {socket: /s}\n", 256 << 20, ""},
		{"a size of the file", "known_tokens: {socket: /s}\ntoken_cache: {max_bytes: 200000000}\n", 200000000, ""},
		{"a small one", "known_tokens: {socket: /s}\ntoken_cache: {max_bytes: 33554432}\n", 32 << 20,
			"token_cache.max_bytes: warning: has no room for the 65536 tokens of known_tokens.entries, and a token without room leaves Envoy at its next use; 268435456 bytes have room"},
	} {
		path := filepath.Join(folderOf(t), "authz.yaml")
		a := mustAuthz(t, path, "issuers: [{issuer: https://idp.example.com/, discovery: true, audiences: [api]}]\n"+c.text+baseRevocation)
		if a.TokenCache != c.want {
			t.Errorf("%s: got a cache of %d bytes, want %d", c.name, a.TokenCache, c.want)
		}
		if got := a.Warnings(); len(got) > 1 || (len(got) == 1) != (c.warning != "") || len(got) == 1 && !strings.HasSuffix(got[0].String(), c.warning) {
			t.Errorf("%s: got the warnings %v, want %q", c.name, got, c.warning)
		}
	}
}
