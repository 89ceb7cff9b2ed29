package config

import (
	"crypto/sha256"
	"time"

	"rescind/revocation"
)

// Control is the configuration of the control endpoint.
type Control struct {
	HTTP  Listener // the admin API
	Feed  Feed
	Store Store
	Admin Admin
	Log   Log

	Alerts  AlertDelivery
	Limits  Limits
	Issuers []Upstream

	IntakeHTTP *Listener // nil: no intake is pushed to
	Intakes    []Intake
}

// Feed is the listener for replicas, and their tokens.
type Feed struct {
	Listener
	Tokens []Credential // no roles and no issuers
}

// Admin holds the tokens of the admin API.
type Admin struct{ Tokens []Credential }

// Credential is a bearer token, known by its hash.
type Credential struct {
	Name    string
	SHA256  [sha256.Size]byte
	Roles   []string // viewer, revoker, operator
	Issuers []string // nil: every issuer
	// MaxReplicas bounds the replicas of a feed token: those connected, and
	// those lost less than a minute ago. 0: the default of 1024.
	MaxReplicas int
}

// Store says where the durable log is.
type Store struct {
	Dir       string // empty with NATS
	Cluster   *Cluster
	NATS      *NATS
	Retention time.Duration
}

func readControl(v value, c *Control) {
	*c = Control{
		HTTP:  tcp("127.0.0.1:9390"),
		Feed:  Feed{Listener: tcp("127.0.0.1:9391")},
		Store: Store{Retention: 720 * time.Hour},
		Log:   Log{Format: "json"},

		Alerts: AlertDelivery{Window: time.Hour},
		Limits: Limits{ShareOfTraffic: 0.2, MinRequests: 1000, ShapesPerIssuer: 64},
	}
	hash := distinct(parsed(digest)) // for the whole file: no token is for both the feed and the API
	v.object(keys{
		"http":    into(&c.HTTP, readAdminListener),
		"feed":    section(&c.Feed, readFeed(hash)),
		"store":   section(&c.Store, readStore),
		"admin":   section(&c.Admin, readAdmin(hash)),
		"log":     into(&c.Log, readLog(keys{})),
		"alerts":  into(&c.Alerts, readAlertDelivery),
		"limits":  into(&c.Limits, readLimits),
		"issuers": into(&c.Issuers, readUpstreams),

		"intake":      into(&c.Intakes, readIntakes),
		"intake_http": into(&c.IntakeHTTP, readIntakeListener),
	})
	c.checkIntakes(v)
	if collide(c.HTTP.Address, c.Feed.Address) {
		v.at("feed", "listen").fault("%s is where http listens already; choose another port", c.Feed.Address)
	}
	if k := c.Store.Cluster; k != nil && (collide(k.Listen, c.HTTP.Address) || collide(k.Listen, c.Feed.Address)) {
		v.at("store", "cluster", "listen").fault("%s is where http or feed listens already; choose another port", k.Listen)
	}
}

func readAdminListener(v value, l *Listener) {
	plaintext := v.has("plaintext")
	if v.object(keys{
		"listen":    into(l, listen),
		"tls":       into(&l.TLS, serverTLS),
		"plaintext": into(&plaintext, flag),
	}) {
		l.guard(v, plaintext)
	}
}

func readFeed(hash as[[sha256.Size]byte]) as[Feed] {
	return func(v value, f *Feed) {
		plaintext := v.has("plaintext")
		if v.object(keys{
			"listen":    into(&f.Listener, listen),
			"tls":       into(&f.TLS, serverTLS),
			"plaintext": into(&plaintext, flag),
			"tokens":    need(&f.Tokens, "at least one, for the replicas: {name: replicas, sha256: …}", some(credential(false, hash))),
		}) {
			f.guard(v, plaintext)
		}
	}
}

func readAdmin(hash as[[sha256.Size]byte]) as[Admin] {
	return func(v value, a *Admin) {
		v.object(keys{
			"tokens": need(&a.Tokens, "at least one, for you: {name: alice, sha256: …, roles: [operator]}", some(credential(true, hash))),
		})
	}
}

// credential reads one of a list of tokens, whose names must differ. Those of
// the admin API have roles. Its hash must differ from every hash that the
// reader hash has read before.
func credential(admin bool, hash as[[sha256.Size]byte]) as[Credential] {
	name := distinct(text(isName, isNoInnerName))
	role := choice(map[string]string{"viewer": "viewer", "revoker": "revoker", "operator": "operator"})
	return func(v value, c *Credential) {
		known := keys{
			"name":   need(&c.Name, "it stands in the audit and in logs", name),
			"sha256": need(&c.SHA256, "64 hex digits, as from printf %s TOKEN | sha256sum", hash),
		}
		if admin {
			known["roles"] = need(&c.Roles, "viewer, revoker or operator", some(role))
			known["issuers"] = restrict(&c.Issuers, some(text(revocation.CheckIssuer)))
		} else {
			known["max_replicas"] = into(&c.MaxReplicas, count(1, 100_000))
		}
		v.object(known)
	}
}

func readStore(v value, s *Store) {
	ok := v.object(keys{
		"dir":       into(&s.Dir, folder),
		"cluster":   into(&s.Cluster, readCluster),
		"nats":      into(&s.NATS, readNATS),
		"retention": into(&s.Retention, duration(positive, 0)),
	})
	switch {
	case !ok:
	case !v.has("nats") && !v.has("dir"):
		v.at("dir").fault("is missing: the folder of the durable log, such as /var/lib/rescind/control")
	case s.NATS != nil && v.has("dir"):
		v.at("dir").fault("has no use beside nats: the log is there; keep one of them")
	case s.NATS != nil && s.Cluster != nil:
		v.at("cluster").fault("has no use beside nats: the log is there; keep one of them")
	}
}
