package config

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"rescind/jwks/loopback"
)

// Cluster is this node among the others.
type Cluster struct {
	Name       string
	Listen     string
	Peers      []string
	SecretFile string      // see [ReadSecret]
	TLS        *ClusterTLS // nil: plaintext
}

// ClusterTLS names the files for the routes between nodes. Each node shows its
// certificate to the others and checks theirs, so all three are needed.
type ClusterTLS struct{ CertFile, KeyFile, CAFile string }

// NATS is a NATS server that the operator runs.
type NATS struct{ URL, CredentialsFile string }

func readCluster(v value, x **Cluster) {
	c := &Cluster{}
	plaintext := v.has("plaintext")
	if !v.object(keys{
		"name":        need(&c.Name, "this node's, different on each", text(isNodeName)),
		"listen":      need(&c.Listen, "where the other nodes find this one, such as 10.0.0.1:6222", text(isAddress)),
		"peers":       need(&c.Peers, "the addresses of the 2 or 4 other nodes", some(distinct(text(isAddress)))),
		"secret_file": need(&c.SecretFile, "a secret that is the same on all nodes", file(aClusterSecret)),
		"tls":         into(&c.TLS, clusterTLS),
		"plaintext":   into(&plaintext, flag),
	}) {
		return
	}
	if n := len(c.Peers); n > 0 && n != 2 && n != 4 {
		v.at("peers").fault("a cluster has 3 or 5 nodes, so 2 or 4 peers; these are %d (this node is not its own peer)", n)
	}
	for i, peer := range c.Peers {
		if peer != "" && peer == c.Listen {
			v.at("peers").elements()[i].fault("is this node itself; name the others alone")
		}
	}
	c.checkRoutes(v, plaintext)
	*x = c
}

// checkRoutes refuses routes over a network in plaintext. A reader of the
// network learns the cluster's secret, and with it can write the log.
func (c *Cluster) checkRoutes(v value, plaintext bool) {
	addresses := append([]string{c.Listen}, c.Peers...)
	far := slices.IndexFunc(addresses, func(s string) bool { return s != "" && !isLoopback(s) })
	switch {
	case plaintext && c.TLS != nil:
		v.at("plaintext").fault("contradicts tls; keep one of them")
	case far >= 0 && !plaintext && v.at("tls").blank():
		at := v.at("listen")
		if far > 0 {
			at = v.at("peers").elements()[far-1]
		}
		at.fault("%s is reached over the network, and the secret and the log would travel in the clear: add tls: {cert_file, key_file, ca_file}, or plaintext: true if something else encrypts", addresses[far])
	}
}

func clusterTLS(v value, x **ClusterTLS) {
	t := &ClusterTLS{}
	if v.blank() {
		return
	}
	if v.object(keys{
		"cert_file": need(&t.CertFile, "the certificate of this node, for both directions", file(certificates)),
		"key_file":  need(&t.KeyFile, "the key of cert_file", file(readable)),
		"ca_file":   need(&t.CAFile, "the authority that signed the certificates of all nodes", file(certificates)),
	}) {
		if v.has("cert_file") && v.has("key_file") {
			keyPair(v, t.CertFile, t.KeyFile)
		}
		*x = t
	}
}

// minClusterSecret is the length of the shortest secret of a cluster, in
// characters. The nodes are reached over a network, where it can be guessed.
const minClusterSecret = 16

func aClusterSecret(path string) error {
	secret, err := ReadSecret(path)
	if err == nil && len(secret) < minClusterSecret {
		err = fmt.Errorf("the secret in %s has %d characters; it needs at least %d, as from openssl rand -hex 32", path, len(secret), minClusterSecret)
	}
	return err
}

func readNATS(v value, x **NATS) {
	n := &NATS{}
	plaintext := v.has("plaintext")
	if !v.object(keys{
		"url":              need(&n.URL, "of the servers, such as tls://nats.example.com:4222", text(isNATS)),
		"credentials_file": into(&n.CredentialsFile, file(readable)),
		"plaintext":        into(&plaintext, flag),
	}) {
		return
	}
	if far := natsInTheClear(n.URL); far != "" && !plaintext {
		v.at("url").fault("%s is reached over the network, and the log would travel in the clear: write tls:// (or wss://), or add plaintext: true if something else encrypts", far)
	}
	*x = n
}

// natsInTheClear returns the first of the servers in list that is reached over
// a network without TLS, or "".
func natsInTheClear(list string) string {
	for one := range strings.SplitSeq(list, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err == nil && (u.Scheme == "nats" || u.Scheme == "ws") && !loopback.Is(u.Hostname()) {
			return u.String()
		}
	}
	return ""
}
