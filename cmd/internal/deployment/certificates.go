package deployment

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// The lifetimes of certificates. The authority outlives them, and is issued anew
// with its key at each renewal.
const (
	authorityLifetime = 10 * 365 * 24 * time.Hour
	leafLifetime      = 365 * 24 * time.Hour
	backdated         = time.Hour // for clocks that are behind
)

const (
	authorityCert = "ca.crt"
	authorityKey  = "ca.key"
)

// parts have a certificate each: NAME.crt and NAME.key.
var parts = []string{"control", "authz", "envoy", "operator"}

// newCertificates returns a new authority, and a certificate for each part.
func newCertificates(now time.Time) ([]file, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	text, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	certificates, err := issue(key, now)
	return append([]file{{authorityKey, 0o600, text}}, certificates...), err
}

// Renew replaces the certificates of a deployment with new ones, for one year. The
// authority keeps its key, so a part with an older certificate is still trusted
// while the others are renewed.
func Renew(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, authorityKey))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist: name the folder that init wrote, and put the authority's key back into it if it was moved", filepath.Join(dir, authorityKey))
	}
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return fmt.Errorf("%s holds no key in PEM form", filepath.Join(dir, authorityKey))
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return fmt.Errorf("%s is not the key that init wrote", filepath.Join(dir, authorityKey))
	}
	files, err := issue(key, time.Now())
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := renameio.WriteFile(filepath.Join(dir, f.name), f.text, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// issue returns the authority's certificate under its key, and a new certificate
// with a new key for each part.
func issue(key *ecdsa.PrivateKey, now time.Time) ([]file, error) {
	text, err := newAuthority(key, now)
	if err != nil {
		return nil, err
	}
	authority, err := parseCertificate(text)
	if err != nil {
		return nil, err
	}
	files := []file{{authorityCert, 0o644, text}}
	for _, part := range parts {
		certificate, secret, err := newLeaf(part, []string{"localhost", "127.0.0.1", "::1"}, authority, key, now)
		if err != nil {
			return nil, err
		}
		files = append(files, file{part + ".key", 0o600, secret}, file{part + ".crt", 0o644, certificate})
	}
	return files, nil
}

// newAuthority returns a certificate of an authority under its key, in PEM form.
func newAuthority(key *ecdsa.PrivateKey, now time.Time) ([]byte, error) {
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "rescind deployment"},
		IsCA:    true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage:  x509.KeyUsageCertSign,
		NotBefore: now.Add(-backdated), NotAfter: now.Add(authorityLifetime),
	}
	return sign(template, template, &key.PublicKey, key)
}

// newLeaf returns a certificate for hosts, which are names or addresses, and its key,
// both in PEM form. It is for servers and for clients.
func newLeaf(name string, hosts []string, authority *x509.Certificate, signing *ecdsa.PrivateKey, now time.Time) (cert, key []byte, err error) {
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: now.Add(-backdated), NotAfter: now.Add(leafLifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	if cert, err = sign(template, authority, &own.PublicKey, signing); err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(own)
	return cert, key, err
}

// parseCertificate returns the certificate in a PEM text that newAuthority or newLeaf
// wrote.
func parseCertificate(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("there is no certificate in PEM form")
	}
	return x509.ParseCertificate(block.Bytes)
}

// sign returns a certificate in PEM form.
func sign(c, authority *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	c.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, c, authority, public, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
