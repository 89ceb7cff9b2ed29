package deployment

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Part is a part of a deployment in Kubernetes that has a certificate.
type Part struct {
	Secret string   // the name of its Secret
	Hosts  []string // the names and addresses in its certificate
}

// The keys of a Secret of type kubernetes.io/tls, and of the authority beside them.
const (
	certKey    = "tls.crt"
	privateKey = "tls.key"
	caKey      = "ca.crt"
)

// Certify keeps the certificates of a deployment in Secrets: the authority's own in
// the Secret of that name, and one for each part. It makes the Secrets that do not
// exist. It renews a certificate that has less than a third of its life left, lacks a
// host or is of another authority, and leaves the others alone. It refuses a Secret
// that it did not make. report gets a line about each Secret.
func Certify(ctx context.Context, api *Kubernetes, authority string, parts []Part, now time.Time, report func(secret, state string)) error {
	signer, state, err := certifyAuthority(ctx, api, authority, now)
	if err != nil {
		return err
	}
	report(authority, state)
	for _, part := range parts {
		if state, err = signer.certify(ctx, api, part, now); err != nil {
			return err
		}
		report(part.Secret, state)
	}
	return nil
}

// signer is an authority with its key.
type signer struct {
	certificate *x509.Certificate
	text        []byte // of the certificate, PEM
	key         *ecdsa.PrivateKey
}

// certifyAuthority returns the authority in a Secret. The authority keeps its key for
// ever, so parts with an older certificate are still trusted.
func certifyAuthority(ctx context.Context, api *Kubernetes, name string, now time.Time) (*signer, string, error) {
	found, err := api.secret(ctx, name)
	if err != nil {
		return nil, "", err
	}
	s := &signer{}
	if found != nil {
		if s, err = readSigner(found); err != nil {
			return nil, "", fmt.Errorf("secret %s: %w. Put its backup back. If it is lost, delete this Secret and those of the parts, and restart all pods", name, err)
		}
		if !expires(s.certificate, now) {
			return s, inOrder(s.certificate), nil
		}
	} else if s.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, "", err
	}
	if s.text, err = newAuthority(s.key, now); err != nil {
		return nil, "", err
	}
	text, err := keyPEM(s.key)
	if err != nil {
		return nil, "", err
	}
	if err := api.put(ctx, name, found, map[string][]byte{certKey: s.text, privateKey: text, caKey: s.text}); err != nil {
		return nil, "", err
	}
	s.certificate, err = parseCertificate(s.text)
	return s, renewed(found, s.certificate), err
}

func readSigner(found *secret) (*signer, error) {
	pair, err := tls.X509KeyPair(found.Data[certKey], found.Data[privateKey])
	if err != nil {
		return nil, fmt.Errorf("it holds no authority (%w)", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("it holds no authority with an ECDSA key")
	}
	return &signer{pair.Leaf, found.Data[certKey], key}, nil
}

// certify makes or renews the certificate of a part, if it has to.
func (s *signer) certify(ctx context.Context, api *Kubernetes, part Part, now time.Time) (string, error) {
	found, err := api.secret(ctx, part.Secret)
	if err != nil {
		return "", err
	}
	if found != nil {
		if c := s.valid(found, part, now); c != nil {
			return inOrder(c), nil
		}
	}
	cert, key, err := newLeaf(part.Secret, part.Hosts, s.certificate, s.key, now)
	if err != nil {
		return "", err
	}
	if err := api.put(ctx, part.Secret, found, map[string][]byte{certKey: cert, privateKey: key, caKey: s.text}); err != nil {
		return "", err
	}
	c, err := parseCertificate(cert)
	return renewed(found, c), err
}

// valid returns the certificate in a Secret, or nil if the part needs another one.
func (s *signer) valid(found *secret, part Part, now time.Time) *x509.Certificate {
	pair, err := tls.X509KeyPair(found.Data[certKey], found.Data[privateKey])
	if err != nil || expires(pair.Leaf, now) || !bytes.Equal(found.Data[caKey], s.text) || pair.Leaf.CheckSignatureFrom(s.certificate) != nil {
		return nil
	}
	names := slices.Clone(pair.Leaf.DNSNames)
	for _, ip := range pair.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if slices.Sort(names); !slices.Equal(names, slices.Sorted(slices.Values(part.Hosts))) {
		return nil
	}
	return pair.Leaf
}

// expires reports whether a certificate has less than a third of its life left.
func expires(c *x509.Certificate, now time.Time) bool {
	return c.NotAfter.Sub(now) < c.NotAfter.Sub(c.NotBefore)/3
}

func inOrder(c *x509.Certificate) string { return "in order until " + c.NotAfter.Format(time.DateOnly) }

func renewed(before *secret, c *x509.Certificate) string {
	if before == nil {
		return "made, until " + c.NotAfter.Format(time.DateOnly)
	}
	return "renewed, until " + c.NotAfter.Format(time.DateOnly)
}
