package config

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// intakeOf returns a configuration with one intake of this kind for one issuer, with
// these keys beside the common ones.
func intakeOf(kind, more string) string {
	return "store: {dir: d}\nintake_http: {listen: '127.0.0.1:0'}\nintake:\n  - {name: x, kind: " + kind + ", issuers: ['https://idp.example.com/'], " + more + "}\n"
}

const aHash = "1111111111111111111111111111111111111111111111111111111111111111"

func TestEndpointFaults(t *testing.T) { testFaults(t, "control", endpointFaults) }

var endpointFaults = []faulty{
	// Back-channel logout.
	{strings.Replace(intakeOf("logout", ""), "- {", "- §§{", 1), []string{
		"intake[0].clients: is missing: the client IDs for which the issuer sends logout tokens",
		"intake[0]: needs exactly one of jwks_uri, discovery: true and jwks_file, and has 0",
	}},
	{intakeOf("logout", "discovery: true, clients: §[]"), []string{"intake[0].clients: is empty; name at least one"}},
	{strings.Replace(intakeOf("logout", "discovery: true, clients: [web]"), "issuers: [", "issuers: §['https://a.example.com/', ", 1), []string{
		"intake[0].issuers: must be one issuer, whose keys the entry names; write an entry for each issuer",
	}},
	{intakeOf("logout", "discovery: true, clients: [web], exp: §never, sid_in_tokens: §no"), []string{
		`intake[0].exp: "never" is not one of optional, required`,
		`intake[0].sid_in_tokens: "no" is not true or false`,
	}},
	{intakeOf("logout", "discovery: true, clients: [web], §sender: 'https://x/'"), []string{
		"intake[0].sender: there is no such key; the keys here are algorithms, allow_http, ca_file, clients, discovery, dry_run, exp, issuers, jwks_file, jwks_token_file, jwks_uri, key_uses, kind, map, max_stale, may, min_refresh_interval, name, refresh_interval, sid_in_tokens",
	}},

	// RFC 7009.
	{strings.Replace(intakeOf("revocation_endpoint", ""), "- {", "- §§{", 1), []string{
		"intake[0].clients: is missing: the clients that may revoke their tokens: [{client_id: …, sha256: …}]",
		"intake[0]: needs exactly one of jwks_uri, discovery: true and jwks_file, and has 0",
	}},
	{intakeOf("revocation_endpoint", "discovery: true, clients: [{client_id: web, sha256: '"+aHash+"'}, {client_id: app, sha256: §'"+aHash+"'}, {client_id: §'', sha256: §secret, §roles: [viewer]}]"), []string{
		"intake[0].clients[1].sha256: duplicate value, first used on line 4",
		"intake[0].clients[2].client_id: is empty",
		"intake[0].clients[2].sha256: is not a SHA-256: 64 hex digits, as from printf %s TOKEN | sha256sum. If it is the token itself, make a new one",
		"intake[0].clients[2].roles: there is no such key; the keys here are client_id, sha256",
	}},

	// Global Token Revocation.
	{strings.Replace(intakeOf("global_token_revocation", ""), "- {", "- §§§§{", 1), []string{
		"intake[0].clients: is missing: the client IDs of this integration at the sender, which are the sub of the credentials",
		"intake[0].endpoint: is missing: the URL of this endpoint that the sender has, such as https://signals.example.com/intake/okta/global-token-revocation",
		"intake[0].sender: is missing: the iss of the credentials, such as https://example.okta.com",
		"intake[0]: needs exactly one of jwks_uri, discovery: true and jwks_file, and has 0",
	}},
	{intakeOf("global_token_revocation", "sender: acme.com, discovery: §true, endpoint: §'https://x.example.com/?a=1', clients: [a]"), []string{
		`intake[0].discovery: "acme.com" is not an https URL, so it has no discovery document; use jwks_uri or jwks_file`,
		"intake[0].endpoint: has a query (?), which the aud of a credential never has; remove it",
	}},
	{intakeOf("global_token_revocation", "sender: 'https://okta.example.com', discovery: true, endpoint: §'/intake/x', clients: [a]"), []string{
		`intake[0].endpoint: "/intake/x" is not a URL with a host; write it as https://idp.example.com/`,
	}},
}

func TestEndpointsAsRead(t *testing.T) {
	path := filepath.Join(folderOf(t), "control.yaml")
	read := func(kind, more string) any {
		t.Helper()
		return mustControl(t, path, whole("control", intakeOf(kind, more))).Intakes[0].Settings
	}
	l := read("logout", "discovery: true, clients: [web, app]").(*LogoutIntake)
	if l.Signer.Issuer != "https://idp.example.com/" || !l.Signer.Discovery || !slices.Equal(l.Clients, []string{"web", "app"}) || l.ExpiryOptional || !l.SIDInTokens {
		t.Errorf("logout by default: got %+v, want two clients, exp required, and session IDs in tokens", l)
	}
	l = read("logout", "discovery: true, clients: [web], exp: optional, sid_in_tokens: false").(*LogoutIntake)
	if !l.ExpiryOptional || l.SIDInTokens {
		t.Errorf("logout: got %+v, want exp optional, and no session IDs in tokens", l)
	}
	r := read("revocation_endpoint", "jwks_file: jwks.json, clients: [{client_id: web, sha256: '"+aHash+"'}, {client_id: web, sha256: '"+strings.Repeat("2", 64)+"'}]").(*RevocationEndpointIntake)
	if r.Signer.Issuer != "https://idp.example.com/" || len(r.Clients) != 2 || r.Clients[0].ID != "web" || r.Clients[1].ID != "web" || r.Clients[0].SHA256[0] != 0x11 || r.Clients[1].SHA256[31] != 0x22 {
		t.Errorf("revocation_endpoint: got %+v, want one issuer, and a client with two secrets", r)
	}
	g := read("global_token_revocation", "sender: 'https://okta.example.com', discovery: true, endpoint: 'https://x.example.com/gtr', clients: [0oa1]").(*GlobalTokenRevocationIntake)
	if g.Signer.Issuer != "https://okta.example.com" || g.Endpoint != "https://x.example.com/gtr" || !slices.Equal(g.Clients, []string{"0oa1"}) {
		t.Errorf("global_token_revocation: got %+v, want a sender that need not be one of issuers", g)
	}
}
