package config

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rescind/authz"
	"rescind/authz/watch"
	"rescind/jwks"
	"rescind/jwks/jwt"
)

// Both files as CONTRACT sections 2 and 3 show them, all keys and no others.
const (
	contractAuthz = `
grpc:
  listen: 127.0.0.1:9191            # or unix:///path/authz.sock
  tls:  {cert_file: , key_file: , client_ca_file: }
  max_message: 16777216
  max_receiving: 268435456
http:
  listen: 127.0.0.1:9192            # /healthz /readyz /metrics
issuers:                            # at least one
  - issuer: https://idp.example.com/     # compared with iss, byte for byte
    jwks_uri: https://idp.example.com/jwks   # exactly one of jwks_uri | discovery: true | jwks_file: path
    jwks_token_file: replica.token
    audiences: [api]                # at least one must match; required, or any_audience: true
    algorithms: [RS256, ES256]
    token_types: [at+jwt, JWT]
    key_uses: [sig]
    spiffe: false
    max_lifetime: 24h
    leeway: 30s
    iat_leeway: 2s
    max_token_size: 16384
    refresh_interval: 5m            # in the background, with jitter
    min_refresh_interval: 10s
    max_stale: 0s
    required_claims: [jti]          # optional
    claims: {typ: [Bearer]}         # optional
    ca_file: cert.pem
revocation:
  control: [127.0.0.1:9391]         # one or more feed addresses, tried in turn
  token_file: replica.token         # the credential for the feed
  tls: {ca_file: , cert_file: , key_file: , server_name: }
  name: replica-a                   # default: host name and grpc port
  dir: /var/lib/rescind/authz       # last good snapshot and last good JWKS
  max_staleness: 0s                 # 0 = no limit
  on_stale: allow                   # allow | deny, once max_staleness has passed
policies:
  default: {}
  reports: {issuers: [https://idp.example.com/], audiences: [reports], scopes: [reports:read], claims: {tenant: [acme, globex]}, max_age: 15m}
  public:  {token: optional}        # no token is allowed; a bad one is still denied
  browser:
    tokens_from:
      - {header: authorization}
      - {header: cf-access-jwt-assertion}
      - {cookie: session}
      - {query: access_token}
      - {websocket_protocol: "bearer."}
    realm: orders
    resource_metadata: https://api.example.com/.well-known/oauth-protected-resource
headers:
  prefix: x-jwt-
  claims: {x-jwt-issuer: iss, x-jwt-subject: sub, x-jwt-id: jti, x-jwt-scope: scope, x-jwt-client: client_id, x-jwt-expires: exp}   # the default
  payload: ""
  authorization: forward            # forward | remove
token_cache: {max_bytes: 33554432}  # the default
log: {level: info, format: json}    # json | text
`
	contractControl = `
http:
  listen: 127.0.0.1:9390            # admin API, /openapi.json, /healthz /readyz /metrics
  tls: {cert_file: , key_file: , client_ca_file: }
feed:
  listen: 127.0.0.1:9391
  tls: {cert_file: , key_file: , client_ca_file: }
  tokens: [{name: replicas, sha256: ` + hashA + `, max_replicas: 1024}]
store:
  dir: /var/lib/rescind/control     # embedded, alone: the default
  cluster: {name: n1, listen: 10.0.0.1:6222, peers: [10.0.0.2:6222, 10.0.0.3:6222], secret_file: cluster.secret, tls: {cert_file: cert.pem, key_file: key.pem, ca_file: cert.pem}}   # embedded, 3 or 5 nodes
  retention: 720h                   # the longest a revocation may last
admin:
  tokens:
    - {name: alice, sha256: ` + hashB + `, roles: [operator]}
    - {name: hr-sync, sha256: fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9, roles: [revoker], issuers: [https://idp.example.com/]}
limits:
  share_of_traffic: 0.2             # the default
  min_requests: 1000
  shapes_per_issuer: 64
log: {level: info, format: json}
`
)

// equal compares all fields, and reports each that differs.
func equal(t *testing.T, got, want any) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range g.NumField() {
		if a, b := fmt.Sprintf("%+v", g.Field(i)), fmt.Sprintf("%+v", w.Field(i)); a != b {
			t.Errorf("%s:\n got %s\nwant %s", g.Type().Field(i).Name, a, b)
		}
	}
	t.Errorf("got %+v, want %+v", got, want)
}

var defaultHeaders = Headers{Prefix: "x-jwt-", Claims: map[string]authz.HeaderClaim{
	"x-jwt-issuer": carries("iss"), "x-jwt-subject": carries("sub"), "x-jwt-id": carries("jti"),
	"x-jwt-scope": carries("scope"), "x-jwt-client": carries("client_id"), "x-jwt-expires": carries("exp"),
}}

func carries(claims ...string) authz.HeaderClaim {
	return authz.HeaderClaim{Claims: members(claims...)}
}

func members(claims ...string) []jwt.ClaimName {
	names := make([]jwt.ClaimName, len(claims))
	for i, claim := range claims {
		names[i] = jwt.MemberName(claim)
	}
	return names
}

var defaultShares = Shares{Denied: 1, Allowed: 0.01, MaxPerSecond: 100}

var defaultDecisions = Decisions{Output: "stdout", MaxSizeMB: 100, MaxFiles: 5}

func TestContractAuthz(t *testing.T) {
	dir := folderOf(t)
	a := mustAuthz(t, filepath.Join(dir, "authz.yaml"), contractAuthz)
	a.files = nil
	grpc := tcp("127.0.0.1:9191")
	grpc.SocketMode = 0o660
	equal(t, *a, Authz{AtStart: AtStart{
		GRPC: grpc, HTTP: tcp("127.0.0.1:9192"), MaxMessage: 16777216, MaxReceiving: 268435456, LogFormat: "json", Decisions: defaultDecisions,
		Revocation: Revocation{Control: []string{"127.0.0.1:9391"}, TokenFile: filepath.Join(dir, "replica.token"), Name: "replica-a", Dir: "/var/lib/rescind/authz"},
	}, Reloadable: Reloadable{
		Issuers: []Issuer{{
			Issuer: "https://idp.example.com/", Keys: Keys{
				JWKSURI: "https://idp.example.com/jwks", JWKSTokenFile: filepath.Join(dir, "replica.token"),
				Algorithms: []string{"RS256", "ES256"}, KeyUses: []string{"sig"},
				RefreshInterval: 5 * time.Minute, MinRefreshInterval: 10 * time.Second, CAFile: filepath.Join(dir, "cert.pem"),
			},
			Audiences: []string{"api"}, TokenTypes: []string{"at+jwt", "JWT"},
			MaxLifetime: 24 * time.Hour, Leeway: 30 * time.Second, IatLeeway: 2 * time.Second, MaxTokenSize: 16384, RequiredClaims: members("jti"), Claims: map[jwt.ClaimName][]any{jwt.MemberName("typ"): {"Bearer"}},
		}},
		Policies: map[string]Policy{
			"default": {},
			"reports": {
				Issuers: []string{"https://idp.example.com/"}, Audiences: []string{"reports"}, Scopes: []string{"reports:read"},
				Claims: map[jwt.ClaimName][]any{jwt.MemberName("tenant"): {"acme", "globex"}}, MaxAge: 15 * time.Minute,
			},
			"public": {TokenOptional: true},
			"browser": {
				TokensFrom: []authz.Place{
					{Header: "authorization"}, {Header: "cf-access-jwt-assertion"}, {Cookie: "session"}, {Query: "access_token"}, {WebSocketProtocol: "bearer."},
				},
				Realm: "orders", ResourceMetadata: "https://api.example.com/.well-known/oauth-protected-resource",
			},
		},
		Headers: defaultHeaders, Shares: defaultShares, Alerts: watch.Defaults(), TokenCache: 33554432,
	}})
}

func TestContractControl(t *testing.T) {
	dir := folderOf(t)
	path := filepath.Join(dir, "control.yaml")
	c := mustControl(t, path, contractControl)
	sum := func(s string) [32]byte { return sha256.Sum256([]byte(s)) }
	want := Control{
		HTTP: tcp("127.0.0.1:9390"),
		Feed: Feed{tcp("127.0.0.1:9391"), []Credential{{Name: "replicas", SHA256: sum("test"), MaxReplicas: 1024}}},
		Store: Store{Dir: "/var/lib/rescind/control", Retention: 720 * time.Hour, Cluster: &Cluster{
			"n1", "10.0.0.1:6222", []string{"10.0.0.2:6222", "10.0.0.3:6222"}, filepath.Join(dir, "cluster.secret"),
			&ClusterTLS{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert.pem")},
		}},
		Admin: Admin{[]Credential{
			{Name: "alice", SHA256: sum("foo"), Roles: []string{"operator"}},
			{Name: "hr-sync", SHA256: sum("bar"), Roles: []string{"revoker"}, Issuers: []string{"https://idp.example.com/"}},
		}},
		Log:    Log{Format: "json"},
		Alerts: AlertDelivery{Window: time.Hour},
		Limits: Limits{ShareOfTraffic: 0.2, MinRequests: 1000, ShapesPerIssuer: 64},
	}
	equal(t, *c, want)
	text := strings.Replace(contractControl, "  dir: /var", "  #", 1)
	text = regexp.MustCompile(`(?m)^  cluster: .*`).ReplaceAllString(text, "  nats: {url: 'nats://127.0.0.1:4222,tls://b', credentials_file: }")
	want.Store = Store{NATS: &NATS{URL: "nats://127.0.0.1:4222,tls://b"}, Retention: 720 * time.Hour}
	c = mustControl(t, path, text)
	equal(t, *c, want)
}

func TestDefaults(t *testing.T) {
	dir := folderOf(t)
	path := filepath.Join(dir, "x.yaml")
	a := mustAuthz(t, path, baseIssuers+baseRevocation+"policies: {a: }\n")
	a.files = nil
	equal(t, *a, Authz{AtStart: AtStart{
		GRPC: tcp("127.0.0.1:9191"), HTTP: tcp("127.0.0.1:9192"), MaxMessage: 16777216, MaxReceiving: 268435456, LogFormat: "json", Decisions: defaultDecisions,
		Revocation: Revocation{Control: []string{"127.0.0.1:9391"}, TokenFile: filepath.Join(dir, "replica.token")},
	}, Reloadable: Reloadable{
		Issuers: []Issuer{{
			Issuer: "https://idp.example.com/", Keys: Keys{
				Discovery: true, Algorithms: jwks.DefaultAlgorithms, KeyUses: []string{"sig"}, RefreshInterval: 5 * time.Minute, MinRefreshInterval: 10 * time.Second,
			},
			Audiences: []string{"api"}, TokenTypes: []string{"at+jwt", "JWT", ""},
			MaxLifetime: 24 * time.Hour, Leeway: 30 * time.Second, IatLeeway: 2 * time.Second, MaxTokenSize: 16384,
		}},
		Policies: map[string]Policy{"default": {}, "a": {}},
		Headers:  defaultHeaders, Shares: defaultShares, LogLevel: slog.LevelInfo, Alerts: watch.Defaults(), TokenCache: 33554432,
	}})
	c := mustControl(t, path, whole("control", ""))
	equal(t, *c, Control{
		HTTP:  tcp("127.0.0.1:9390"),
		Feed:  Feed{tcp("127.0.0.1:9391"), []Credential{{Name: "replicas", SHA256: sha256.Sum256([]byte("test"))}}},
		Store: Store{Dir: filepath.Join(dir, "data"), Retention: 720 * time.Hour},
		Admin: Admin{[]Credential{{Name: "alice", SHA256: sha256.Sum256([]byte("foo")), Roles: []string{"operator"}}}},
		Log:   Log{slog.LevelInfo, "json"},

		Alerts: AlertDelivery{Window: time.Hour},
		Limits: Limits{ShareOfTraffic: 0.2, MinRequests: 1000, ShapesPerIssuer: 64},
	})
}

// Some values can be written in more than one way.
func TestAccepted(t *testing.T) {
	path := filepath.Join(folderOf(t), "x.yaml")
	issuer := func(text string) Issuer {
		t.Helper()
		return mustAuthz(t, path, "issuers: [{issuer: 'http://localhost:1/', "+text+"}]\n"+baseRevocation).Issuers[0]
	}
	for text, want := range map[string]time.Duration{"": 2 * time.Second, ", leeway: 1s": time.Second, ", leeway: 0s": 0, ", iat_leeway: 0s": 0, ", leeway: 1m, iat_leeway: 1m": time.Minute} {
		if got := issuer("discovery: true, any_audience: true" + text).IatLeeway; got != want {
			t.Errorf("iat_leeway of an issuer with %q is %v, want %v", text, got, want)
		}
	}
	claims := issuer(`discovery: true, any_audience: true, max_stale: 0, leeway: 0s, claims: {a: x, b: [1, 1.50, -1e3, true, '1'], c: [x:y], d: 99999999999999999999}`).Claims
	want := map[jwt.ClaimName][]any{
		jwt.MemberName("a"): {"x"}, jwt.MemberName("b"): {json.Number("1"), json.Number("1.50"), json.Number("-1e3"), true, "1"},
		jwt.MemberName("c"): {"x:y"}, jwt.MemberName("d"): {json.Number("99999999999999999999")},
	}
	if !reflect.DeepEqual(claims, want) {
		t.Errorf("claims %#v, want %#v", claims, want)
	}
	issuer("jwks_uri: 'http://[::1]:1/jwks', discovery: false, any_audience: false, audiences: [https://idp:8443/], algorithms: [Ed25519], token_types: ['']")
	issuer("jwks_uri: http://a/jwks, allow_http: true, any_audience: true, required_claims: []")
	issuer("jwks_file: jwks.json, audiences: ['1']")

	a := mustAuthz(t, path, "\xEF\xBB\xBF---\r\ngrpc: {listen: 'unix:///run/a.sock', socket_mode: 0600}\r\nhttp: {listen: '[::]:0'}\r\n"+
		"revocation: {control: [a.example.com:1], token_file: replica.token, plaintext: true, max_staleness: 1s, on_stale: deny}\r\n"+
		"headers: {prefix: X_, claims: {}, authorization: remove, trust_forwarded_client_cert: true}\r\nlog: {level: debug, format: text}\r\n"+baseIssuers)
	if g := a.GRPC; g.Network != "unix" || g.Address != "/run/a.sock" || g.SocketMode != 0o600 {
		t.Errorf("got grpc %+v, want the socket /run/a.sock of mode 0600", g)
	}
	if !reflect.DeepEqual(a.Headers, Headers{"X_", map[string]authz.HeaderClaim{}, "", true, true}) || a.LogLevel != slog.LevelDebug || a.LogFormat != "text" || !a.Staleness.DenyOverdue {
		t.Errorf("got headers %+v, level %v, format %s and staleness %+v, want prefix X_, no claims, remove, trusted client certificates, debug, text and deny", a.Headers, a.LogLevel, a.LogFormat, a.Staleness)
	}
	headers := mustAuthz(t, path, whole("authz", "headers: {payload: x-jwt-payload, claims: {a: sub, b: [client_id, azp, cid], c: {claim: groups, encoding: percent}, d: {claim: [name, sub], encoding: base64url}, e: {claim: sub}}}\n")).Headers
	if want := map[string]authz.HeaderClaim{
		"a": carries("sub"), "b": carries("client_id", "azp", "cid"), "c": {Claims: members("groups"), Encoding: authz.Percent},
		"d": {Claims: members("name", "sub"), Encoding: authz.Base64URL}, "e": carries("sub"),
	}; !reflect.DeepEqual(headers.Claims, want) || headers.Payload != "x-jwt-payload" {
		t.Errorf("headers: got %+v, want payload x-jwt-payload and the claims %+v", headers, want)
	}
	mustAuthz(t, path, baseIssuers+"revocation: {control: [a.example.com:1], token_file: replica.token, tls: {server_name: a.example.com}}\n")
	mustControl(t, path, whole("control", "http: {listen: ':0', plaintext: true}\nfeed: {listen: '[::1]:0', tokens: [{name: a, sha256: "+strings.Repeat("0", 64)+"}]}\n"))
}

// As envoy/envoytest writes them.
func TestConfigurationsOfTheStack(t *testing.T) {
	dir := folderOf(t)
	path := filepath.Join(dir, "x.yaml")
	mustControl(t, path, fmt.Sprintf(`http: {listen: %q}
feed:
  listen: %q
  tokens: [{name: replicas, sha256: %s}]
store: {dir: %q}
admin:
  tokens: [{name: operator, sha256: %s, roles: [operator]}]
`, "127.0.0.1:0", "127.0.0.1:0", hashA, filepath.Join(dir, "control"), hashB))
	mustAuthz(t, path, fmt.Sprintf(`grpc: {listen: %q}
http: {listen: %q}
issuers:
  - issuer: %q
    discovery: true
    audiences: [api]
    refresh_interval: 5m
    min_refresh_interval: 1s
revocation:
  control: [%q]
  token_file: %q
  name: replica-a
  dir: %q
policies:
  default: {}
  reports: {scopes: ["reports:read"]}
  public: {token: optional}
`, "127.0.0.1:0", "127.0.0.1:0", "http://127.0.0.1:4711", "127.0.0.1:9391", filepath.Join(dir, "replica.token"), filepath.Join(dir, "replica-a")))
}

// The examples load as they are, once the token file is there; and they show
// every key, which is asked for by one that does not exist.
func TestExamples(t *testing.T) {
	dir := folderOf(t)
	for _, kind := range []string{"authz", "control"} {
		example, err := os.ReadFile(filepath.Join("..", "..", "rescind", kind+".example.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, kind+".yaml")
		if f := faults(t, kind, path, string(example)); f != nil {
			t.Errorf("%s.example.yaml: got the faults\n%v\nwant none", kind, f)
		}
		shown := map[string]bool{}
		for _, key := range regexp.MustCompile(`(?m)^[ #-]*([a-z_0-9]+):|\{([a-z_0-9]+):`).FindAllStringSubmatch(string(example), -1) {
			shown[key[1]+key[2]] = true
		}
		for _, key := range knownKeys(t, kind, path) {
			if !shown[key] {
				t.Errorf("%s.example.yaml does not show %s, want every key shown", kind, key)
			}
		}
	}
}

// knownKeys returns the name of every key of a configuration. It asks for them
// with a key in each section that does not exist.
func knownKeys(t *testing.T, kind, path string) []string {
	t.Helper()
	const no = "'no such key, and nothing like it': 1"
	probe := map[string]string{
		"authz": "grpc: {tls: {NO}, NO}\nhttp: {NO}\nissuers: [{status_lists: {NO}, NO}]\nrevocation: {tls: {NO}, NO}\npolicies: {x: {NO}}\nheaders: {NO}\nlog: {decisions: {collector: {NO}, NO}, NO}\ntracing: {NO}\nalerts: {NO}\nNO\n",
		"control": "http: {tls: {NO}, NO}\nfeed: {tls: {NO}, tokens: [{NO}], NO}\nstore: {cluster: {tls: {NO}, NO}, nats: {NO}, NO}\n" +
			"admin: {tokens: [{NO}], NO}\nlog: {NO}\nalerts: {webhooks: [{NO}], alertmanagers: [{NO}], actions: [{NO}], NO}\nlimits: {NO}\nissuers: [{NO}]\nNO\n",
	}[kind]
	known := map[string]bool{}
	for _, f := range faults(t, kind, path, strings.ReplaceAll(probe, "NO", no)) {
		if _, list, ok := strings.Cut(f.Message, "the keys here are "); ok {
			for key := range strings.SplitSeq(list, ", ") {
				known[key] = true
			}
		}
	}
	if len(known) < 18 {
		t.Errorf("%s: the faults name the keys %v, want at least 18", kind, known)
	}
	return slices.Sorted(maps.Keys(known))
}

func TestEmptyFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.yaml")
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "null\n"} {
		for kind, want := range map[string][]string{
			"authz":   {"issuers", "revocation.control", "revocation.token_file"},
			"control": {"admin.tokens", "feed.tokens", "store.dir"},
		} {
			var got []string
			for _, f := range faults(t, kind, path, text) {
				got = append(got, f.Path)
				if f.Line != 1 || f.Column != 1 || !strings.HasPrefix(f.Message, "is missing: ") {
					t.Errorf("an empty file %q: %v, want faults that something is missing, at 1:1", text, f)
				}
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("%s %q: %v, want %v", kind, text, got, want)
			}
		}
	}
}

// A secret that went into the wrong place must not go into the log as well.
func TestSecretsAreNotRepeated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.yaml")
	const secret = "hunter2hunter2"
	for _, text := range []string{
		"feed: {tokens: [{name: a, sha256: " + secret + "}]}\n",
		"store: {nats: {url: 'nats://user:" + secret + "@host:4222'}}\n",
		"store: {nats: {url: '" + secret + "'}}\n",
		"admin: {tokens: [{name: a, roles: [viewer], sha256: " + hex.EncodeToString([]byte(secret)) + "}]}\n",
		"admin: {tokens: [{name: a, roles: [viewer], sha256: " + hashA + ", issuers: ['https://u:" + secret + "@host/']}]}\n",
	} {
		got := faults(t, "control", path, whole("control", text)).Error()
		if strings.Contains(got, secret) || strings.Contains(got, hex.EncodeToString([]byte(secret))) || got == "" {
			t.Errorf("%s: got the faults\n%s\nwant faults that do not show the secret", text, got)
		}
	}
}
