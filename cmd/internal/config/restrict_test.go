package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// A key that restricts and has no value is a fault: `issuers:` with its list
// commented out made an operator for every issuer.
func TestNullRestrictionsAreFaults(t *testing.T) {
	const want = "has no value, so it would restrict nothing; give it one, or remove the key"
	path := filepath.Join(folderOf(t), "x.yaml")
	try := func(kind, key, format string) {
		for _, null := range []string{"", "null", "~"} {
			text := whole(kind, fmt.Sprintf(format, key+": "+null))
			got := faults(t, kind, path, text)
			if len(got) != 1 || !strings.HasSuffix(got[0].Path, key) || got[0].Message != want {
				t.Errorf("%s\ngot %v\nwant one fault of %s: %s", text, got, key, want)
			}
		}
	}
	for _, key := range []string{"algorithms", "token_types", "key_uses", "required_claims", "claims", "max_stale", "status_lists"} {
		try("authz", key, "issuers: [{issuer: 'https://idp.example.com/', discovery: true, audiences: [api], %s}]\n")
	}
	try("authz", "audiences", "issuers: [{issuer: 'https://idp.example.com/', discovery: true, any_audience: true, %s}]\n")
	for _, key := range []string{"issuers", "audiences", "scopes", "claims", "max_age"} {
		try("authz", key, "policies: {a: {%s}}\n")
	}
	try("authz", "max_staleness", "revocation: {control: [127.0.0.1:1], token_file: replica.token, %s}\n")
	try("control", "issuers", "admin: {tokens: [{name: a, roles: [operator], sha256: "+hashB+", %s}]}\n")
	for _, list := range []string{"webhooks: [{url: 'https://a/', secret_file: replica.token, %s}]", "alertmanagers: [{url: 'https://a/', %s}]"} {
		try("control", "detectors", "alerts: {"+list+"}\n")
	}
}

// The keys whose absence is a fault of its own stay one.
func TestNullOfWhatIsNeeded(t *testing.T) { testFaults(t, "control", nullNeeded) }

var nullNeeded = []faulty{
	{"admin: {tokens: [{name: a, sha256: " + hashB + ", §roles: }]}\n", []string{"admin.tokens[0].roles: is missing: viewer, revoker or operator"}},
	{"admin: {§tokens: }\n", []string{"admin.tokens: is missing: at least one, for you: {name: alice, sha256: …, roles: [operator]}"}},
	{"http: {tls: {cert_file: cert.pem, key_file: key.pem, §client_ca_file: }}\n", []string{
		"http.tls.client_ca_file: has no value, so no client certificate would be demanded; name the authority, or remove the key",
	}},
}

// One token that a replica and an operator share makes each replica an
// operator, so one hash in two places is a fault in the whole file.
func TestOneHashInTwoPlaces(t *testing.T) {
	testFaults(t, "control", []faulty{
		{"feed: {tokens: [{name: replicas, sha256: " + hashB + "}]}\nadmin:\n  tokens:\n  - {name: alice, sha256: §" + hashB + ", roles: [operator]}\n",
			[]string{"admin.tokens[0].sha256: duplicate value, first used on line 1"}},
		{"admin: {tokens: [{name: alice, sha256: " + hashB + ", roles: [operator]}]}\nfeed:\n  tokens: [{name: a, sha256: " + hashA + "}, {name: b, sha256: §" + strings.ToUpper(hashB) + "}]\n",
			[]string{"feed.tokens[1].sha256: duplicate value, first used on line 1"}},
	})
}

// LOCALHOST is this machine, here as everywhere.
func TestLoopbackInAnyCase(t *testing.T) {
	path := filepath.Join(folderOf(t), "x.yaml")
	for _, host := range []string{"LOCALHOST", "LocalHost.", "127.1.2.3", "[::1]", "[::ffff:127.0.0.1]"} {
		mustControl(t, path, whole("control", "http: {listen: '"+host+":1'}\n"))
		mustAuthz(t, path, "issuers: [{issuer: 'http://"+host+"/', discovery: true, audiences: [api]}]\nrevocation: {control: ['"+host+":1'], token_file: replica.token}\n"+
			"tracing: {endpoint: 'http://"+host+":4317'}\n")
	}
}
