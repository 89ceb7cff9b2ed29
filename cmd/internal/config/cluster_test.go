package config

import (
	"path/filepath"
	"testing"
)

func TestClusterFaults(t *testing.T) { testFaults(t, "control", clusterFaults) }

// cluster returns the section store of a node among three, with these keys
// beside its name and its secret.
func cluster(keys string) string {
	return "store: {dir: d, cluster: {name: n1, secret_file: cluster.secret, " + keys + "}}\n"
}

const inTheClearFault = " is reached over the network, and the secret and the log would travel in the clear: add tls: {cert_file, key_file, ca_file}, or plaintext: true if something else encrypts"

var clusterFaults = []faulty{
	// Routes off loopback without TLS.
	{cluster("listen: §10.0.0.1:6222, peers: [10.0.0.2:6222, 10.0.0.3:6222]"), []string{"store.cluster.listen: 10.0.0.1:6222" + inTheClearFault}},
	{cluster("listen: 127.0.0.1:1, peers: [127.0.0.1:2, §n3.example.com:3]"), []string{"store.cluster.peers[1]: n3.example.com:3" + inTheClearFault}},
	{cluster("listen: §10.0.0.1:1, peers: [a:1, b:1], plaintext: false, tls: {cert_file: , key_file: , ca_file: }"), []string{"store.cluster.listen: 10.0.0.1:1" + inTheClearFault}},
	{cluster("listen: 10.0.0.1:1, peers: [a:1, b:1], plaintext: §yes"), []string{`store.cluster.plaintext: "yes" is not true or false`}},
	{cluster("listen: 10.0.0.1:1, peers: [a:1, b:1], plaintext: §true, tls: {cert_file: cert.pem, key_file: key.pem, ca_file: cert.pem}"), []string{
		"store.cluster.plaintext: contradicts tls; keep one of them",
	}},
	// TLS that is not mutual.
	{cluster("listen: 10.0.0.1:1, peers: [a:1, b:1], tls: §{cert_file: cert.pem, key_file: key.pem}"), []string{
		"store.cluster.tls.ca_file: is missing: the authority that signed the certificates of all nodes",
	}},
	{cluster("listen: 10.0.0.1:1, peers: [a:1, b:1], tls: §§{ca_file: cert.pem}"), []string{
		"store.cluster.tls.cert_file: is missing: the certificate of this node, for both directions",
		"store.cluster.tls.key_file: is missing: the key of cert_file",
	}},
	{cluster("listen: 10.0.0.1:1, peers: [a:1, b:1], tls: {cert_file: cert.pem, key_file: §other.pem, ca_file: §key.pem}"), []string{
		"store.cluster.tls.key_file: DIR/other.pem is not the key of DIR/cert.pem (tls: private key does not match public key)",
		"store.cluster.tls.ca_file: DIR/key.pem has no certificate; it must be PEM (-----BEGIN CERTIFICATE-----)",
	}},
	// A secret that can be guessed.
	{"store: {dir: d, cluster: {name: n1, secret_file: §short.secret, listen: '127.0.0.1:1', peers: ['127.0.0.1:2', '127.0.0.1:3']}}\n", []string{
		"store.cluster.secret_file: the secret in DIR/short.secret has 15 characters; it needs at least 16, as from openssl rand -hex 32",
	}},
	// A NATS elsewhere without TLS.
	{"store: {nats: {url: §'nats://nats.example.com:4222'}}\n", []string{
		"store.nats.url: nats://nats.example.com:4222 is reached over the network, and the log would travel in the clear: write tls:// (or wss://), or add plaintext: true if something else encrypts",
	}},
	{"store: {nats: {url: §'tls://a:1, ws://b:1'}}\n", []string{
		"store.nats.url: ws://b:1 is reached over the network, and the log would travel in the clear: write tls:// (or wss://), or add plaintext: true if something else encrypts",
	}},
}

func TestClusterInOrder(t *testing.T) {
	dir := folderOf(t)
	for _, text := range []string{
		cluster("listen: '127.0.0.1:1', peers: ['LOCALHOST:2', '[::1]:3']"),
		cluster("listen: '10.0.0.1:1', peers: ['a:2', 'b:3'], plaintext: true"),
		cluster("listen: '10.0.0.1:1', peers: ['a:2', 'b:3'], tls: {cert_file: cert.pem, key_file: key.pem, ca_file: cert.pem}"),
		"store: {nats: {url: 'nats://LOCALHOST:4222,ws://[::1]:1,tls://a:1,wss://b:1'}}\n",
		"store: {nats: {url: 'nats://a:1', plaintext: true}}\n",
	} {
		mustControl(t, filepath.Join(dir, "x.yaml"), whole("control", text))
	}
}
