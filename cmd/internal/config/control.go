package config

import (
	"crypto/sha256"
	"time"
)

// Control is the configuration of the control endpoint.
type Control struct {
	HTTP  Listener // the admin API
	Feed  Feed
	Store Store
	Admin Admin
	Log   Log

	Alerts         Handling
	ShareOfTraffic float64 // that a revocation may hit without being confirmed; 0: any
	Issuers        []Upstream

	files []string
}

// Files are the configuration and every file that it names. When one changes,
// the configuration is to be read again.
func (c *Control) Files() []string { return c.files }

// Feed is where replicas come, and the tokens with which they may.
type Feed struct {
	Listener
	Tokens []Credential // no roles and no issuers
}

// Admin says who may use the admin API.
type Admin struct{ Tokens []Credential }

// Credential is a bearer token that is known by its hash.
type Credential struct {
	Name    string
	SHA256  [sha256.Size]byte
	Roles   []string // viewer, revoker, operator
	Issuers []string // nil: every issuer
}

// Store is where the durable log is.
type Store struct {
	Dir       string // empty with NATS
	Cluster   *Cluster
	NATS      *NATS
	Retention time.Duration
}

// Cluster is this node among the others.
type Cluster struct {
	Name       string
	Listen     string
	Peers      []string
	SecretFile string // see [ReadSecret]
}

// NATS is a server that the operator runs.
type NATS struct{ URL, CredentialsFile string }

func readControl(v value, c *Control) {
	*c = Control{
		HTTP:  tcp("127.0.0.1:9390"),
		Feed:  Feed{Listener: tcp("127.0.0.1:9391")},
		Store: Store{Retention: 720 * time.Hour},
		Log:   Log{Format: "json"},

		Alerts: Handling{Window: time.Hour},
	}
	v.object(keys{
		"http":    into(&c.HTTP, readAdminListener),
		"feed":    section(&c.Feed, readFeed),
		"store":   section(&c.Store, readStore),
		"admin":   section(&c.Admin, readAdmin),
		"log":     into(&c.Log, readLog(keys{})),
		"alerts":  into(&c.Alerts, readHandling),
		"limits":  into(&c.ShareOfTraffic, readLimits),
		"issuers": into(&c.Issuers, readUpstreams),
	})
	if collide(c.HTTP.Address, c.Feed.Address) {
		v.at("feed", "listen").fault("%s is where http listens already; choose another port", c.Feed.Address)
	}
	if k := c.Store.Cluster; k != nil && (collide(k.Listen, c.HTTP.Address) || collide(k.Listen, c.Feed.Address)) {
		v.at("store", "cluster", "listen").fault("%s is where http or feed listens already; choose another port", k.Listen)
	}
	c.files = v.doc.named
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

func readFeed(v value, f *Feed) {
	plaintext := v.has("plaintext")
	if v.object(keys{
		"listen":    into(&f.Listener, listen),
		"tls":       into(&f.TLS, serverTLS),
		"plaintext": into(&plaintext, flag),
		"tokens":    need(&f.Tokens, "at least one, for the replicas: {name: replicas, sha256: …}", some(credential(false))),
	}) {
		f.guard(v, plaintext)
	}
}

func readAdmin(v value, a *Admin) {
	v.object(keys{
		"tokens": need(&a.Tokens, "at least one, for you: {name: alice, sha256: …, roles: [operator]}", some(credential(true))),
	})
}

// credential reads one of a list of tokens, which must differ. Those of the
// admin API have roles.
func credential(admin bool) as[Credential] {
	name, hash := distinct(text(isName)), distinct(parsed(digest))
	role := choice(map[string]string{"viewer": "viewer", "revoker": "revoker", "operator": "operator"})
	return func(v value, c *Credential) {
		known := keys{
			"name":   need(&c.Name, "it stands in the audit and in logs", name),
			"sha256": need(&c.SHA256, "64 hex digits, as from printf %s TOKEN | sha256sum", hash),
		}
		if admin {
			known["roles"] = need(&c.Roles, "viewer, revoker or operator", some(role))
			known["issuers"] = into(&c.Issuers, some(text(isURL)))
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

func readCluster(v value, x **Cluster) {
	c := &Cluster{}
	v.object(keys{
		"name":        need(&c.Name, "this node's, different on each", text(isNodeName)),
		"listen":      need(&c.Listen, "where the other nodes find this one, such as 10.0.0.1:6222", text(isAddress)),
		"peers":       need(&c.Peers, "the addresses of the 2 or 4 other nodes", some(distinct(text(isAddress)))),
		"secret_file": need(&c.SecretFile, "a secret that is the same on all nodes", file(aSecret)),
	})
	if n := len(c.Peers); n > 0 && n != 2 && n != 4 {
		v.at("peers").fault("a cluster has 3 or 5 nodes, so 2 or 4 peers; these are %d (this node is not its own peer)", n)
	}
	for i, peer := range c.Peers {
		if peer != "" && peer == c.Listen {
			v.at("peers").elements()[i].fault("is this node itself; name the others alone")
		}
	}
	*x = c
}

func readNATS(v value, x **NATS) {
	n := &NATS{}
	v.object(keys{
		"url":              need(&n.URL, "of the servers, such as nats://nats.example.com:4222", text(isNATS)),
		"credentials_file": into(&n.CredentialsFile, file(readable)),
	})
	*x = n
}
