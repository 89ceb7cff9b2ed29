package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
)

// ServerTLS returns the configuration of a listener, for HTTP and gRPC alike. With
// clientCAFile it demands client certificates of these authorities. The files are
// reread when they change, for connections made from then on. While they are
// faulty their last good content stays in force.
func ServerTLS(certFile, keyFile, clientCAFile string, logger *slog.Logger) (*tls.Config, error) {
	if certFile == "" || keyFile == "" {
		return nil, errors.New("tls: cert_file and key_file are both needed")
	}
	files := newReread(logger, func() (*tls.Config, error) { return serverConfig(certFile, keyFile, clientCAFile) }, certFile, keyFile, clientCAFile)
	if _, err := files.current(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: protocols,
		// Each new configuration has new ticket keys, so that no session made
		// under the old authorities is resumed.
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return files.current() },
	}, nil
}

var protocols = []string{"h2", "http/1.1"}

func serverConfig(certFile, keyFile, clientCAFile string) (*tls.Config, error) {
	certificate, err := keyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protocols, Certificates: []tls.Certificate{certificate}}
	if clientCAFile != "" {
		c.ClientAuth = tls.RequireAndVerifyClientCert
		if c.ClientCAs, err = authorities(clientCAFile); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// ClientTLS returns a function that returns the configuration of a client. The
// client calls it for each connection. Without caFile the client trusts the
// authorities of the system. Without serverName the certificate must be for the
// host of the connection. The last good content of a file stays in force while the
// file is faulty. A file that never was good is an error each time.
func ClientTLS(caFile, certFile, keyFile, serverName string, logger *slog.Logger) func() (*tls.Config, error) {
	return newReread(logger, func() (*tls.Config, error) {
		c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: serverName}
		var err error
		if caFile != "" {
			if c.RootCAs, err = authorities(caFile); err != nil {
				return nil, err
			}
		}
		if certFile != "" || keyFile != "" {
			certificate, err := keyPair(certFile, keyFile)
			if err != nil {
				return nil, err
			}
			c.Certificates = []tls.Certificate{certificate}
		}
		return c, nil
	}, caFile, certFile, keyFile).current
}

// MutualTLS returns the configuration of connections between equals, for either
// end. As a server it demands a certificate of the authorities in caFile, and as
// a client it shows its own and checks the server's against them.
//
// The certificate and its key are reread when they change, for both ends. New
// authorities are reread for the server's end alone: crypto/tls asks a client
// for them only once, so a client needs a restart to trust another authority.
func MutualTLS(certFile, keyFile, caFile string, logger *slog.Logger) (*tls.Config, error) {
	if caFile == "" {
		return nil, errors.New("tls: ca_file is needed to check the other end")
	}
	c, err := ServerTLS(certFile, keyFile, caFile, logger)
	if err != nil {
		return nil, err
	}
	current := c.GetConfigForClient
	first, err := current(nil)
	if err != nil {
		return nil, err
	}
	c.NextProtos = nil
	c.RootCAs = first.ClientCAs
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		now, err := current(nil)
		if err != nil {
			return nil, err
		}
		return &now.Certificates[0], nil
	}
	return c, nil
}

func keyPair(certFile, keyFile string) (tls.Certificate, error) {
	if certFile == "" || keyFile == "" {
		return tls.Certificate{}, errors.New("tls: a certificate and its key come together, or not at all")
	}
	c, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return c, fmt.Errorf("certificate %s with key %s: %w", certFile, keyFile, err)
	}
	return c, nil
}

func authorities(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", file)
	}
	return pool, nil
}
