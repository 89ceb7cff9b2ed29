package config

import (
	"fmt"
	"path/filepath"
	"sort"
	"strings"
	"testing"
)

// A § in a text stands where a fault is expected, and is taken out before it is
// read. The faults are listed in the order of the file.
type faulty struct {
	text string
	want []string
}

var syntaxFaults = []faulty{
	{"a: §[1\n", []string{"this is not YAML: sequence end token ']' not found"}},
	{"grpc: {}\n§---\nhttp: {}\n", []string{"a second document begins here; a configuration is one document"}},
	{"§%YAML 1.2\n---\nhttp: {}\n", []string{"directives (%) are not used here; remove the line"}},
	{"http: {listen: '\xc3\xa9§\xff'}\n", []string{"this is not UTF-8; save the file in that encoding"}},
	{"http:\r\n  listen: §\x00\r\n", []string{"the control character U+0000 cannot stand in a configuration; remove it"}},
	{"policies: {a: {claims: {cognito:groups: §[admin]}}}\n", []string{"this is not YAML: ',' or '}' must be specified; put a key or a value with a colon in quotes"}},
	{"§[a, b]\n", []string{"is a list; write a mapping (key: value)"}},
}

var authzFaults = []faulty{
	// The whole.
	{"§lgo: {}\n§logging: {}\n", []string{
		"lgo: there is no such key; did you mean log?",
		"logging: there is no such key; the keys here are alerts, grpc, headers, http, issuers, known_tokens, log, policies, revocation, token_cache, tracing",
	}},
	{"log: {level: info}\n§log: {level: info}\n", []string{"log: duplicate key, first used on line 1; remove one"}},
	{"log: §&x {level: info}\nhttp: §*x\n§<<: *x\n§? grpc\n: {}\n§1: {}\n§!!str a: 1\n", []string{
		"log: anchors and aliases (&, *) are not used here; write the value out",
		"http: anchors and aliases (&, *) are not used here; write the value out",
		"a key must be a plain text; merge keys (<<) are not used here, write the values out",
		"a key must be a plain text; ?, &, * and ! are not used here",
		"a key must be a plain text; put it in quotes",
		"a key must be a plain text; ?, &, * and ! are not used here",
	}},
	{"log:\n  level: §!!str info\n  format: §[json]\ngrpc: §text\nhttp: {listen: §{}}\n", []string{
		"log.level: tags (!) are not used here; remove it",
		"log.format: is a list; write a text",
		`grpc: "text" is not a mapping (key: value)`,
		"http.listen: is a mapping (key: value); write a text",
	}},
	{"log: {level: §inof, format: §yaml}\n", []string{
		`log.level: "inof" is not one of debug, error, info, warn`,
		`log.format: "yaml" is not one of json, text`,
	}},

	// Listeners.
	{"grpc: {listen: §9191}\nhttp: {listen: §unix:///a}\n", []string{
		`grpc.listen: "9191" is not an address; write it as 127.0.0.1:9191, an IPv6 host in brackets`,
		"http.listen: only grpc of authz.yaml listens at a unix socket; write host:port",
	}},
	{"grpc: {listen: §unix://a}\nhttp: {listen: §a:65536}\n", []string{
		`grpc.listen: "unix://a" is not the path of a socket; write it as unix:///run/rescind/authz.sock`,
		`http.listen: "a:65536" has no port from 0 to 65535`,
	}},
	{"grpc: {listen: ':9000'}\nhttp: {listen: §127.0.0.1:9000}\n", []string{"http.listen: grpc and http cannot both listen at 127.0.0.1:9000; choose another port"}},
	{"grpc: {listen: §127.0.0.1:9192}\n", []string{"grpc.listen: grpc and http cannot both listen at 127.0.0.1:9192; choose another port"}},
	{"grpc: {socket_mode: §0660}\n", []string{"grpc.socket_mode: is for a listener at unix:///path; remove it"}},
	{"grpc: {listen: unix:///a, socket_mode: §rw}\n", []string{`grpc.socket_mode: "rw" is not the mode of a file; write it as "0660"`}},
	{"known_tokens: §{}\n", []string{"known_tokens.socket: is missing: the path of the Unix socket that Envoy's module connects to"}},
	{"known_tokens: {socket: §run/known.sock, entries: §1023, envoy_uid: §-1, group: §'', audit: §1.5, §workers: 2}\n", []string{
		`known_tokens.socket: must be an absolute path of at most 107 bytes, such as /run/rescind/known.sock; "run/known.sock" is relative`,
		`known_tokens.entries: "1023" is not a whole number from 1024 to 16777216`,
		`known_tokens.envoy_uid: "-1" is not a whole number from 0 to 2147483647`,
		"known_tokens.group: is empty",
		`known_tokens.audit: "1.5" is not a share from 0 (none) to 1 (all)`,
		"known_tokens.workers: there is no such key; the keys here are answer_bytes, audit, entries, envoy_uid, group, socket",
	}},
	{"known_tokens: {socket: §/" + strings.Repeat("x", 107) + ", entries: §16777217, envoy_uid: §envoy, group: §[a], audit: §-0.1}\n", []string{
		"known_tokens.socket: must be an absolute path of at most 107 bytes, such as /run/rescind/known.sock; this one has 108",
		`known_tokens.entries: "16777217" is not a whole number from 1024 to 16777216`,
		`known_tokens.envoy_uid: "envoy" is not a whole number from 0 to 2147483647`,
		"known_tokens.group: is a list; write a text",
		`known_tokens.audit: "-0.1" is not a share from 0 (none) to 1 (all)`,
	}},
	{"known_tokens: {socket: §/run/rescind/, answer_bytes: §961, audit: §half}\n", []string{
		"known_tokens.socket: ends with a slash; name the socket, such as /run/rescind/known.sock",
		`known_tokens.answer_bytes: "961" is not a whole number from 64 to 960`,
		`known_tokens.audit: "half" is not a share from 0 (none) to 1 (all)`,
	}},
	{"token_cache: {max_bytes: 0}\nknown_tokens: §{socket: /run/rescind/known.sock}\n", []string{
		"known_tokens: needs token_cache.max_bytes above 0, because only tokens that are remembered become known",
	}},
	{"grpc: {max_message: §1, max_receiving: §16MB}\n", []string{
		`grpc.max_message: "1" is not a whole number from 65536 to 1073741824`,
		`grpc.max_receiving: "16MB" is not a whole number from 65536 to 1099511627776`,
	}},
	{"grpc: {max_message: 2000000, max_receiving: §1000000}\n", []string{
		"grpc.max_receiving: max_receiving (1000000) is less than max_message (2000000), so the largest message could never be received; raise max_receiving",
	}},
	{"token_cache: {max_bytes: §1000}\n", []string{`token_cache.max_bytes: "1000" must be 0, which remembers no token, or a whole number of bytes from 1048576 to 1099511627776`}},
	{"token_cache: {max_bytes: §32MB}\n", []string{`token_cache.max_bytes: "32MB" must be 0, which remembers no token, or a whole number of bytes from 1048576 to 1099511627776`}},
	{"grpc: {tls: §{cert_file: cert.pem}}\n", []string{"grpc.tls: needs cert_file and key_file together; one of them is missing"}},
	{"grpc: {tls: §{client_ca_file: cert.pem}}\n", []string{"grpc.tls: needs cert_file and key_file beside client_ca_file"}},
	{"grpc: {tls: {cert_file: cert.pem, key_file: §other.pem}}\n", []string{
		"grpc.tls.key_file: DIR/other.pem is not the key of DIR/cert.pem (tls: private key does not match public key)",
	}},
	{"grpc: {tls: {cert_file: §key.pem, key_file: §none.pem, client_ca_file: §broken.pem}}\n", []string{
		"grpc.tls.cert_file: DIR/key.pem has no certificate; it must be PEM (-----BEGIN CERTIFICATE-----)",
		"grpc.tls.key_file: DIR/none.pem cannot be read (no such file or directory); check the path",
		"grpc.tls.client_ca_file: certificate 1 in DIR/broken.pem is damaged: x509: malformed certificate",
	}},

	// Issuers.
	{"issuers: §[]\n", []string{"issuers: is empty; name at least one"}},
	{"issuers: §5\n", []string{`issuers: "5" is not a list ([one, two])`}},
	{"§issuers:\n", []string{"issuers: is missing: at least one, whose tokens are accepted"}},
	{"issuers: [§§§{}]\n", []string{
		"issuers[0].issuer: is missing: the iss of its tokens, such as https://idp.example.com/",
		"issuers[0]: needs exactly one of jwks_uri, discovery: true and jwks_file, and has 0",
		"issuers[0].audiences: is missing: name the audience of your API, or set any_audience: true",
	}},
	{"issuers:\n- §issuer: https://a/\n  discovery: true\n  jwks_uri: https://a/jwks\n  audiences: [a]\n  any_audience: §true\n  §audience: [a]\n", []string{
		"issuers[0]: needs exactly one of jwks_uri, discovery: true and jwks_file, and has 2",
		"issuers[0].any_audience: contradicts audiences; keep one of them",
		"issuers[0].audience: there is no such key; did you mean audiences?",
	}},
	{"issuers:\n- {issuer: https://a/, discovery: §yes, any_audience: §1}\n- {issuer: §https://a/, discovery: true, audiences: §[]}\n", []string{
		`issuers[0].discovery: "yes" is not true or false`,
		`issuers[0].any_audience: "1" is not true or false`,
		"issuers[1].issuer: duplicate value, first used on line 2",
		"issuers[1].audiences: is empty; name at least one",
	}},
	issuerFault("issuer: §'https://a/#f', discovery: true", "issuer: has a fragment (#), which the URL of an issuer never has; remove it"),
	issuerFault("issuer: §'https://u:p@a/', discovery: true", "issuer: has a user name or a password in it; remove them, because issuers appear in logs"),
	issuerFault("issuer: §'https:///a', discovery: true", `issuer: "https:///a" is a URL without a host; write it as https://idp.example.com/`),
	issuerFault("issuer: §'https://a/ b', discovery: true", `issuer: "https://a/ b" has a colon and is not a URI, so no token can have it as iss (RFC 7519, section 2); correct it`),
	issuerFault("issuer: §'https://a:x/', discovery: true", `issuer: "https://a:x/" has a colon and is not a URI, so no token can have it as iss (RFC 7519, section 2); correct it`),
	issuerFault("issuer: accounts.google.com, discovery: §true", `discovery: "accounts.google.com" is not an https URL, so it has no discovery document; use jwks_uri or jwks_file`),
	issuerFault("issuer: 'did:web:example.com', discovery: §true", `discovery: "did:web:example.com" is not an https URL, so it has no discovery document; use jwks_uri or jwks_file`),
	issuerFault("issuer: §'10.0.0.1:8443', jwks_uri: 'https://a/jwks'", `issuer: "10.0.0.1:8443" has a colon and is not a URI, so no token can have it as iss (RFC 7519, section 2); correct it`),
	issuerFault("issuer: §'', discovery: true", "issuer: is empty"),
	issuerFault("issuer: §'http://a/', discovery: true", "issuer: discovery over http can be changed on the way; use https, or allow_http: true"),
	issuerFault("issuer: §'https://a/?t=1', discovery: true", "issuer: an issuer with a query (?) has no discovery document; use jwks_uri"),
	issuerFault("issuer: 'http://a/', jwks_uri: §http://a/jwks", "jwks_uri: keys fetched over http can be replaced on the way; use https, or allow_http: true"),
	issuerFault("issuer: 'http://a/', jwks_file: §bad.json", "jwks_file: DIR/bad.json is not JSON; it must hold a key set (RFC 7517)"),
	issuerFault("issuer: 'https://a/', discovery: true, key_uses: [§enc, §x509-svid, jwt-svid, sig]",
		"key_uses[0]: enc is the use of encryption keys, which verify nothing; remove it",
		"key_uses[1]: x509-svid is the use of keys that sign certificates; tokens are signed with keys of the use jwt-svid"),
	issuerFault("issuer: 'https://a/', jwks_file: jwks.json, jwks_token_file: §replica.token", "jwks_token_file: has no use with jwks_file; remove it"),
	issuerFault("issuer: 'https://a/', jwks_uri: 'http://a/jwks', allow_http: true, jwks_token_file: §replica.token", "jwks_token_file: the token would be sent over http, where it can be read on the way; use https"),
	issuerFault("issuer: 'http://a/', discovery: true, allow_http: true, jwks_token_file: §replica.token", "jwks_token_file: the token would be sent over http, where it can be read on the way; use https"),
	issuerFault("issuer: 'https://a/', discovery: true, jwks_token_file: §empty.token", "jwks_token_file: DIR/empty.token is empty; put the secret in it"),
	issuerFault("issuer: 'https://a/', discovery: true, spiffe: §true", `spiffe: "https://a/" is not a trust domain of SPIFFE; write it as spiffe://example.org, in lower case, without a path`),
	issuerFault("issuer: 'http://a/', jwks_file: §large", "jwks_file: DIR/large is larger than 1 MiB; is it the right file?"),
	issuerFault("issuer: 'https://a/', discovery: true, ca_file: §key.pem", "ca_file: DIR/key.pem has no certificate; it must be PEM (-----BEGIN CERTIFICATE-----)"),
	issuerFault("issuer: 'https://a/', discovery: true, algorithms: [§None, §HS256, §RS1, §5, RS256]",
		"algorithms[0]: none means no signature: anyone could write such a token; remove it",
		"algorithms[1]: HS256 signs with a secret that the issuer shares: every reader of a token could write one; use RS, PS, ES or EdDSA",
		`algorithms[2]: "RS1" is not an algorithm; the algorithms are RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA`,
		"algorithms[3]: 5 is not a text; put it in quotes if it is one"),
	issuerFault("issuer: 'https://a/', discovery: true, token_types: [§logout+jwt, §application/SecEvent+JWT, §dpop+jwt, §'a b', '']",
		"token_types[0]: logout+jwt is never the type of an access token; remove it",
		"token_types[1]: secevent+jwt is never the type of an access token; remove it",
		"token_types[2]: dpop+jwt is never the type of an access token; remove it",
		`token_types[3]: "a b" is not a media type; write it as at+jwt`),
	issuerFault("issuer: 'https://a/', discovery: true, max_lifetime: §0s, leeway: §1m1s, refresh_interval: §-1s, min_refresh_interval: §10, max_stale: §-1h",
		"max_lifetime: 0s must be above zero",
		"leeway: 1m1s is too long; the most is 1m0s",
		"refresh_interval: -1s must be above zero",
		`min_refresh_interval: "10" is not a duration; write it as 30s, 5m, 1h30m or 30d`,
		"max_stale: -1h is negative"),
	issuerFault("issuer: 'https://a/', discovery: true, leeway: 1s, iat_leeway: §2s", "iat_leeway: iat_leeway (2s) is more than leeway (1s); a token dated ahead can outlive a revocation, so keep it small"),
	issuerFault("issuer: 'https://a/', discovery: true, iat_leeway: §-1s", "iat_leeway: -1s is negative"),
	issuerFault("issuer: 'https://a/', discovery: true, refresh_interval: §1s", "refresh_interval: refresh_interval (1s) is shorter than min_refresh_interval (10s)"),
	issuerFault("issuer: 'https://a/', discovery: true, min_refresh_interval: §1h", "min_refresh_interval: refresh_interval (5m0s) is shorter than min_refresh_interval (1h0m0s)"),
	issuerFault("issuer: 'https://a/', discovery: true, required_claims: [§'', §null, §/, /a/b, §'/a/~2']",
		"required_claims[0]: is empty",
		"required_claims[1]: is missing; write a text",
		"required_claims[2]: / names no claim; write /NAME/MEMBER for a member of a claim, or NAME for a claim",
		"required_claims[4]: the JSON Pointer has a ~ that is not ~0 or ~1 (RFC 6901); write ~0 for ~, and ~1 for / in the name of a member"),
	issuerFault("issuer: 'https://a/', discovery: true, claims: {cognito:§groups: admin, https://example.com/tier: gold, 'a:b': c}",
		`claims.cognito: "groups: admin" is the rest of a key that has a colon; put the whole key in quotes`),
	issuerFault("issuer: 'https://a/', discovery: true, claims: {/https:§~1~1example.com~1tier: gold}",
		`claims["/https"]: "~1~1example.com~1tier: gold" is the rest of a key that has a colon; put the whole key in quotes`),
	issuerFault("issuer: 'https://a/', discovery: true, claims: {sub: a, §/sub: a, /a/b: x, a/b: x, §/a~1b: x, §/: x, §/~: x, /x/y: §[]}",
		`claims["/sub"]: is the same claim as sub on line 1; remove one`,
		`claims["/a~1b"]: is the same claim as a/b on line 1; remove one`,
		`claims["/"]: / names no claim; write /NAME/MEMBER for a member of a claim, or NAME for a claim`,
		`claims["/~"]: the JSON Pointer has a ~ that is not ~0 or ~1 (RFC 6901); write ~0 for ~, and ~1 for / in the name of a member`,
		`claims["/x/y"]: is empty; name at least one`),
	issuerFault("issuer: 'https://a/', discovery: true, claims: {a: §[], §b: , c: [§{}], d: §0x1f, §'': x, e: [§.inf, §[]]}",
		"claims.a: is empty; name at least one",
		"claims.b: is missing: the accepted values of the claim",
		"claims.c[0]: is a mapping (key: value); write a text",
		"claims.d: 0x1f is not a number as JSON writes it; put it in quotes if it is a text",
		`claims[""]: is empty`,
		`claims.e[0]: ".inf" is not a text`,
		"claims.e[1]: is a list; write a text"),

	// Revocation.
	{"revocation: §{token_file: §none.token}\n", []string{
		"revocation.control: is missing: where the control endpoint's feed listens, such as [127.0.0.1:9391]",
		"revocation.token_file: DIR/none.token cannot be read (no such file or directory); check the path",
	}},
	{"revocation: {control: [§a, §'a:0', §':1', 'localhost:1', §'localhost:1'], token_file: §empty.token}\n", []string{
		`revocation.control[0]: "a" is not an address; write it as 127.0.0.1:9191, an IPv6 host in brackets`,
		`revocation.control[1]: "a:0" needs a host and a port that others can connect to`,
		`revocation.control[2]: ":1" needs a host and a port that others can connect to`,
		"revocation.control[4]: duplicate value, first used on line 1",
		"revocation.token_file: DIR/empty.token is empty; put the secret in it",
	}},
	{"revocation: {control: §[127.0.0.1:1, 10.0.0.1:1], token_file: §two.token}\n", []string{
		"revocation.control: 10.0.0.1:1 is reached over the network, and the token would travel in the clear: add tls (server_name alone trusts the system's authorities), or plaintext: true",
		"revocation.token_file: DIR/two.token must hold the secret alone, one line of visible ASCII without spaces",
	}},
	{"revocation: {control: [h:1], token_file: replica.token, plaintext: §true, tls: §{cert_file: cert.pem, server_name: x}}\n", []string{
		"revocation.plaintext: contradicts tls; keep one of them",
		"revocation.tls: needs cert_file and key_file together; one of them is missing",
	}},
	{"revocation: {control: [127.0.0.1:1], token_file: replica.token, name: §\"a\\tb\", dir: §cert.pem, on_stale: §deny}\n", []string{
		"revocation.name: is not a name: at most 256 bytes of printable text",
		"revocation.dir: DIR/cert.pem is a file; name a folder",
		"revocation.on_stale: deny takes effect only after max_staleness, which is not set: nothing would ever be denied",
	}},
	{"revocation: {control: [127.0.0.1:1], token_file: replica.token, max_staleness: §-1s, on_stale: §drop}\n", []string{
		"revocation.max_staleness: -1s is negative",
		`revocation.on_stale: "drop" is not one of allow, deny`,
	}},

	// Policies and headers.
	{"policies:\n  a: {issuers: [§https://idp.example.com], scopes: [§a b, §'\"'], token: §maybe, max_age: §0s}\n  b: {issuers: §[], audiences: §[], claims: {x: §[]}}\n  §'': {}\n  c: {§scope: [a]}\n", []string{
		"policies.a.issuers[0]: https://idp.example.com is not among the issuers; they are compared byte for byte",
		`policies.a.scopes[0]: "a b" cannot be a scope: visible ASCII without space, " and \ (RFC 6749); one scope an element`,
		`policies.a.scopes[1]: "\"" cannot be a scope: visible ASCII without space, " and \ (RFC 6749); one scope an element`,
		`policies.a.token: "maybe" is not one of optional, required`,
		"policies.a.max_age: 0s must be above zero",
		"policies.b.issuers: is empty; name at least one",
		"policies.b.audiences: is empty; name at least one",
		"policies.b.claims.x: is empty; name at least one",
		`policies[""]: is empty`,
		"policies.c.scope: there is no such key; did you mean scopes?",
	}},
	{"policies:\n  a: {§tokens_from: , realm: §'a\"b', resource_metadata: §api.example.com}\n  b: {tokens_from: §[]}\n  c:\n    tokens_from:\n      - §{}\n      - §{header: a, cookie: b}\n      - {cookie: a}\n      - §{cookie: a}\n      - §{query: q, scheme: Bearer}\n      - §{header: Cookie}\n      - §{header: host}\n      - §{header: X.Jwt.Token}\n      - §{header: x_user}\n      - {header: y}\n      - §{header: Y, scheme: Token}\n      - {websocket_protocol: bearer.}\n      - §{websocket_protocol: bearer.jwt.}\n      - §{websocket_protocol: 'a b'}\n      - §{cookie: 'a=b'}\n      - {§from: x}\nheaders: {claims: {x-user: sub}}\n", []string{
		"policies.a.tokens_from: has no value, so it would restrict nothing; give it one, or remove the key",
		`policies.a.realm: "a\"b" cannot stand in a challenge: visible ASCII without " and \`,
		`policies.a.resource_metadata: "api.example.com" is not a URL with a host; write it as https://idp.example.com/`,
		"policies.b.tokens_from: is empty; name at least one",
		"policies.c.tokens_from[0]: needs exactly one of header, cookie, query and websocket_protocol, and has 0",
		"policies.c.tokens_from[1]: needs exactly one of header, cookie, query and websocket_protocol, and has 2",
		"policies.c.tokens_from[3]: can hold the same token as element 2 of this list, which would count as two; remove one",
		"policies.c.tokens_from[4]: scheme is for a header; remove it",
		"policies.c.tokens_from[5]: holds many cookies; write cookie: and the name of one",
		"policies.c.tokens_from[6]: host is part of the request itself and holds no token",
		"policies.c.tokens_from[7]: X.Jwt.Token is under headers.prefix or carries a claim, so only rescind may set it; take the token from another header",
		"policies.c.tokens_from[8]: x_user is under headers.prefix or carries a claim, so only rescind may set it; take the token from another header",
		"policies.c.tokens_from[10]: can hold the same token as element 9 of this list, which would count as two; remove one",
		"policies.c.tokens_from[12]: can hold the same token as element 11 of this list, which would count as two; remove one",
		`policies.c.tokens_from[13]: "a b" cannot begin a WebSocket protocol; write it as bearer. and put it in quotes`,
		`policies.c.tokens_from[14]: "a=b" is not the name of a cookie`,
		"policies.c.tokens_from[15].from: there is no such key; the keys here are cookie, header, query, scheme, websocket_protocol",
	}},
	{"headers:\n  prefix: §x y\n  claims:\n    §a b: sub\n    §Host: sub\n    §x-a:\n    x_b: sub\n    §X-B: iss\n    §x.b: iss\n    x-c: §''\n  authorization: §drop\n  trust_forwarded_client_cert: §'true'\n", []string{
		`headers.prefix: "x y" cannot begin the name of a header; write it as x-jwt-`,
		`headers.claims["a b"]: is not the name of a header; letters, digits and - are safe`,
		"headers.claims.Host: cannot carry a claim: this header is part of the request itself",
		"headers.claims.x-a: is missing; write a text",
		"headers.claims.X-B: is the same header as x_b; remove one",
		`headers.claims["x.b"]: is the same header as x_b; remove one`,
		"headers.claims.x-c: is empty",
		`headers.authorization: "drop" is not one of forward, remove`,
		`headers.trust_forwarded_client_cert: "true" is not true or false`,
	}},
	{"headers:\n  payload: §X.A\n  claims: {x-a: sub, x-b: §[], x-c: [sub, §''], x-d: §{encoding: percent}, x-e: {claim: sub, encoding: §hex}, x-f: {claim: sub, §name: a}, x-g: §/, x-h: [/a/b, §'/~'], x-i: {claim: §/}}\n", []string{
		"headers.payload: is the same header as x-a of claims; remove one",
		"headers.claims.x-b: is empty; name at least one",
		"headers.claims.x-c[1]: is empty",
		"headers.claims.x-d.claim: is missing: the claim that the header carries, or a list of claims",
		`headers.claims.x-e.encoding: "hex" is not one of base64url, percent, plain`,
		"headers.claims.x-f.name: there is no such key; the keys here are claim, encoding",
		"headers.claims.x-g: / names no claim; write /NAME/MEMBER for a member of a claim, or NAME for a claim",
		"headers.claims.x-h[1]: the JSON Pointer has a ~ that is not ~0 or ~1 (RFC 6901); write ~0 for ~, and ~1 for / in the name of a member",
		"headers.claims.x-i.claim: / names no claim; write /NAME/MEMBER for a member of a claim, or NAME for a claim",
	}},
	{"headers: {payload: §content-length}\n", []string{"headers.payload: cannot carry a claim: this header is part of the request itself"}},
	{"headers: {prefix: §T}\n", []string{`headers.prefix: every header under the prefix is taken from the client, and with "T" that is te too; choose a longer one`}},
}

// issuerFault is about one issuer; the paths are within it.
func issuerFault(keys string, want ...string) faulty {
	for i := range want {
		want[i] = "issuers[0]." + want[i]
	}
	return faulty{"issuers: [{" + keys + ", audiences: [a]}]\n", want}
}

var controlFaults = []faulty{
	{"http: {listen: §0.0.0.0:9390}\nfeed: {listen: §':9391', tokens: [{name: a, sha256: " + hashA + "}]}\n", []string{
		"http.listen: 0.0.0.0:9390 is reached over the network, and tokens would travel in the clear: add tls, or plaintext: true if something in front does TLS",
		"feed.listen: :9391 is reached over the network, and tokens would travel in the clear: add tls, or plaintext: true if something in front does TLS",
	}},
	{"http: {tls: {cert_file: cert.pem, key_file: key.pem}, plaintext: §true}\n", []string{"http.plaintext: contradicts tls; keep one of them"}},
	{"http: {listen: 0.0.0.0:1, plaintext: §yes}\n", []string{`http.plaintext: "yes" is not true or false`}},
	{"http: {listen: 0.0.0.0:1, tls: §[]}\n", []string{"http.tls: is a list; write a mapping (key: value)"}},
	{"http: {listen: 127.0.0.1:9391}\nfeed: {listen: §127.0.0.1:9391, tokens: [{name: a, sha256: " + hashA + "}]}\n", []string{
		"feed.listen: 127.0.0.1:9391 is where http listens already; choose another port",
	}},
	{"feed: {tokens: [{name: a, sha256: " + hashA + "}, {name: §a, sha256: §" + strings.ToUpper(hashA) + "}, {§roles: [x], name: §'', sha256: §hunter2}]}\n", []string{
		"feed.tokens[1].name: duplicate value, first used on line 1",
		"feed.tokens[1].sha256: duplicate value, first used on line 1",
		"feed.tokens[2].roles: there is no such key; the keys here are max_replicas, name, sha256",
		"feed.tokens[2].name: is empty",
		"feed.tokens[2].sha256: is not a SHA-256: 64 hex digits, as from printf %s TOKEN | sha256sum. If it is the token itself, make a new one",
	}},
	{"feed: {tokens: §[]}\nadmin: §5\n", []string{"feed.tokens: is empty; name at least one", `admin: "5" is not a mapping (key: value)`}},
	{"admin:\n  §tokens:\n", []string{"admin.tokens: is missing: at least one, for you: {name: alice, sha256: …, roles: [operator]}"}},
	{"admin:\n  tokens:\n  - {name: a, sha256: §e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855, roles: [operator, §admin]}\n" +
		"  - {name: b, sha256: §01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b, roles: §[], issuers: [§'idp ']}\n  - §§§{}\n", []string{
		"admin.tokens[0].sha256: is the SHA-256 of nothing; the token was empty when it was made",
		`admin.tokens[0].roles[1]: "admin" is not one of operator, revoker, viewer`,
		"admin.tokens[1].sha256: is the SHA-256 of a line end alone; the token was empty when it was made",
		"admin.tokens[1].roles: is empty; name at least one",
		"admin.tokens[1].issuers[0]: begins or ends with a space; remove it",
		"admin.tokens[2].name: is missing: it stands in the audit and in logs",
		"admin.tokens[2].roles: is missing: viewer, revoker or operator",
		"admin.tokens[2].sha256: is missing: 64 hex digits, as from printf %s TOKEN | sha256sum",
	}},
	{"store: §{retention: §0s}\n", []string{
		"store.dir: is missing: the folder of the durable log, such as /var/lib/rescind/control",
		"store.retention: 0s must be above zero",
	}},
	{"store: {dir: §d, nats: {url: §'nats://u:hunter2@n'}}\n", []string{
		"store.dir: has no use beside nats: the log is there; keep one of them",
		"store.nats.url: has a password or a token in it, and this file is no place for secrets; use credentials_file",
	}},
	{"store: {cluster: §{name: §a b, listen: §'h:0', peers: §[c:1], secret_file: §empty.token, plaintext: true}, nats: {url: §http://n, credentials_file: §none}}\n", []string{
		"store.cluster: has no use beside nats: the log is there; keep one of them",
		`store.cluster.name: "a b" is not the name of a node; letters, digits, dots, - and _ make one`,
		`store.cluster.listen: "h:0" needs a host and a port that others can connect to`,
		"store.cluster.peers: a cluster has 3 or 5 nodes, so 2 or 4 peers; these are 1 (this node is not its own peer)",
		"store.cluster.secret_file: DIR/empty.token is empty; put the secret in it",
		"store.nats.url: is not the URL of a NATS server; write it as tls://host:4222",
		"store.nats.credentials_file: DIR/none cannot be read (no such file or directory); check the path",
	}},
	{"store: {dir: §d, cluster: §{name: a, listen: §127.0.0.1:9390, peers: ['localhost:1', §127.0.0.1:9390]}, nats: §{}}\n", []string{
		"store.dir: has no use beside nats: the log is there; keep one of them",
		"store.cluster.secret_file: is missing: a secret that is the same on all nodes",
		"store.cluster.listen: 127.0.0.1:9390 is where http or feed listens already; choose another port",
		"store.cluster.peers[1]: is this node itself; name the others alone",
		"store.nats.url: is missing: of the servers, such as tls://nats.example.com:4222",
	}},
	{"store: {dir: d, cluster: §{name: a, listen: §127.0.0.1:9390, peers: ['localhost:1', §127.0.0.1:9390]}}\n", []string{
		"store.cluster.secret_file: is missing: a secret that is the same on all nodes",
		"store.cluster.listen: 127.0.0.1:9390 is where http or feed listens already; choose another port",
		"store.cluster.peers[1]: is this node itself; name the others alone",
	}},
	{"store: {§dir: , nats: , cluster: }\n", []string{"store.dir: is missing: the folder of the durable log, such as /var/lib/rescind/control"}},
}

func TestAuthzFaults(t *testing.T)   { testFaults(t, "authz", authzFaults) }
func TestControlFaults(t *testing.T) { testFaults(t, "control", controlFaults) }
func TestSyntaxFaults(t *testing.T)  { testFaults(t, "syntax", syntaxFaults) }

func testFaults(t *testing.T, kind string, list []faulty) {
	dir := folderOf(t)
	path := filepath.Join(dir, "f.yaml")
	for _, f := range list {
		text, want := unmark(f, path)
		var got []string
		for _, fault := range faults(t, kind, path, whole(kind, text)) {
			if kind == "syntax" && strings.HasPrefix(fault.Message, "is missing") {
				continue // the texts are no whole configurations
			}
			got = append(got, strings.ReplaceAll(fault.String(), dir+"/", "DIR/"))
		}
		if sorted(strings.Join(got, "\n")) != sorted(strings.ReplaceAll(want, dir+"/", "DIR/")) {
			t.Errorf("%s\ngot:\n%s\nwant:\n%s", text, strings.Join(got, "\n"), want)
		}
	}
}

// unmark removes the marks from a text, and puts the position of each before its
// wanted fault.
func unmark(f faulty, path string) (text, want string) {
	var lines []string
	line, column := 1, 1
	for i, part := range strings.Split(f.text, "§") {
		if i > 0 && i <= len(f.want) {
			lines = append(lines, fmt.Sprintf("%s:%d:%d: %s", path, line, column, f.want[i-1]))
		}
		text += part
		for _, r := range part {
			if column++; r == '\n' {
				line, column = line+1, 1
			}
		}
	}
	return text, strings.Join(lines, "\n")
}

// sorted makes the order of faults at one position not matter.
func sorted(lines string) string {
	list := strings.Split(lines, "\n")
	sort.SliceStable(list, func(i, j int) bool { return list[i] < list[j] })
	return strings.Join(list, "\n")
}
