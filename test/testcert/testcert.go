// Package testcert issues certificates for tests. An authority signs
// certificates for 127.0.0.1, ::1 and localhost that serve both ends of a
// connection, with keys on P-256. Nothing outlives the test but the files that
// the test asks for.
package testcert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"
)

// Lifetime is how long a certificate is valid after the moment of its issue. It
// is valid from 1970 on, because the clock of a testing/synctest bubble begins in
// 2000 and its authority may have been made outside of the bubble.
const Lifetime = 1000 * time.Hour

// Authority signs certificates. Its methods may be called concurrently.
type Authority struct {
	Certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	serials     atomic.Int64
}

// NewAuthority returns an authority whose own certificate has this common name.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{key: newKey(t)}
	a.Certificate = a.sign(t, a.key.Public(), &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// Issue returns a certificate of this common name with its leaf parsed.
func (a *Authority) Issue(t testing.TB, name string) tls.Certificate {
	t.Helper()
	key := newKey(t)
	leaf := a.Certify(t, name, key.Public())
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// IssueFor returns a certificate for one DNS name and these URIs, for example
// spiffe://cluster.local/ns/shop/sa/edge, and for no address.
func (a *Authority) IssueFor(t testing.TB, dnsName string, uris ...string) tls.Certificate {
	t.Helper()
	key := newKey(t)
	identities := make([]*url.URL, len(uris))
	for i, uri := range uris {
		var err error
		if identities[i], err = url.Parse(uri); err != nil {
			t.Fatalf("the URI %q: got %v, want it parsed", uri, err)
		}
	}
	leaf := a.sign(t, key.Public(), &x509.Certificate{
		Subject:     pkix.Name{CommonName: dnsName},
		DNSNames:    []string{dnsName},
		URIs:        identities,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// Certify returns a certificate of this common name for somebody else's key.
func (a *Authority) Certify(t testing.TB, name string, key crypto.PublicKey) *x509.Certificate {
	t.Helper()
	return a.sign(t, key, &x509.Certificate{
		Subject:     pkix.Name{CommonName: name},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// IssueFiles writes a new certificate of this common name and its key as PEM. A
// file without a name is not written.
func (a *Authority) IssueFiles(t testing.TB, name, certFile, keyFile string) tls.Certificate {
	t.Helper()
	issued := a.Issue(t, name)
	cert, key := PEM(t, issued)
	if certFile != "" {
		Replace(t, certFile, cert)
	}
	if keyFile != "" {
		Replace(t, keyFile, key)
	}
	return issued
}

// Pool returns a pool that trusts this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.Certificate)
	return pool
}

// PEM returns the authority's own certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate.Raw})
}

// PEM returns the certificate and its private key, the key as PKCS #8.
func PEM(t testing.TB, c tls.Certificate) (cert, key []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatalf("the private key: got %v, want it encoded", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Replace writes a file by a rename, as a careful writer does: a reader sees the
// old text or the new text, never a part.
func Replace(t testing.TB, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("a new key: got %v, want nil", err)
	}
	return key
}

func (a *Authority) sign(t testing.TB, key crypto.PublicKey, template *x509.Certificate) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(a.serials.Add(1))
	template.NotBefore, template.NotAfter = time.Unix(0, 0), time.Now().Add(Lifetime)
	parent := a.Certificate
	if parent == nil { // the authority signs its own certificate
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, a.key)
	if err != nil {
		t.Fatalf("signing the certificate of %q: got %v, want nil", template.Subject.CommonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parsing the certificate of %q: got %v, want nil", template.Subject.CommonName, err)
	}
	return cert
}
