package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// everySetting has every key of both files with a value, in block form, where a
// variable needs no quotes. Some keys exclude each other, so each kind has
// several files.
var everySetting = map[string][]string{
	"authz": {`
grpc:
  listen: unix:///run/authz.sock
  socket_mode: "0600"
  max_message: 65536
  max_receiving: 131072
  tls:
    cert_file: cert.pem
    key_file: key.pem
    client_ca_file: cert.pem
http:
  listen: 127.0.0.1:9292
issuers:
  - issuer: https://idp.example.com/
    jwks_uri: https://idp.example.com/jwks
    jwks_token_file: replica.token
    audiences:
      - api
      - "12"
    algorithms:
      - RS256
    token_types:
      - at+jwt
      - ""
    key_uses:
      - sig
    max_lifetime: 30d
    leeway: 40s
    iat_leeway: 3s
    max_token_size: 4000
    refresh_interval: 6m
    min_refresh_interval: 11s
    max_stale: 1h30m
    required_claims:
      - jti
    claims:
      typ:
        - Bearer
        - 7
        - 1.5
        - true
        - "7"
    ca_file: cert.pem
    allow_http: false
    status_lists:
      uris:
        - https://idp.example.com/statuslists/
        - https://status.example.com/lists/1
      jwks_uri: https://status.example.com/jwks
      on_unavailable: allow
      max_lists: 65
      max_inflated: 2000000
      max_response: 4000000
      min_refresh_interval: 20s
      max_refresh_interval: 10m
      max_age: 12h
  - issuer: spiffe://example.org
    jwks_file: jwks.json
    spiffe: true
    any_audience: true
  - issuer: https://other.example.com
    discovery: true
    audiences:
      - api
revocation:
  control:
    - 127.0.0.1:9391
    - 127.0.0.1:9393
  token_file: replica.token
  tls:
    ca_file: cert.pem
    cert_file: cert.pem
    key_file: key.pem
    server_name: control.example.com
  name: replica-a
  dir: state
  max_staleness: 5m
  on_stale: deny
policies:
  reports:
    issuers:
      - https://idp.example.com/
    audiences:
      - reports
    scopes:
      - "reports:read"
    claims:
      tenant:
        - acme
    max_age: 15m
    token: optional
    mode: observe
    realm: orders
    resource_metadata: https://api.example.com/.well-known/oauth-protected-resource
    tokens_from:
      - header: x-token
        scheme: JWT
      - cookie: session
      - query: access_token
      - websocket_protocol: bearer.
headers:
  prefix: x-id-
  claims:
    x-id-subject: sub
    x-id-client:
      - client_id
      - azp
    x-id-groups:
      claim: groups
      encoding: percent
  payload: x-id-payload
  authorization: remove
  trust_forwarded_client_cert: true
token_cache:
  max_bytes: 2097152
known_tokens:
  socket: /run/rescind/known.sock
  entries: 4096
  answer_bytes: 512
  envoy_uid: 101
  group: rescind-envoy
  audit: 0.05
alerts:
  enabled: false
  window: 2h
  tokens: 5000
  networks_per_token: 6
  at_once: 11s
  failures: 101
  failures_within: 2m
  subject_rate: 11
  subject_at_least: 301
  lifetime_factor: 5
  lifetime_at_least: 2h
log:
  level: debug
  format: text
  decisions:
    denied: 0.5
    allowed: 0.25
    max_per_second: 10
    output: otlp
    collector:
      endpoint: https://collector.example.com
      protocol: http
      headers_file: otlp.headers
      ca_file: cert.pem
tracing:
  endpoint: 127.0.0.1:4317
  protocol: grpc
  sample_ratio: 0.5
  max_per_second: 100
  plaintext: true
`, `
issuers:
  - issuer: http://idp.example.com/
    discovery: true
    allow_http: true
    any_audience: true
revocation:
  control:
    - control.example.com:9391
  token_file: replica.token
  plaintext: true
log:
  decisions:
    output: file:decisions.log
    max_size_mb: 7
    max_files: 3
`},
	"control": {`
http:
  listen: 0.0.0.0:9490
  tls:
    cert_file: cert.pem
    key_file: key.pem
    client_ca_file: cert.pem
feed:
  listen: 0.0.0.0:9491
  plaintext: true
  tokens:
    - name: replicas
      sha256: ` + hashA + `
      max_replicas: 7
store:
  dir: state
  retention: 30d
  cluster:
    name: n1
    listen: 10.0.0.1:6222
    peers:
      - 10.0.0.2:6222
      - 10.0.0.3:6222
    secret_file: cluster.secret
    tls:
      cert_file: cert.pem
      key_file: key.pem
      ca_file: cert.pem
admin:
  tokens:
    - name: alice
      sha256: ` + hashB + `
      roles:
        - revoker
      issuers:
        - https://idp.example.com/
alerts:
  window: 2h
  external_url: https://control.example.com
  webhooks:
    - url: https://siem.example.com/hooks
      secret_file: replica.token
      name: siem
      detectors:
        - revoked_token_used
      ca_file: cert.pem
      allow_http: false
  alertmanagers:
    - url: http://alertmanager.example.com
      name: am
      allow_http: true
  actions:
    - detector: revoked_token_used
      revoke: session
      block: true
      dry_run: false
      max_per_hour: 11
      expires_in: 12h
limits:
  share_of_traffic: 0.3
  min_requests: 1001
  shapes_per_issuer: 65
issuers:
  - issuer: https://idp.example.com/
    revocation_endpoint: https://idp.example.com/revoke
    client_id: rescind
    client_secret_file: replica.token
    ca_file: cert.pem
    allow_http: false
intake_http:
  listen: 0.0.0.0:9493
  tls:
    cert_file: cert.pem
    key_file: key.pem
intake:
  - name: keycloak
    kind: pushed
    issuers:
      - https://idp.example.com/
    may:
      - subject
      - block
    dry_run: true
    map:
      email: email
      username: /preferred_username
    discovery: true
  - name: okta
    kind: ssf_push
    issuers:
      - https://org.example.com/oauth2/default
    may:
      - subject
      - block
    map:
      email: email
    transmitter: https://org.example.com
    jwks_uri: https://org.example.com/oauth2/v1/keys
    audiences:
      - https://rescind.example.com
    strict: false
    stream: s-1
    authorization_sha256: 2c624232cdd221771294dfbb310aca000a0df6ac8b66b696d90ef06fdefb64a3
    subject_issuers:
      https://org.example.com: https://org.example.com/oauth2/default
    email_domains:
      - example.com
    sid_in_tokens: false
    critical_subject_members:
      - user
    unmatched: ignore
    events:
      session-revoked: revoke
      https://vendor.example.com/left: block
    management:
      metadata_url: https://org.example.com/meta
      token_file: replica.token
      allow_private: true
      verify_every: 1h
  - name: logouts
    kind: logout
    issuers:
      - https://idp.example.com/
    jwks_file: jwks.json
    clients:
      - web
      - "12"
    exp: optional
    sid_in_tokens: false
  - name: clients
    kind: revocation_endpoint
    issuers:
      - https://idp.example.com/
    jwks_uri: https://idp.example.com/jwks
    clients:
      - client_id: web
        sha256: ` + hashA + `
  - name: universal-logout
    kind: global_token_revocation
    issuers:
      - https://idp.example.com/
    sender: https://okta.example.com
    discovery: true
    endpoint: https://signals.example.com/gtr
    clients:
      - 0oa1
  - name: kc
    kind: ssf_poll
    issuers:
      - https://idp.example.com/
    discovery: true
    any_audience: true
    poll_url: https://idp.example.com/poll
    poll_interval: 2s
    management:
      token_url: https://idp.example.com/token
      client_id: rescind
      client_secret_file: replica.token
      scopes:
        - ssf.read
log:
  level: warn
  format: text
`, `
http:
  plaintext: true
  listen: 0.0.0.0:9490
feed:
  tokens:
    - name: replicas
      sha256: ` + hashA + `
store:
  nats:
    url: nats://nats.example.com:4222
    credentials_file: rescind.creds
    plaintext: true
admin:
  tokens:
    - name: alice
      sha256: ` + hashB + `
      roles:
        - viewer
`},
}

// Every setting can be a variable: each scalar of a file is replaced by one, as
// ${VAR} and as ${VAR:-default}, and the configuration stays the same.
func TestEverySettingCanBeAVariable(t *testing.T) {
	dir := folderOf(t)
	withKinds(t)
	write(t, filepath.Join(dir, "otlp.headers"), "authorization: x\n")
	path := filepath.Join(dir, "x.yaml")
	read := func(kind, text string) any {
		if kind == "authz" {
			return mustAuthz(t, path, text)
		}
		return mustControl(t, path, text)
	}
	for kind, files := range everySetting {
		var shown []string
		for _, text := range files {
			want := read(kind, text)
			for _, f := range []struct{ name, form string }{{"as ${VAR}", "${RESCIND_TEST_%d}"}, {"as a default", "${RESCIND_TEST_UNSET_%d:-%s}"}} {
				varied := withVariables(t, text, f.form)
				if got := read(kind, varied); !reflect.DeepEqual(got, want) {
					t.Errorf("%s, %s:\n%s\ngot  %+v\nwant %+v", kind, f.name, varied, got, want)
				}
			}
			for _, m := range regexp.MustCompile(`(?m)^[ -]*([a-z_0-9]+):`).FindAllStringSubmatch(text, -1) {
				shown = append(shown, m[1])
			}
		}
		for _, key := range knownKeys(t, kind, path) {
			if !slices.Contains(shown, key) {
				t.Errorf("%s: the test has no value for the key %s, want one for each key", kind, key)
			}
		}
	}
}

// withVariables replaces every scalar value of text by a variable in this form,
// and sets the variables. A scalar in quotes stays in quotes.
func withVariables(t *testing.T, text, form string) string {
	t.Helper()
	tree, err := parser.ParseBytes([]byte(text), 0)
	if err != nil {
		t.Fatal(err)
	}
	lines, n := strings.Split(text, "\n"), 0
	replace := func(at *token.Token) {
		n++
		t.Setenv(fmt.Sprintf("RESCIND_TEST_%d", n), at.Value)
		variable := fmt.Sprintf(form, n, at.Value)
		if !strings.Contains(form, "%s") {
			variable = fmt.Sprintf(form, n)
		}
		old := at.Value
		if at.Type == token.DoubleQuoteType {
			old, variable = `"`+old+`"`, `"`+variable+`"`
		}
		line := &lines[at.Position.Line-1]
		before, after := (*line)[:at.Position.Column-1], (*line)[at.Position.Column-1:]
		rest, ok := strings.CutPrefix(after, old)
		if !ok {
			t.Fatalf("line %d: got %q at column %d, want %q there", at.Position.Line, *line, at.Position.Column, old)
		}
		*line = before + variable + rest
	}
	var walk func(ast.Node)
	walk = func(node ast.Node) {
		switch node := node.(type) {
		case *ast.MappingNode:
			for _, pair := range node.Values {
				walk(pair.Value)
			}
		case *ast.SequenceNode:
			for _, element := range node.Values {
				walk(element)
			}
		default:
			replace(node.GetToken())
		}
	}
	walk(tree.Docs[0].Body)
	if n < 10 {
		t.Fatalf("got %d scalars replaced, want at least 10", n)
	}
	return strings.Join(lines, "\n")
}
