package config

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/goccy/go-yaml/ast"

	"rescind/authz"
	"rescind/authz/watch"
	"rescind/jwks/jwt"
	"rescind/revocation"
)

// Authz is the configuration of the data plane. A running replica that rereads
// its file puts Reloadable in force. A change of AtStart takes a restart.
type Authz struct {
	AtStart
	Reloadable

	files    []string
	warnings Faults
}

// AtStart holds the settings that a replica reads once, when it starts.
type AtStart struct {
	GRPC, HTTP Listener
	// MaxMessage is the largest CheckRequest in bytes. MaxReceiving bounds the
	// CheckRequests in reception together.
	MaxMessage, MaxReceiving int

	Revocation Revocation
	LogFormat  string // json or text
	Decisions  Decisions
	Tracing    *Tracing // nil: off
	Known      *Known   // nil: every request of Envoy asks
}

// Reloadable holds the settings that a reload changes.
type Reloadable struct {
	Issuers   []Issuer
	Policies  map[string]Policy // always holds one named default
	Headers   Headers
	Staleness Staleness
	// TokenCache is the size in bytes of all verified tokens that are remembered.
	// 0 remembers none.
	TokenCache int
	LogLevel   slog.Level
	Shares     Shares
	Alerts     watch.Settings

	// TraceRatio is the share of the requests without a trace of their own
	// that are recorded as spans. It has no effect where Tracing is nil.
	TraceRatio float64
}

// Files returns the configuration file and every file that it names. A change
// of one of them calls for a reload. A configuration from standard input has no
// file of its own.
func (a *Authz) Files() []string { return a.files }

// Warnings returns the likely mistakes in the configuration, none of which is a
// fault.
func (a *Authz) Warnings() Faults { return a.warnings }

// Revocation says which control endpoints a replica follows, and under which
// name.
type Revocation struct {
	Control   []string // host:port
	TokenFile string   // a secret, see [ReadSecret]
	TLS       *ClientTLS
	Name      string // empty: the host's name and the port of grpc, which is known when it is bound
	Dir       string // empty: nothing is kept for the next start
}

// Staleness bounds the age of the revocation set that a replica decides from.
type Staleness struct {
	Max         time.Duration // 0: no limit
	DenyOverdue bool          // deny once Max has passed
}

// Policy is the demands of a route beyond a valid token.
type Policy struct {
	Issuers       []string // empty: any that is configured
	Audiences     []string
	Scopes        []string
	Claims        map[jwt.ClaimName][]any // string, bool or json.Number
	MaxAge        time.Duration           // 0: no limit
	TokenOptional bool
	Observe       bool // unmet demands are counted and deny nothing

	TokensFrom       []authz.Place // empty: the Authorization header
	Realm            string
	ResourceMetadata string // a URL; empty: none
}

// Headers says which headers the upstream gets.
type Headers struct {
	Prefix                    string
	Claims                    map[string]authz.HeaderClaim // by the name of the header
	Payload                   string                       // name of the header with all claims; empty: none
	RemoveAuthorization       bool
	TrustForwardedCertificate bool
}

func readAuthz(v value, a *Authz) {
	*a = Authz{
		AtStart: AtStart{
			GRPC: tcp("127.0.0.1:9191"), HTTP: tcp("127.0.0.1:9192"), MaxMessage: 16 << 20, MaxReceiving: 256 << 20,
			Decisions: Decisions{Output: "stdout", MaxSizeMB: 100, MaxFiles: 5},
		},
		Reloadable: Reloadable{
			Policies: map[string]Policy{},
			Headers:  Headers{Prefix: authz.DefaultPrefix, Claims: maps.Clone(authz.DefaultHeaders)},
			Shares:   Shares{Denied: 1, Allowed: 0.01, MaxPerSecond: 100},
			Alerts:   watch.Defaults(),

			TokenCache: authz.DefaultCacheBytes,
		},
	}
	log := Log{Format: "json"}
	v.object(keys{
		"grpc":       into(a, readGRPC),
		"http":       into(&a.HTTP, func(v value, l *Listener) { v.object(keys{"listen": into(l, listen)}) }),
		"issuers":    need(&a.Issuers, "at least one, whose tokens are accepted", some(issuer())),
		"revocation": section(a, readRevocation),
		"policies":   into(&a.Policies, mapOf(notEmpty, policy(a))),
		"headers":    into(&a.Headers, readHeaders),
		"token_cache": into(&a.TokenCache, func(v value, bytes *int) {
			v.object(keys{"max_bytes": into(bytes, cacheSize)})
		}),
		"log":          into(&log, readLog(keys{"decisions": into(a, readDecisions)})),
		"tracing":      into(a, readTracing),
		"known_tokens": into(a, readKnown),
		"alerts":       into(&a.Alerts, readAlerts),
	})
	a.fitCache(v)
	a.LogFormat, a.LogLevel = log.Format, log.Level
	if _, there := a.Policies[authz.DefaultPolicy]; !there {
		a.Policies[authz.DefaultPolicy] = Policy{}
	}
	if a.GRPC.Network == "tcp" && collide(a.GRPC.Address, a.HTTP.Address) {
		second := "http"
		if !v.has(second) {
			second = "grpc"
		}
		v.at(second, "listen").fault("grpc and http cannot both listen at %s; choose another port", a.HTTP.Address)
	}
	a.findCollector(v)
	a.files, a.warnings = v.doc.named, v.doc.warnings
}

func readGRPC(v value, a *Authz) {
	l := &a.GRPC
	l.SocketMode = 0o660
	v.object(keys{
		"listen":        into(l, listenUnix),
		"tls":           into(&l.TLS, serverTLS),
		"socket_mode":   into(&l.SocketMode, parsed(fileMode)),
		"max_message":   into(&a.MaxMessage, count(64<<10, 1<<30)),
		"max_receiving": into(&a.MaxReceiving, count(64<<10, 1<<40)),
	})
	if a.MaxMessage > a.MaxReceiving {
		later := "max_receiving"
		if !v.has(later) {
			later = "max_message"
		}
		v.at(later).fault("max_receiving (%d) is less than max_message (%d), so the largest message could never be received; raise max_receiving", a.MaxReceiving, a.MaxMessage)
	}
	if v.has("socket_mode") && l.Network != "unix" {
		v.at("socket_mode").fault("is for a listener at unix:///path; remove it")
	}
}

func readRevocation(v value, a *Authz) {
	r, s := &a.Revocation, &a.Staleness
	plaintext := v.has("plaintext")
	ok := v.object(keys{
		"control":       need(&r.Control, "where the control endpoint's feed listens, such as [127.0.0.1:9391]", some(distinct(text(isAddress)))),
		"token_file":    need(&r.TokenFile, "the file with the token whose SHA-256 is in the control endpoint's feed.tokens", file(aSecret)),
		"tls":           into(&r.TLS, clientTLS),
		"plaintext":     into(&plaintext, flag),
		"name":          into(&r.Name, text(isName)),
		"dir":           into(&r.Dir, folder),
		"max_staleness": restrict(&s.Max, duration(0, 0)),
		"on_stale":      into(&s.DenyOverdue, choice(map[string]bool{"allow": false, "deny": true})),
	})
	if !ok {
		return
	}
	if s.DenyOverdue && s.Max == 0 {
		v.at("on_stale").fault("deny takes effect only after max_staleness, which is not set: nothing would ever be denied")
	}
	switch far := slices.IndexFunc(r.Control, func(s string) bool { return s != "" && !isLoopback(s) }); {
	case plaintext && r.TLS != nil:
		v.at("plaintext").fault("contradicts tls; keep one of them")
	case far >= 0 && !plaintext && v.at("tls").blank():
		v.at("control").fault("%s is reached over the network, and the token would travel in the clear: add tls (server_name alone trusts the system's authorities), or plaintext: true", r.Control[far])
	}
}

// cacheSize reads the size of the token cache.
func cacheSize(v value, bytes *int) {
	const least, most = 1 << 20, 1 << 40
	parsed(func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n != 0 && (n < least || n > most) {
			return 0, fmt.Errorf("%.40q must be 0, which remembers no token, or a whole number of bytes from %d to %d", s, least, most)
		}
		return n, nil
	})(v, bytes)
}

// policy reads one of the policies of a.
func policy(a *Authz) as[Policy] {
	configured := func(v value, x *string) {
		text(revocation.CheckIssuer)(v, x)
		v.doc.later = append(v.doc.later, func() {
			known := func(i Issuer) bool { return i.Issuer == *x }
			if *x != "" && !slices.ContainsFunc(a.Issuers, known) {
				v.fault("%s is not among the issuers; they are compared byte for byte", *x)
			}
		})
	}
	return func(v value, p *Policy) {
		v.object(keys{
			"issuers":           restrict(&p.Issuers, some(configured)),
			"audiences":         restrict(&p.Audiences, some(text())),
			"scopes":            restrict(&p.Scopes, listOf(text(isScope))),
			"claims":            restrict(&p.Claims, conditions),
			"max_age":           restrict(&p.MaxAge, duration(positive, 0)),
			"token":             into(&p.TokenOptional, choice(map[string]bool{"required": false, "optional": true})),
			"tokens_from":       restrict(&p.TokensFrom, places(a)),
			"realm":             into(&p.Realm, text(authz.CheckQuoted)),
			"resource_metadata": into(&p.ResourceMetadata, text(isURL, authz.CheckQuoted)),
			"mode":              into(&p.Observe, choice(map[string]bool{"enforce": false, "observe": true})),
		})
	}
}

func readHeaders(v value, h *Headers) {
	v.object(keys{
		"prefix":                      into(&h.Prefix, text(authz.CheckHeaderPrefix)),
		"claims":                      into(&h.Claims, mapOf(claimHeader(), headerClaim)),
		"payload":                     into(&h.Payload, mayBeEmpty(text(authz.CheckHeaderName))),
		"authorization":               into(&h.RemoveAuthorization, choice(map[string]bool{"forward": false, "remove": true})),
		"trust_forwarded_client_cert": into(&h.TrustForwardedCertificate, flag),
	})
	for claimed := range h.Claims {
		if h.Payload != "" && authz.LaxName(claimed) == authz.LaxName(h.Payload) {
			v.at("payload").fault("is the same header as %s of claims; remove one", claimed)
		}
	}
}

// headerClaim reads the claim of a header: its name, a list of names of which the
// first counts that the token has, or a mapping with an encoding beside them.
func headerClaim(v value, h *authz.HeaderClaim) {
	claims := func(v value, names *[]jwt.ClaimName) {
		if _, list := v.node.(*ast.SequenceNode); list {
			some(claimName)(v, names)
			return
		}
		var name jwt.ClaimName
		if claimName(v, &name); name != (jwt.ClaimName{}) {
			*names = []jwt.ClaimName{name}
		}
	}
	if _, mapping := v.node.(*ast.MappingNode); mapping {
		v.object(keys{
			"claim":    need(&h.Claims, "the claim that the header carries, or a list of claims", claims),
			"encoding": into(&h.Encoding, choice(authz.Encodings)),
		})
		return
	}
	claims(v, &h.Claims)
}
