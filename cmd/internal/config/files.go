package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// limit bounds the size of a configuration, and of each file that it names.
const limit = 1 << 20

// contents reads a file. Its error tells an operator the remedy.
func contents(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer func() { _ = f.Close() }()
	return bounded(path, f)
}

// bounded reads all of r, at most limit bytes. The name stands for r in the error.
func bounded(name string, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return nil, unreadable(name, err)
	case len(b) > limit:
		return nil, fmt.Errorf("%s is larger than 1 MiB; is it the right file?", name)
	}
	return b, nil
}

func unreadable(path string, err error) error {
	advice := "check the path"
	if errors.Is(err, fs.ErrPermission) {
		advice = "give this user permission to read it"
	}
	var e *fs.PathError
	if errors.As(err, &e) {
		err = e.Err
	}
	return fmt.Errorf("%s cannot be read (%w); %s", path, err, advice)
}

// ReadSecret reads a file that holds one secret, with or without a line end.
func ReadSecret(path string) (string, error) {
	b, err := contents(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	switch {
	case secret == "":
		return "", fmt.Errorf("%s is empty; put the secret in it", path)
	case strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", fmt.Errorf("%s must hold the secret alone, one line of visible ASCII without spaces", path)
	}
	return secret, nil
}

// SecretFrom returns a function that reads the secret in a file anew at each
// call, so that a replaced secret takes effect without a restart.
func SecretFrom(path string) func() (string, error) {
	return func() (string, error) { return ReadSecret(path) }
}

// file reads the path of a file and checks the file with look.
func file(look func(path string) error) as[string] {
	return func(v value, x *string) {
		var name string
		if text()(v, &name); name == "" {
			return
		}
		path := v.doc.resolve(name)
		v.doc.watch(path)
		if err := look(path); err != nil {
			v.fault("%v", err)
			return
		}
		*x = path
	}
}

// folder reads the path of a folder. A missing folder is made at its first use.
func folder(v value, x *string) {
	var name string
	if text()(v, &name); name == "" {
		return
	}
	path := v.doc.resolve(name)
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		v.fault("%s is a file; name a folder", path)
		return
	}
	*x = path
}

func readable(path string) error {
	_, err := contents(path)
	return err
}

func aSecret(path string) error {
	_, err := ReadSecret(path)
	return err
}

func aJSON(path string) error {
	b, err := contents(path)
	if err == nil && !json.Valid(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))) { // a byte order mark is no fault
		err = fmt.Errorf("%s is not JSON; it must hold a key set (RFC 7517)", path)
	}
	return err
}

// certificates accepts a PEM file with one or more certificates, each of which
// can be parsed.
func certificates(path string) error {
	text, err := contents(path)
	if err != nil {
		return err
	}
	n := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue // a key beside its certificate
		}
		n++
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d in %s is damaged: %w", n, path, err)
		}
	}
	if n == 0 {
		return fmt.Errorf("%s has no certificate; it must be PEM (-----BEGIN CERTIFICATE-----)", path)
	}
	return nil
}

// keyPair reports a certificate without its key, and a key of another
// certificate.
func keyPair(v value, certFile, keyFile string) {
	switch cert, key := v.has("cert_file"), v.has("key_file"); {
	case cert != key:
		v.fault("needs cert_file and key_file together; one of them is missing")
	case certFile != "" && keyFile != "":
		if _, err := tls.LoadX509KeyPair(certFile, keyFile); err != nil {
			v.at("key_file").fault("%s is not the key of %s (%v)", keyFile, certFile, err)
		}
	}
}
